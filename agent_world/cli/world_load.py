"""agent-world world load."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.output import json_option, show
from agent_world.node.saving import put_back, restore
from agent_world.wire import record


@click.command("load")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--into", type=click.Path(path_type=Path, file_okay=False),
              help="Home of a stopped node that gets the parts of the state it lacks or has damaged.")  # fmt: skip
@json_option
def command(directory: Path, into: Path | None, as_json: bool) -> None:
    """Restore the world that was saved in DIRECTORY, check it as a whole, and show what it is.

    Its content of DistFS counts unless that is damaged or older than the JSON beside it; how it went is noted in
    distfs.recovery.audit.json. The block hash is what to compare with a head that is known to be good, such as that
    of `world light`. Exits with 65 if nothing can be restored.

    \b
    Example:
      agent-world world load backup
      agent-world world load backup --into swarm/observer-1
    """
    restored = restore(directory)
    shown = {
        **record.unstructure(restored.world.head),
        "state_parts": len(restored.world.blobs),
        "status": restored.status,
        "reason": restored.reason,
        "audited": restored.audited,
    }
    if into is not None:
        shown["parts_put_back"] = put_back(restored, into)
    show(shown, as_json=as_json)

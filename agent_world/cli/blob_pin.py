"""agent-world blob pin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.duration import DURATION
from agent_world.cli.genesis_file import read_text
from agent_world.cli.output import json_option, show, show_rows
from agent_world.errors import UsageError
from agent_world.store.durable import replace_file

_COLUMNS: Final = ("name", "cid", "recursive", "expires_ms", "is_here")


@click.command("pin")
@click.argument("name", required=False)
@click.argument("cid", required=False)
@click.option("--direct", is_flag=True, help="Keep this blob alone, and not what it links to.")
@click.option("--expires", type=DURATION, help="Keep it only so long, such as 7d.")
@click.option("--timeout", type=DURATION, default="30s", show_default=True, help="Longest wait for what is not here.")
@click.option("--list", "wants_list", is_flag=True, help="Show the pins.")
@click.option("--export", "export_to", type=click.Path(path_type=Path, dir_okay=False), help="Write them as pins.json.")
@click.option("--import", "import_from", type=click.Path(path_type=Path, dir_okay=False), help="Set those of a file.")
@home_option
@json_option
def command(name: str | None, cid: str | None, home: Path, as_json: bool, **options: Any) -> None:
    """Keep the content of CID, with all that it links to, under NAME; or list, export and import the pins.

    What is not here is fetched first. A pin of the same name is replaced.

    \b
    Example:
      agent-world blob pin backup bafyr4i... --expires 30d --home swarm/storage-1
      agent-world blob pin --list --home swarm/storage-1
      agent-world blob pin --export pins.json --home swarm/storage-1
    """
    export_to, import_from = options["export_to"], options["import_from"]
    verbs = [name is not None, options["wants_list"], export_to is not None, import_from is not None]
    if sum(verbs) != 1 or (name is None) != (cid is None):
        raise UsageError("give NAME and CID, or one of --list, --export and --import")
    with NodeClient(home) as node:
        if name is not None:
            asked = {
                "name": name,
                "cid": cid,
                "recursive": not options["direct"],
                "expires_in_ms": options["expires"],
                "timeout_ms": options["timeout"],
            }
            show(node.post_json("/pins", asked), as_json=as_json)
        elif import_from is not None:
            show(node.post_json("/pins/import", _pins(import_from)), as_json=as_json)
        else:
            found = node.get("/pins")
            if export_to is None:
                show_rows(found["pins"], _COLUMNS, as_json=as_json)
                return
            _write(export_to, found)
            show({"pins": len(found["pins"]), "file": str(export_to)}, as_json=as_json)


def _pins(path: Path) -> Any:
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: not a pins.json")
    return found


def _write(path: Path, found: Any) -> None:
    try:
        replace_file(path, (json.dumps(found, indent=1) + "\n").encode())
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error}") from None

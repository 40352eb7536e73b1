"""agent-world provide find."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show, show_rows

_COLUMNS: Final = (
    "provider_id", "score", "storage_available_bytes", "challenge_pass_ratio_per_mille", "p50_read_latency_ms",
)  # fmt: skip


@click.command("find")
@click.argument("cid")
@click.option("--check", is_flag=True, help="Fetch the blob from one of them, and from nobody else, and compare its hash.")  # fmt: skip  # noqa: E501
@home_option
@json_option
def command(cid: str, check: bool, home: Path, as_json: bool) -> None:
    """Show whom the DHT names as providers of CID, the best first by what the node knows of them."""
    with NodeClient(home) as node:
        found = node.get(f"/provide/{cid}", check="1" if check else None)
    if as_json:
        show(found, as_json=True)
        return
    show_rows(found["providers"], _COLUMNS, as_json=False)
    if check:
        click.echo(f"a provider gave {found['checked_bytes']} bytes that hash to it")

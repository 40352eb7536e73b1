"""agent-world node triad."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from agent_world.cli.node_options import apply_options, set_up_logging
from agent_world.cli.node_run import run_until_stopped
from agent_world.node.provision import SwarmSpec, make_swarm, triad_nodes
from agent_world.wire.ids import TimeMs, WorldId


@click.command("triad")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the three homes; made if it does not exist.",
)
@click.option("--world", "world_id", default="triad", show_default=True, help="Name of the world, if it is made.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="A setting of all three nodes.")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def command(directory: Path, world_id: str, verbose: bool, **options: Any) -> None:
    """Run sequencer, storage and observer in one process: three keys, three homes, real sockets between them."""
    from agent_world.node.runner import load_home, run_nodes

    names = [node.name for node in triad_nodes()]
    if not directory.exists() or not any(directory.iterdir()):
        now = TimeMs(time.time_ns() // 1_000_000)
        make_swarm(directory, SwarmSpec(world_id=WorldId(world_id), nodes=triad_nodes(), genesis_time_ms=now))
    loaded = [load_home(directory / name, lambda table: apply_options(table, options)) for name in names]
    set_up_logging(verbose=verbose, as_json=False)

    def ready(_nodes: object) -> None:
        click.echo(f"three nodes run; look at one with: agent-world node status --home {directory / names[0]}")

    run_until_stopped(run_nodes, loaded, ready)

"""agent-world testnet init."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from agent_world.cli.output import json_option, show
from agent_world.errors import DecodeError, UsageError
from agent_world.node.provision import NodeSpec, SwarmSpec, make_swarm, triad_nodes
from agent_world.node.settings import Topology
from agent_world.wire.hello import Role
from agent_world.wire.ids import TimeMs, WorldId, check_word


@click.command("init")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--validators", type=click.IntRange(1, 100), default=3, show_default=True, help="Sequencers with stake.")
@click.option("--storage", type=click.IntRange(0, 100), default=1, show_default=True, help="Storage nodes.")
@click.option("--observers", type=click.IntRange(0, 100), default=1, show_default=True, help="Observers.")
@click.option("--triad", is_flag=True, help="Instead: a sequencer, a storage node and an observer, all validators.")
@click.option("--world", "world_id", default="testnet", show_default=True, help="Name of the world.")
@click.option("--host", default="127.0.0.1", show_default=True, help="IP address the nodes listen on.")
@click.option(
    "--base-port", type=click.IntRange(0, 65_000), default=0, help="Port of the first node; free ones if not given."
)
@json_option
def command(directory: Path, **options: Any) -> None:
    """Make a swarm in DIRECTORY: genesis.toml, authority.key and a home for every node."""
    try:
        world_id = WorldId(check_word(options["world_id"]))
    except DecodeError as error:
        raise UsageError(f"--world: {error.detail}") from None
    spec = SwarmSpec(
        world_id=world_id,
        nodes=triad_nodes() if options["triad"] else _nodes(options),
        genesis_time_ms=TimeMs(time.time_ns() // 1_000_000),
        host=options["host"],
        base_port=options["base_port"],
        topology=Topology.TRIAD_DISTRIBUTED if options["triad"] else Topology.SINGLE,
    )
    made = make_swarm(directory, spec)
    if options["as_json"]:
        nodes = [
            {"name": n.name, "role": n.role.value, "home": str(n.home), "multiaddr": n.multiaddr} for n in made.nodes
        ]
        show(
            {
                "world_id": made.world_id,
                "genesis_hash": made.genesis_hash,
                "authority_key": str(made.authority_key),
                "nodes": nodes,
            },
            as_json=True,
        )
        return
    click.echo(f"world {made.world_id}, genesis {made.genesis_hash.hex()}")
    click.echo(f"authority key: {made.authority_key}")
    click.echo("start every node in a shell of its own:")
    for node in made.nodes:
        click.echo(f"  agent-world node run --home {node.home}")
    click.echo(f"bootstrap address: {made.nodes[0].multiaddr}")


def _nodes(options: dict[str, Any]) -> tuple[NodeSpec, ...]:
    wanted = (
        (Role.SEQUENCER, options["validators"], True),
        (Role.STORAGE, options["storage"], False),
        (Role.OBSERVER, options["observers"], False),
    )
    return tuple(
        NodeSpec(name=f"{role.value}-{number}", role=role, validator=validator)
        for role, count, validator in wanted
        for number in range(1, count + 1)
    )

"""agent-world keys show."""

from __future__ import annotations

from pathlib import Path

import click

from agent_world.cli.output import json_option, show
from agent_world.crypto.hashing import actor_id_of
from agent_world.crypto.keys import KeyPair
from agent_world.store import keyfile
from agent_world.wire.ids import peer_id_of


def describe(file: Path, key: KeyPair) -> dict[str, str]:
    """What may be shown of a key: its public names."""
    return {
        "file": str(file),
        "public_key": key.public_key.hex(),
        "actor_id": actor_id_of(key.public_key),
        "peer_id": peer_id_of(key.public_key),
    }


@click.command("show")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def command(file: Path, as_json: bool) -> None:
    """Show the public key in FILE, and the actor id and peer id that follow from it."""
    show(describe(file, keyfile.read(file)), as_json=as_json)

"""agent-world keys new."""

from __future__ import annotations

import os
from pathlib import Path

import click

from agent_world.cli.keys_show import describe
from agent_world.cli.output import json_option, show
from agent_world.crypto.keys import KeyPair
from agent_world.store import keyfile


@click.command("new")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def command(file: Path, as_json: bool) -> None:
    """Make a new Ed25519 key in FILE (mode 0600). An existing file is never overwritten."""
    key = KeyPair(os.urandom(32))
    keyfile.write(file, key)
    show(describe(file, key), as_json=as_json)

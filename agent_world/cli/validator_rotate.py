"""agent-world validator rotate."""

from __future__ import annotations

import os
from pathlib import Path

import click

from agent_world.cli.client import home_option
from agent_world.cli.output import json_option, show
from agent_world.crypto.keys import KeyPair
from agent_world.errors import UsageError
from agent_world.store import keyfile
from agent_world.store.home import HomeLayout


@click.command("rotate")
@home_option
@json_option
def command(home: Path, as_json: bool) -> None:
    """Make the key that is to follow this validator's, validator.next.key (mode 0600); never overwrites one.

    The node may run. It goes on with the old key, and takes the next one with a guard of its own at the height from
    which the validator set names it: file the change with validator propose --rotate-key.
    """
    files = HomeLayout(home)
    if not files.node_toml.is_file() or not files.validator_key.is_file():
        raise UsageError(f"{home} is not the home of a validator: validator.key is missing")
    old, new = keyfile.read(files.validator_key), KeyPair(os.urandom(32))
    keyfile.write(files.validator_next_key, new)
    show(
        {
            "file": str(files.validator_next_key),
            "public_key": old.public_key.hex(),
            "next_public_key": new.public_key.hex(),
            "propose": f"agent-world validator propose --home {home} --rotate-key ID:{new.public_key.hex()}:STAKE",
        },
        as_json=as_json,
    )

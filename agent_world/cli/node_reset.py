"""agent-world node reset."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agent_world.cli.client import home_option
from agent_world.cli.output import json_option, show
from agent_world.errors import UsageError
from agent_world.store.home import locked_home
from agent_world.store.reset import reset_home
from agent_world.world.genesis import genesis_hash, parse_genesis


@click.command("reset")
@home_option
@click.option("--keep-guard", is_flag=True, help="Keep guard.db and guard.log: what this validator has signed.")
@click.option("--yes-lose-guard", is_flag=True, help="Remove the guard too: only for a key that never votes again.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def command(home: Path, keep_guard: bool, yes_lose_guard: bool, yes: bool, as_json: bool) -> None:
    """Remove chain, state, blobs and peers of a home; keys, genesis and settings stay, and the node syncs again.

    In a home with a validator key say what shall become of the vote guard: without it the validator can sign what
    contradicts its earlier votes. The node must be stopped.

    \b
    Example:
      agent-world node reset --home swarm/observer-1
      agent-world node reset --home swarm/sequencer-1 --keep-guard --yes
    """
    if keep_guard and yes_lose_guard:
        raise click.UsageError("--keep-guard and --yes-lose-guard exclude each other")
    with locked_home(home) as files:
        genesis = parse_genesis(files.genesis_toml.read_text(encoding="utf-8"), str(files.genesis_toml))
        guard_files = [path for path in (files.guard_db, files.guard_log) if path.exists()]
        has_guard = files.validator_key.exists() or bool(guard_files)
        if has_guard and not keep_guard and not yes_lose_guard:
            raise UsageError(
                f"{home} is a validator's: add --keep-guard to keep what it has signed, or --yes-lose-guard if its key"
                " will never vote in this world again; nothing was changed"
            )
        if has_guard and keep_guard and not guard_files:
            # At height 0 a node makes a new guard without a word: here it would replace one that was lost.
            raise UsageError(
                f"{home} has a validator key and no vote guard to keep: restore guard.db or guard.log, or add"
                " --yes-lose-guard if the key will never vote in this world again; nothing was changed"
            )
        _confirm(home, yes=yes, as_json=as_json)
        # The guard stays unless its loss was asked for by name.
        done = reset_home(files, genesis_hash(genesis), keep_guard=not yes_lose_guard)
    guard = "none" if not has_guard else "lost" if yes_lose_guard else "kept"
    shown = {"home": str(home), "removed_files": done.files, "removed_bytes": done.size_bytes, "guard": guard}
    show(shown, as_json=as_json)


def _confirm(home: Path, *, yes: bool, as_json: bool) -> None:
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        raise UsageError("nobody can be asked here: add --yes; nothing was changed")
    click.confirm(f"Remove the chain, state, blobs and peers of {home}?", abort=True)

"""The home of a validator whose node does not run, for commands that read or change its vote guard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from agent_world.consensus.guard_interchange import GuardIdentity
from agent_world.crypto.keys import KeyPair
from agent_world.errors import HomeError, UsageError
from agent_world.store.chain import committed_height_of
from agent_world.store.guard import GuardStore
from agent_world.store.home import Home, HomeLayout
from agent_world.world.genesis import genesis_hash, parse_genesis

F = TypeVar("F", bound=Callable[..., Any])


def stopped_home_option(function: F) -> F:
    """``--home`` of a command that needs no running node, and refuses one."""
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="AGENT_WORLD_HOME",
        required=True,
        help="Home directory of the stopped node (or AGENT_WORLD_HOME).",
    )(function)


@attrs.frozen(slots=True)
class StoppedValidator:
    """An open home and whose guard it should have."""

    home: Home
    key: KeyPair
    identity: GuardIdentity

    @property
    def height(self) -> int:
        """Committed height of the home's chain."""
        return committed_height_of(self.home.database)

    @property
    def has_guard(self) -> bool:
        """Whether any file of a guard is there."""
        return self.home.files.guard_db.exists() or self.home.files.guard_log.exists()

    def guard(self, **options: Any) -> GuardStore:
        """Open the guard; options and errors as of ``GuardStore.open``."""
        return GuardStore.open(self.home, self.key, **{"committed_height": self.height, **options})


@contextmanager
def stopped_validator(path: Path) -> Iterator[StoppedValidator]:
    """Hold the home's lock; raises HomeError while a node runs there, UsageError if it is no validator's."""
    genesis_file = HomeLayout(path).genesis_toml
    try:
        genesis = parse_genesis(genesis_file.read_text(encoding="utf-8"), str(genesis_file))
    except (OSError, UnicodeDecodeError) as error:
        raise HomeError(f"{path} is not a node's home: {genesis_file.name} cannot be read ({error})") from None
    hashed = genesis_hash(genesis)
    with Home.open(path, hashed) as home:
        key = home.validator_key()
        if key is None:
            raise UsageError(f"{path} has no validator.key: only a validator has a vote guard")
        identity = GuardIdentity(world_id=genesis.world_id, genesis_hash=hashed, validator_key=key.public_key)
        yield StoppedValidator(home, key, identity)

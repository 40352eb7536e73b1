"""Text files that a command is given by name, the genesis first of all."""

from __future__ import annotations

from pathlib import Path

from agent_world.errors import UsageError
from agent_world.wire.genesis import Genesis
from agent_world.world.genesis import parse_genesis


def read_genesis(path: Path) -> Genesis:
    """The genesis that a TOML file describes; raises UsageError, GenesisError."""
    return parse_genesis(read_text(path), str(path))


def read_text(path: Path) -> str:
    """A file of UTF-8 text; raises UsageError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None

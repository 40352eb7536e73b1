from __future__ import annotations

from pathlib import Path

import pytest

from agent_world.crypto.hashing import hash32
from agent_world.errors import LocalError
from agent_world.store import schema
from agent_world.store.database import Database

GENESIS = hash32(b"genesis")


def test_kinds_are_told_apart() -> None:
    assert schema.WORLD.application_id.to_bytes(4, "big") == b"AWWD"
    assert schema.GUARD.application_id.to_bytes(4, "big") == b"AWGD"


def test_the_committed_height_cannot_fall_even_by_hand(tmp_path: Path) -> None:
    database = Database.create(tmp_path / "world.db", schema.WORLD, GENESIS)
    with database.transaction():
        database.execute("INSERT INTO chain_head VALUES (1, 1, 7, x'00')")
    for statement in ("UPDATE chain_head SET height = 6", "UPDATE chain_head SET height = 7", "DELETE FROM chain_head"):
        with pytest.raises(LocalError, match="never falls"), database.transaction():
            database.execute(statement)
    assert database.query("SELECT height FROM chain_head") == [(7,)]
    database.close()

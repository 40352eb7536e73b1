"""store/chain_rows.py: a damaged row of the chain is told from a sound one, whatever its columns hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent_world.crypto.hashing import hash32
from agent_world.errors import ChainError
from agent_world.store.chain import CommittedHeight
from agent_world.store.chain_rows import StoredBoundary, stored_block, stored_boundary
from agent_world.wire import record
from agent_world.wire.block import WorldBlock

HeightOf = Callable[..., CommittedHeight]
GENESIS = hash32(b"genesis")
SET = b"set"


@pytest.fixture
def row(height_of: HeightOf) -> tuple[Any, ...]:
    made = height_of(3, GENESIS)
    return (3, hash32(made.block), made.block, made.certificate, hash32(made.certificate))


@pytest.fixture
def boundary(height_of: HeightOf) -> tuple[Any, ...]:
    made = height_of(3, GENESIS)
    return (3, made.block, made.certificate, SET)


def test_a_sound_row_is_the_block(row: tuple[Any, ...]) -> None:
    stored = stored_block(row)
    assert (stored.height, stored.block_hash, stored.block, stored.certificate) == row[:4]
    assert stored.header == record.from_bytes(WorldBlock, row[2], size_max=len(row[2]))


@pytest.mark.parametrize(
    ("column", "value", "where"),
    [
        (0, 4, "height"),
        (0, "three", "height"),
        (1, bytes(32), "block"),
        (2, b"no block", "block"),
        (2, None, "block"),
        (3, b"another", "certificate"),
        (3, 7, "certificate"),
        (4, None, "certificate"),
    ],
)
def test_a_damaged_row_says_where(row: tuple[Any, ...], column: int, value: object, where: str) -> None:
    with pytest.raises(ChainError) as caught:
        stored_block((*row[:column], value, *row[column + 1 :]))
    assert where in str(caught.value)
    assert "restore the home from a copy" in str(caught.value)


def test_bytes_under_their_right_hash_that_are_no_block(row: tuple[Any, ...]) -> None:
    with pytest.raises(ChainError, match="block"):
        stored_block((3, hash32(b"no block"), b"no block", *row[3:]))


def test_a_boundary(boundary: tuple[Any, ...]) -> None:
    assert stored_boundary(boundary) == StoredBoundary(*boundary)


@pytest.mark.parametrize(("column", "value"), [(0, 4), (1, b"no block"), (3, b"another set")])
def test_a_damaged_boundary(boundary: tuple[Any, ...], column: int, value: object) -> None:
    with pytest.raises(ChainError, match="boundary"):
        stored_boundary((*boundary[:column], value, *boundary[column + 1 :]))

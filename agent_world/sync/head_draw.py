"""Which validators put the head of a height into the DHT: a few, so that the record is fresh and nobody is flooded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from agent_world.crypto.hashing import hash32
from agent_world.wire.ids import Hash32, PublicKey

DRAWN: Final = 3
"""Validators drawn for each height. Everybody looks every 10 s, at a height of its own: one of 20 turns has nobody."""


def drawn(genesis_hash: Hash32, height: int, keys: Iterable[PublicKey]) -> frozenset[PublicKey]:
    """The DRAWN keys of the lowest BLAKE3(genesis hash || height || key); the same on every node."""
    prefix = genesis_hash + height.to_bytes(8, "big")
    return frozenset(sorted(keys, key=lambda key: hash32(prefix + key))[:DRAWN])

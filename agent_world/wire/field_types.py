"""The types a field of a record may have, and the bound or rule of each; used by every reader of records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from agent_world.wire import ids
from agent_world.wire.cid import HASH_BYTES, ContentHash
from agent_world.wire.limits import I64_MAX, U64_MAX

INTEGERS: Final[dict[Any, tuple[int, int]]] = {
    int: (-(2**63), U64_MAX),
    ids.U16: (0, 2**16 - 1),
    ids.U32: (0, 2**32 - 1),
    ids.U64: (0, U64_MAX),
    ids.I64: (-(2**63), I64_MAX),
    ids.TimeMs: (0, I64_MAX),
}
"""Smallest and largest value, both allowed."""

OCTETS: Final[dict[Any, int | None]] = {
    bytes: None,
    ContentHash: HASH_BYTES,
    ids.Hash32: HASH_BYTES,
    ids.PublicKey: 32,
    ids.Signature: 64,
}
"""Exact length in bytes, None for any."""

TEXTS: Final[dict[Any, Callable[[str], str] | None]] = {
    str: None,
    ids.WorldId: ids.check_word,
    ids.ValidatorId: ids.check_word,
    ids.ActorId: ids.check_actor_id,
    ids.PeerId: ids.check_peer_id,
    ids.Name: ids.check_name,
    ids.Label: ids.check_label,
}
"""What the text must satisfy; raises DecodeError. None for any text."""

V1: Final = 1
"""Version of every record so far; the field ``v`` must be this."""

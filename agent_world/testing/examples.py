"""Fixed example values of every record of ``wire/``, made from the types of its fields.

Three variants: ``lowest`` and ``highest`` stand at the bounds of every field (empty lists and none, full width
integers and names), ``typical`` has values one might meet. Equal on every machine and in every run.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, Union, get_args, get_origin

from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.testing.record_catalogue import fields_of
from agent_world.wire import ids
from agent_world.wire.cid import HASH_BYTES, Cid, Codec, ContentHash
from agent_world.wire.limits import I64_MAX, NAME_CHARS_MAX, U64_MAX
from agent_world.wire.record import V1

VARIANTS: Final = ("lowest", "typical", "highest")

BOUNDS: Final[dict[Any, tuple[int, int]]] = {
    int: (-(2**63), U64_MAX),
    ids.U16: (0, 2**16 - 1),
    ids.U32: (0, 2**32 - 1),
    ids.U64: (0, U64_MAX),
    ids.I64: (-(2**63), I64_MAX),
    ids.TimeMs: (0, I64_MAX),
}
"""Least and greatest value of each integer type."""

LENGTHS: Final[dict[Any, int]] = {ContentHash: 32, ids.Hash32: 32, ids.PublicKey: 32, ids.Signature: 64}
"""Octets of each byte string of fixed length."""

_TYPICAL_TIME_MS: Final = 1_700_000_000_000
_LOWEST: Final[dict[Any, Any]] = {
    bool: False,
    bytes: b"",
    str: "",
    ids.WorldId: "a",
    ids.ValidatorId: "0",
    ids.ActorId: "a" * 32,
    ids.PeerId: ids.peer_id_of(ids.PublicKey(bytes(32))),
    ids.Name: "!",
    ids.Label: "_",
    Cid: Cid(Codec.RAW, ContentHash(bytes(HASH_BYTES))),
}
_HIGHEST: Final[dict[Any, Any]] = {
    bool: True,
    bytes: b"\xff" * 80,
    str: "\U0001f30d" * 20,
    ids.WorldId: "z" * NAME_CHARS_MAX,
    ids.ValidatorId: "0" + "._-" * 21,
    ids.ActorId: "7" * 32,
    ids.PeerId: ids.peer_id_of(ids.PublicKey(b"\xff" * 32)),
    ids.Name: "\U0001f30d" * NAME_CHARS_MAX,
    ids.Label: "a" + ".a" * 31,
    Cid: Cid(Codec.DAG_CBOR, ContentHash(b"\xff" * HASH_BYTES)),
}
_TYPICAL: Final[dict[Any, Callable[[str], Any]]] = {
    bool: lambda _seed: True,
    bytes: lambda seed: seed.encode(),
    str: lambda seed: seed,
    ids.TimeMs: lambda seed: _TYPICAL_TIME_MS + _number(seed),
    ids.PublicKey: lambda seed: key_of(seed).public_key,
    ids.Signature: lambda seed: key_of(seed).sign(seed.encode()),
    ids.WorldId: lambda _seed: "les-miserables",
    ids.ValidatorId: lambda seed: f"validator-{_number(seed) % 4}",
    ids.ActorId: lambda seed: ids.actor_id_text(hash32(seed.encode())[:20]),
    ids.PeerId: lambda seed: ids.peer_id_of(key_of(seed).public_key),
    ids.Name: lambda seed: f"Jean Valjean {_number(seed)}",
    ids.Label: lambda seed: seed.rsplit(".", 1)[-1],
    Cid: lambda seed: Cid(Codec.DAG_CBOR, ContentHash(hash32(seed.encode()))),
}


def key_of(seed: str) -> KeyPair:
    """The key pair of a name in examples; everybody can make it, so it must never hold anything of worth."""
    return KeyPair(hash32(f"agent-world example key {seed}".encode()))


def _number(seed: str) -> int:
    return int.from_bytes(hash32(seed.encode())[:2], "big")


def example(kind: Any, variant: str, seed: str = "") -> Any:
    """A value of a field type or a record; ``seed`` names its place, so that typical values differ."""
    if hasattr(kind, "__attrs_attrs__") and kind is not Cid:
        seed = seed or kind.__name__
        return kind(**{field.name: _field(field, variant, f"{seed}.{field.name}") for field in fields_of(kind)})
    if get_origin(kind) in (Union, types.UnionType):
        inner = next(part for part in get_args(kind) if part is not type(None))
        return None if variant == "lowest" else example(inner, variant, seed)
    if get_origin(kind) is tuple:
        count = 0 if variant == "lowest" else 2
        return tuple(example(get_args(kind)[0], variant, f"{seed}{i}") for i in range(count))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return list(kind)[-1 if variant == "highest" else 0]
    return _scalar(kind, variant, seed)


def _field(field: Any, variant: str, seed: str) -> Any:
    return V1 if field.name == "v" else example(field.type, variant, seed)


def _scalar(kind: Any, variant: str, seed: str) -> Any:
    if variant == "typical" and kind in _TYPICAL:
        return _TYPICAL[kind](seed)
    if kind in BOUNDS:
        low, high = BOUNDS[kind]
        return {"lowest": low, "highest": high, "typical": _number(seed)}[variant]
    if kind in LENGTHS:
        length = LENGTHS[kind]
        return {"lowest": bytes(length), "highest": b"\xff" * length, "typical": hash32(seed.encode())}[variant]
    return (_LOWEST if variant == "lowest" else _HIGHEST)[kind]

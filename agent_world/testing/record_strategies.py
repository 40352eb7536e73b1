"""Hypothesis strategies for every record of ``wire/``, built from the types of its fields.

A test that asks for ``records(WorldBlock)`` gets each field over its whole range: bounds of integers, every member of
an enum, none and some of an optional, empty and filled lists.
"""

from __future__ import annotations

import types
from enum import StrEnum
from typing import Any, Final, TypeVar, Union, cast, get_args, get_origin

from hypothesis import strategies as st

from agent_world.testing.record_catalogue import fields_of
from agent_world.wire import ids
from agent_world.wire.cid import HASH_BYTES, Cid, Codec, ContentHash
from agent_world.wire.limits import I64_MAX, U64_MAX
from agent_world.wire.record import V1

R = TypeVar("R")

LIST_ITEMS_MAX: Final = 4
"""Items in a generated list: enough for empty, one and order; larger ones only slow the search down."""


def digests() -> st.SearchStrategy[bytes]:
    """32 octets."""
    return st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES)


def cids() -> st.SearchStrategy[Cid]:
    """Links of both codecs."""
    return st.builds(Cid, st.sampled_from(Codec), digests().map(ContentHash))


def names() -> st.SearchStrategy[str]:
    """Names that the check accepts, with spaces and letters of many scripts inside."""
    # U+FFFC and U+FFFD stand for what could not be shown: symbols to Unicode, refused in names.
    visible = st.characters(codec="utf-8", categories=("L", "N", "P", "S"), exclude_characters="\ufffc\ufffd")
    return st.lists(st.text(visible, min_size=1, max_size=16), min_size=1, max_size=3).map(" ".join)


def integers(low: int, high: int) -> st.SearchStrategy[int]:
    """Integers of a range, its ends often."""
    return st.one_of(st.sampled_from((low, high)), st.integers(low, high))


_WORDS: Final = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)
_SCALARS: Final[dict[Any, st.SearchStrategy[Any]]] = {
    int: integers(-(2**63), U64_MAX),
    ids.U16: integers(0, 2**16 - 1),
    ids.U32: integers(0, 2**32 - 1),
    ids.U64: integers(0, U64_MAX),
    ids.I64: integers(-(2**63), I64_MAX),
    ids.TimeMs: integers(0, I64_MAX),
    bool: st.booleans(),
    bytes: st.binary(max_size=64),
    str: st.text(st.characters(codec="utf-8"), max_size=16),
    ContentHash: digests(),
    ids.Hash32: digests(),
    ids.PublicKey: digests(),
    ids.Signature: st.binary(min_size=64, max_size=64),
    Cid: cids(),
    ids.WorldId: _WORDS,
    ids.ValidatorId: _WORDS,
    ids.ActorId: st.binary(min_size=20, max_size=20).map(ids.actor_id_text),
    ids.PeerId: digests().map(lambda key: ids.peer_id_of(ids.PublicKey(key))),
    ids.Name: names(),
    ids.Label: st.from_regex(r"[a-z0-9_]{1,20}(\.[a-z0-9_]{1,20}){0,2}", fullmatch=True),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of one field type."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    if get_origin(kind) is tuple:
        return st.lists(values(get_args(kind)[0]), max_size=LIST_ITEMS_MAX).map(tuple)
    if get_origin(kind) in (Union, types.UnionType):
        return st.one_of(*(st.none() if part is type(None) else values(part) for part in get_args(kind)))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return st.sampled_from(kind)
    return records(cast(type, kind))


def records(kind: type[R]) -> st.SearchStrategy[R]:
    """Instances of a record class; its version is the one this code knows."""
    fields = {field.name: st.just(V1) if field.name == "v" else values(field.type) for field in fields_of(kind)}
    return st.builds(kind, **fields)

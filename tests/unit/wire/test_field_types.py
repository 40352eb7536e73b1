"""wire/field_types.py: the types that a field may have, with bounds that the wire can carry."""

from __future__ import annotations

import types
from enum import StrEnum
from typing import Any, Union, get_args, get_origin

import pytest

from agent_world.testing.record_catalogue import RECORDS, fields_of
from agent_world.wire import ids
from agent_world.wire.cid import Cid
from agent_world.wire.field_types import INTEGERS, OCTETS, TEXTS, V1


@pytest.mark.parametrize("kind", INTEGERS)
def test_bounds_are_within_the_integers_of_the_codec(kind: Any) -> None:
    low, high = INTEGERS[kind]
    assert -(2**63) <= low <= 0 < high <= 2**64 - 1


def test_bounds_are_those_of_the_names() -> None:
    assert INTEGERS[ids.U16] == (0, 65_535)
    assert INTEGERS[ids.U32] == (0, 4_294_967_295)
    assert INTEGERS[ids.U64] == (0, 2**64 - 1)
    assert INTEGERS[ids.I64] == (-(2**63), 2**63 - 1)
    assert INTEGERS[ids.TimeMs] == (0, 2**63 - 1)
    assert (OCTETS[ids.PublicKey], OCTETS[ids.Signature], OCTETS[ids.Hash32], OCTETS[bytes]) == (32, 64, 32, None)
    assert V1 == 1


def known(kind: Any) -> bool:
    if get_origin(kind) in (tuple, Union, types.UnionType):
        return all(known(part) for part in get_args(kind) if part is not Ellipsis and part is not type(None))
    if kind in (bool, Cid) or kind in INTEGERS or kind in OCTETS or kind in TEXTS:
        return True
    return isinstance(kind, type) and (issubclass(kind, StrEnum) or kind in RECORDS.values())


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_every_field_of_every_record_has_a_checked_type(name: str) -> None:
    """A type that is not known here would be taken as it comes."""
    assert [field.name for field in fields_of(RECORDS[name]) if not known(field.type)] == []


def test_text_types_have_the_rule_of_their_name() -> None:
    assert TEXTS[str] is None
    rules = {kind: rule for kind, rule in TEXTS.items() if kind is not str}
    assert all(callable(rule) for rule in rules.values())
    assert rules[ids.WorldId] is rules[ids.ValidatorId] is ids.check_word
    assert (rules[ids.ActorId], rules[ids.PeerId]) == (ids.check_actor_id, ids.check_peer_id)
    assert (rules[ids.Name], rules[ids.Label]) == (ids.check_name, ids.check_label)

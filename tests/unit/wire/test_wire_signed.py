"""wire/signed.py: the envelope of everything signed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent_world.errors import DecodeError
from agent_world.testing.examples import example
from agent_world.wire import cbor, record
from agent_world.wire.signed import Signed


@pytest.mark.parametrize("kind", [Signed])
def test_records(kind: type, check_record: Callable[[type], None]) -> None:
    check_record(kind)


def test_the_body_is_bytes_and_not_its_value() -> None:
    """So that what was signed is never encoded again (D1)."""
    value = record.unstructure(example(Signed, "typical"))
    with pytest.raises(DecodeError):
        record.structure({**value, "body": {}}, Signed)


def test_keys_are_in_canonical_order() -> None:
    data = record.to_bytes(example(Signed, "lowest"))
    assert list(cbor.decode(data, size_max=1000)) == ["v", "key", "sig", "body"]

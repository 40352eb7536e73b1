"""The little protobuf there is gives the bytes of the library's, and refuses what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.bitswap.pb.bitswap_pb2 import Message

from agent_world.errors import DecodeError
from agent_world.wire.protobuf import fields, number, octets, varint

U64 = st.integers(0, 2**64 - 1)


@given(st.lists(st.tuples(st.integers(1, 2**29 - 1), U64 | st.binary(max_size=300))))
def test_what_is_written_is_read_back(pairs: list[tuple[int, int | bytes]]) -> None:
    data = b"".join(number(f, value) if isinstance(value, int) else octets(f, value) for f, value in pairs)
    assert list(fields(data, "X1")) == pairs


@given(st.binary(max_size=50), st.integers(0, 2**31 - 1))
def test_the_bytes_are_those_of_the_library(block: bytes, priority: int) -> None:
    theirs = Message.Wantlist.Entry(block=block, priority=priority, cancel=True)
    ours = (octets(1, block) if block else b"") + (number(2, priority) if priority else b"") + number(3, 1)
    assert ours == theirs.SerializeToString()


def test_fields_of_fixed_width_are_passed_over() -> None:
    data = varint(1 << 3 | 1) + bytes(8) + varint(2 << 3 | 5) + bytes(4) + number(3, 7)
    assert list(fields(data, "X1")) == [(3, 7)]


@pytest.mark.parametrize(
    "data",
    [
        b"\x80",
        b"\x08",
        b"\x08" + b"\x80" * 10,
        b"\x08" + b"\xff" * 9 + b"\x02",  # 2^64 and more
        b"\x0a\x02x",
        b"\x09" + bytes(7),
        b"\x0b",
        b"\x00\x00",
        varint(2**29 << 3) + b"\x00",
    ],
)
def test_what_is_no_protobuf_breaks_the_rule_given(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        list(fields(data, "X9"))
    assert caught.value.rule == "X9"

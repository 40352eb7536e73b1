"""Wantlists as others write them, answers as others read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.bitswap.pb.bitswap_pb2 import Message

from agent_world.crypto.hashing import cid_of
from agent_world.errors import DecodeError
from agent_world.wire.bitswap import (
    Presence,
    Want,
    block_field,
    open_answer,
    open_message,
    presence_field,
    want_message,
)
from agent_world.wire.cid import Codec
from agent_world.wire.limits import BITSWAP_WANTS_MAX

CID = cid_of(b"content", Codec.RAW)
WANTS = st.builds(
    Want,
    cid=st.binary(min_size=1, max_size=168),
    cancel=st.booleans(),
    only_presence=st.booleans(),
    tell_absence=st.booleans(),
    priority=st.integers(-(2**31), 2**31 - 1),
)


def theirs(wants: list[Want], *, full: bool) -> bytes:
    message = Message()
    message.wantlist.full = full
    for want in wants:
        entry = message.wantlist.entries.add()
        entry.block, entry.priority, entry.cancel = want.cid, want.priority, want.cancel
        entry.wantType, entry.sendDontHave = int(want.only_presence), want.tell_absence  # type: ignore[assignment]
    encoded: bytes = message.SerializeToString()
    return encoded


@given(st.lists(WANTS, max_size=5), st.booleans())
def test_the_librarys_wantlists_are_read(wants: list[Want], full: bool) -> None:
    for data in (theirs(wants, full=full), want_message(wants, full=full)):
        found = open_message(data)
        assert (list(found.wants), found.full, found.blocks, found.dropped) == (wants, full, 0, 0)


def test_our_answers_are_what_the_library_reads() -> None:
    want = Want(CID.to_bytes())
    data = block_field(want.prefix, b"content") + presence_field(want.cid, Presence.DONT_HAVE)
    data += presence_field(want.cid, Presence.HAVE)
    message = Message.FromString(data)
    assert [(block.prefix, block.data) for block in message.payload] == [(CID.to_bytes()[:4], b"content")]
    assert [(told.cid, told.type) for told in message.blockPresences] == [(want.cid, 1), (want.cid, 0)]
    answer = open_answer(data)
    assert answer.blocks == ((want.prefix, b"content"),)
    assert answer.presences == ((want.cid, Presence.DONT_HAVE), (want.cid, Presence.HAVE))


@pytest.mark.parametrize("codec", [b"\x55", b"\x71", b"\x70", b"\xa9\x02"])
def test_content_is_known_by_its_hash_whatever_the_codec(codec: bytes) -> None:
    want = Want(b"\x01" + codec + b"\x1e\x20" + CID.digest)
    assert (want.digest, want.prefix) == (CID.digest, b"\x01" + codec + b"\x1e\x20")


@pytest.mark.parametrize(
    "name",
    [
        b"x",
        CID.digest,
        b"\x12\x20" + CID.digest,  # a CIDv0
        b"\x01\x55\x12\x20" + CID.digest,
        b"\x02\x55\x1e\x20" + CID.digest,
        b"\x01\x1e\x20" + CID.digest,  # no codec
        b"\x01\x55\x55\x1e\x20" + CID.digest,  # two
        b"\x01\x80\x1e\x20" + CID.digest,  # half a codec
        CID.to_bytes()[:-1],
        CID.to_bytes() + b"\x00",
    ],
)
def test_other_names_are_of_nothing_here(name: bytes) -> None:
    assert Want(name).digest is None


def test_of_too_many_wants_the_first_are_taken() -> None:
    found = open_message(want_message([Want(b"%d" % place) for place in range(BITSWAP_WANTS_MAX + 3)]))
    assert (len(found.wants), found.wants[-1].cid, found.dropped) == (BITSWAP_WANTS_MAX, b"1023", 3)


def test_blocks_that_come_unasked_are_counted() -> None:
    assert open_message(block_field(b"", b"x") * 2 + presence_field(b"x", Presence.HAVE)).blocks == 3


@pytest.mark.parametrize("data", [b"\x1a\x01", b"\x1a\x02\x08\x01", b"\x22\x02\x08\x01", b"\x22\x03\x12\x01x"])
def test_an_answer_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        open_answer(data)

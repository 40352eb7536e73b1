"""Archives: what is written is read back, whatever the parts; what is wrong is named, and where."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_world.crypto.hashing import cid_of
from agent_world.distfs.car import CarReader, blocks_of, car_header, car_section, varint
from agent_world.errors import UsageError
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.limits import BLOB_BYTES_MAX

LEAF = b"leaf"
LEAF_CID = cid_of(LEAF, Codec.RAW)
TOP = cbor.encode({"again": LEAF_CID, "leaf": LEAF_CID})
TOP_CID = cid_of(TOP)
STORED = {LEAF_CID: LEAF, TOP_CID: TOP}


def archive(*roots: Cid) -> bytes:
    sections = [car_section(cid, data) for cid, data in blocks_of(roots, STORED.get) if data is not None]
    return car_header(roots) + b"".join(sections)


def read(data: bytes, size: int = 7) -> tuple[tuple[Cid, ...], list[tuple[Cid, bytes]]]:
    reader = CarReader()
    found = [block for start in range(0, len(data), size) for block in reader.add(data[start : start + size])]
    reader.finish()
    return reader.roots, found


def test_the_bytes_are_those_of_the_specification() -> None:
    """Header and first section by hand: length, {"roots": [tag 42], "version": 1}, length, CID, block."""
    root = b"\xd8\x2a\x58\x25\x00" + LEAF_CID.to_bytes()
    header = b"\xa2\x65roots\x81" + root + b"\x67version\x01"
    assert archive(LEAF_CID) == bytes([len(header)]) + header + bytes([36 + 4]) + LEAF_CID.to_bytes() + LEAF
    assert [varint(number) for number in (0, 127, 128, 300)] == [b"\x00", b"\x7f", b"\x80\x01", b"\xac\x02"]


@pytest.mark.parametrize("size", [1, 3, 50, 10_000])
def test_what_is_written_is_read_back_each_block_once_parents_first(size: int) -> None:
    assert read(archive(TOP_CID, LEAF_CID), size) == ((TOP_CID, LEAF_CID), [(TOP_CID, TOP), (LEAF_CID, LEAF)])
    assert read(archive(), size) == ((), [])


def test_a_block_of_the_largest_size_and_one_above_it() -> None:
    largest = bytes(BLOB_BYTES_MAX)
    cid = cid_of(largest, Codec.RAW)
    assert read(car_header([cid]) + car_section(cid, largest), 100_000)[1] == [(cid, largest)]
    with pytest.raises(UsageError, match="CAR block 1: a length"):
        read(car_header([cid]) + car_section(cid, largest + b"x"), 100_000)


def test_what_is_not_here_is_found_missing_and_hides_what_is_below() -> None:
    assert list(blocks_of([TOP_CID], {TOP_CID: TOP}.get)) == [(TOP_CID, TOP), (LEAF_CID, None)]
    assert list(blocks_of([TOP_CID], {LEAF_CID: LEAF}.get)) == [(TOP_CID, None)]


WHOLE = archive(TOP_CID)
SHA = hashlib.sha256(LEAF).digest()
HEADER = car_header([LEAF_CID])


def section(name: bytes, data: bytes = LEAF) -> bytes:
    return varint(len(name) + len(data)) + name + data


@pytest.mark.parametrize(("data", "said"), [
    (b"", "CAR header: the archive ends in the middle"),
    (WHOLE[:-1], "CAR block 2: the archive ends in the middle"),
    (WHOLE[:20], "CAR header: the archive ends"),
    (WHOLE[:-1] + b"x", "CAR block 2: .*hash"),
    (b"\xff" * 20, "this is no CAR file"),
    (b"\x00" * 20, "a length of 0 bytes"),
    (varint(2**40), "a length of"),
    (varint(1) + b"\xff", "CAR header: "),
    (varint(1) + b"\x80", "roots and version"),
    (varint(len(cbor.encode({"roots": [], "version": 2}))) + cbor.encode({"roots": [], "version": 2}), "version 2"),
    (varint(len(cbor.encode({"roots": 5, "version": 1}))) + cbor.encode({"roots": 5, "version": 1}), "list of links"),
    (HEADER + section(b"\x12\x20" + SHA), "CIDv0"),
    (HEADER + section(b"\x01\x55\x12\x20" + SHA), "codec 0x55 and hash sha2-256"),
    (HEADER + section(b"\x01\x70\x12\x20" + SHA), "codec dag-pb and hash sha2-256"),
    (HEADER + section(b"\x01\x70\x1e\x20" + LEAF_CID.digest), "codec dag-pb and hash 0x1e"),
    (HEADER + section(b"\x07" * 40), "no CID where one belongs"),
    (HEADER + section(b"\x01", b""), "no CID"),
])  # fmt: skip
def test_what_is_wrong_is_named(data: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(data)


@given(st.binary(max_size=200) | st.builds(
    lambda place, value: WHOLE[:place] + bytes([value]) + WHOLE[place + 1 :],
    st.integers(0, len(WHOLE) - 1), st.integers(0, 255),
), st.integers(1, 64))  # fmt: skip
def test_any_bytes_give_verified_blocks_or_a_typed_error(data: bytes, size: int) -> None:
    try:
        _, blocks = read(data, size)
    except UsageError:
        return
    assert all(cid_of(block, cid.codec) == cid for cid, block in blocks)

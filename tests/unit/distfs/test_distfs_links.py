from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.crypto.hashing import cid_of
from agent_world.distfs.links import links_in, reachable
from agent_world.errors import DecodeError
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, Codec


class Shelf:
    """Blobs by link; what is read is noted."""

    def __init__(self) -> None:
        self.blobs: dict[Cid, bytes] = {}
        self.read: list[Cid] = []

    def put(self, value: object) -> Cid:
        data = cbor.encode(value)  # type: ignore[arg-type]
        cid = cid_of(data)
        self.blobs[cid] = data
        return cid

    def get(self, cid: Cid) -> bytes | None:
        self.read.append(cid)
        return self.blobs.get(cid)


RAW = cid_of(b"raw", Codec.RAW)


def test_links_anywhere_in_a_record() -> None:
    leaf = cid_of(b"leaf")
    data = cbor.encode({"a": [1, leaf, {"b": RAW}], "c": "text", "d": leaf.to_bytes()})
    assert sorted(links_in(cid_of(data), data), key=str) == sorted([leaf, RAW], key=str)


def test_a_raw_blob_is_never_parsed() -> None:
    data = cbor.encode([RAW])
    assert links_in(cid_of(data, Codec.RAW), data) == []
    assert links_in(RAW, b"\xff") == []


def test_what_is_not_dag_cbor_is_an_error_here() -> None:
    with pytest.raises(DecodeError):
        links_in(cid_of(b"\xff"), b"\xff")


def test_everything_below_is_met_once_depth_first() -> None:
    shelf = Shelf()
    leaf = shelf.put("leaf")
    left, right = shelf.put(["left", leaf]), shelf.put(["right", leaf])
    root = shelf.put([left, right])
    assert [cid for cid, _ in reachable([root, left], shelf.get)] == [root, left, leaf, right]
    assert shelf.read == [root, left, leaf, right]


def test_what_is_missing_is_reported_and_its_neighbours_are_met() -> None:
    shelf = Shelf()
    gone, leaf = cid_of(b"gone"), shelf.put("leaf")
    root = shelf.put([gone, leaf])
    assert dict(reachable([root], shelf.get)) == {root: shelf.blobs[root], gone: None, leaf: shelf.blobs[leaf]}


def test_skip_cuts_off_all_below() -> None:
    shelf = Shelf()
    leaf = shelf.put("leaf")
    left = shelf.put([leaf])
    root = shelf.put([left])
    assert [cid for cid, _ in reachable([root], shelf.get, skip={left}.__contains__)] == [root]


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xa1\x61a\x01\x00", b"\x82\x01"])
def test_bytes_that_are_no_dag_cbor_reach_nothing_and_stop_nothing(data: bytes) -> None:
    shelf = Shelf()
    odd, leaf = cid_of(data), shelf.put("leaf")
    shelf.blobs[odd] = data
    assert [cid for cid, _ in reachable([odd, leaf], shelf.get)] == [odd, leaf]


trees = st.recursive(st.integers(0, 5), lambda inner: st.lists(inner, max_size=4), max_leaves=20)


@settings(deadline=None, max_examples=60)
@given(trees)
def test_a_tree_of_blobs_is_reached_exactly(tree: object) -> None:
    shelf = Shelf()

    def plant(node: object) -> Cid:
        return shelf.put([plant(child) for child in node] if isinstance(node, list) else node)

    root = plant(tree)
    met = [cid for cid, data in reachable([root], shelf.get) if data is not None]
    assert set(met) == shelf.blobs.keys()
    assert len(met) == len(set(met))

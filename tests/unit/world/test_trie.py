from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent_world.crypto.hashing import cid_of, content_hash
from agent_world.errors import BlobHashMismatch, BlobNotFound, DecodeError, LocalError
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.limits import STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX
from agent_world.world.trie import VALUE_DEPTH_MAX, NodeCache, NodeMissing, Trie
from agent_world.world.trie_node import EMPTY, encode_node


class Store(dict[ContentHash, bytes]):
    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def __call__(self, digest: ContentHash) -> bytes:
        self.reads += 1
        if digest not in self:
            raise BlobNotFound(digest.hex())
        return self[digest]

    def trie(self, entries: Mapping[bytes, cbor.Value | None], base: Cid | None = None) -> Cid:
        root, blobs = Trie(base, NodeCache(self)).update(entries).flush()
        self.update(blobs)
        return root

    def read(self, root: Cid) -> dict[bytes, cbor.Value]:
        return dict(Trie(root, NodeCache(self)).items())


KEYS = st.one_of(st.binary(min_size=1, max_size=3), st.integers(0, 400).map(lambda n: b"key/%d" % n))
VALUES = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.booleans(),
    st.text(max_size=8),
    st.dictionaries(st.text(max_size=3), st.integers(0, 3), max_size=3),
    st.just({"content": cid_of(b"linked", Codec.RAW)}),
    st.just("large " * 300),
)
WRITES = st.lists(st.tuples(KEYS, st.one_of(st.none(), VALUES)), max_size=120)


@settings(deadline=None, max_examples=60)
@given(batches=st.lists(WRITES, max_size=4))
@example(batches=[[(b"a", 1)], [(b"a", True)]])
@example(batches=[[(b"key/%d" % n, n) for n in range(300)], [(b"key/%d" % n, None) for n in range(2, 300)]])
def test_the_root_depends_on_the_content_only(batches: list[list[tuple[bytes, cbor.Value]]]) -> None:
    store, expected = Store(), {}
    root = store.trie({})
    for batch in batches:
        root = store.trie(dict(batch), root)
        expected.update(batch)
    expected = {key: value for key, value in expected.items() if value is not None}
    assert _encoded(store.read(root)) == _encoded(expected)
    trie = Trie(root, NodeCache(store))
    assert all(cbor.encode(trie.get(key)) == cbor.encode(value) for key, value in expected.items())
    assert trie.get(b"never written") is None
    fresh = Store()
    assert fresh.trie(dict(sorted(expected.items(), reverse=True))) == root
    assert fresh.items() <= store.items()


@settings(deadline=None, max_examples=30)
@given(entries=st.dictionaries(KEYS, st.integers(0, 9), max_size=60), order=st.randoms(use_true_random=False))
def test_single_writes_in_any_order_with_detours(entries: dict[bytes, int], order: object) -> None:
    keys = list(entries)
    order.shuffle(keys)  # type: ignore[attr-defined]
    trie = Trie(None, NodeCache(Store()))
    for key in keys:
        trie = trie.update({key: entries[key], b"detour" + key: 1})
    for key in sorted(keys):
        trie = trie.update({b"detour" + key: None})
    assert trie.flush() == Trie(None, NodeCache(Store())).update(entries).flush()


def test_an_empty_trie_is_the_specified_root_block() -> None:
    root, blobs = Trie(None, NodeCache(Store())).flush()
    expected = cbor.encode({"hashAlg": 0x1E, "bucketSize": 3, "hamt": [bytes(4), []]})
    assert blobs == {content_hash(expected): expected}
    assert root == cid_of(expected)


def test_deleting_everything_gives_the_empty_trie() -> None:
    store = Store()
    root = store.trie({b"%d" % n: n for n in range(200)})
    assert store.trie({b"%d" % n: None for n in range(200)}, root) == store.trie({})


def test_an_update_shares_what_it_does_not_touch() -> None:
    store = Store()
    root = store.trie({b"key/%d" % n: {"amount": n} for n in range(5_000)})
    before = Trie(root, NodeCache(store))
    after = before.update({b"key/7": {"amount": 0}})
    _, new = after.flush()
    assert len(new) <= 4
    assert before.get(b"key/7") == {"amount": 7}
    assert after.get(b"key/7") == {"amount": 0}


def test_writing_what_is_there_gives_nothing_new() -> None:
    store = Store()
    root = store.trie({b"key/%d" % n: n for n in range(50)})
    trie = Trie(root, NodeCache(store))
    assert trie.update({b"key/3": 3, b"absent": None}) is trie
    assert trie.flush() == (root, {})


def test_nodes_are_read_once_and_only_on_the_way() -> None:
    store = Store()
    root = store.trie({b"key/%d" % n: n for n in range(5_000)})
    nodes = NodeCache(store)
    trie = Trie(root, nodes)
    assert store.reads == 0
    assert trie.get(b"key/11") == 11
    assert 2 <= store.reads <= 4
    reads = store.reads
    assert trie.get(b"key/11") == 11
    assert store.reads == reads == nodes.loads


def test_the_cache_is_bounded() -> None:
    store = Store()
    root = store.trie({b"key/%d" % n: n for n in range(5_000)})
    nodes = NodeCache(store, nodes_max=3)
    assert sorted(Trie(root, nodes).items()) == sorted((b"key/%d" % n, n) for n in range(5_000))
    assert len(nodes._nodes) == 3


def test_the_cache_drops_the_node_unused_for_longest() -> None:
    store = Store()
    roots = [store.trie({b"k": number}) for number in range(3)]
    nodes = NodeCache(store, nodes_max=2)
    for number in (0, 1, 0, 2, 0):
        assert Trie(roots[number], nodes).get(b"k") == number
    assert nodes.loads == 3
    assert Trie(roots[1], nodes).get(b"k") == 1
    assert nodes.loads == 4


def test_a_large_value_stands_in_its_own_blob() -> None:
    inline, large = "x" * (STATE_VALUE_BYTES_MAX - 3), "x" * (STATE_VALUE_BYTES_MAX - 2)
    assert (len(cbor.encode(inline)), len(cbor.encode(large))) == (STATE_VALUE_BYTES_MAX, STATE_VALUE_BYTES_MAX + 1)
    store = Store()
    assert len(Trie(None, NodeCache(store)).update({b"k": inline}).flush()[1]) == 1
    trie = Trie(None, NodeCache(store)).update({b"k": large})
    assert trie.get(b"k") == large
    root, blobs = trie.flush()
    assert blobs.keys() == {root.digest, content_hash(cbor.encode(large))}
    store.update(blobs)
    assert store.read(root) == {b"k": large}
    assert cid_of(cbor.encode(large)) in cbor.links_of(cbor.decode(blobs[root.digest], size_max=9_999))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"", 1),
        (b"k" * (STATE_KEY_BYTES_MAX + 1), 1),
        (b"k", cid_of(b"bare link")),
        (b"k", 1.5),
        (b"k", "x" * (1 << 20)),
    ],
)
def test_writes_beyond_the_bounds_are_refused(key: bytes, value: cbor.Value) -> None:
    with pytest.raises(LocalError):
        Trie(None, NodeCache(Store())).update({key: value})


def test_values_as_deep_as_allowed_can_be_read_back() -> None:
    value: cbor.Value = 1
    for _ in range(VALUE_DEPTH_MAX - 1):
        value = [value]
    store = Store()
    assert store.read(store.trie({b"k" * STATE_KEY_BYTES_MAX: value})) == {b"k" * STATE_KEY_BYTES_MAX: value}
    with pytest.raises(LocalError, match="deeper"):
        store.trie({b"k": [value]})


def test_a_missing_node_is_named() -> None:
    store = Store()
    root = store.trie({b"key/%d" % n: n for n in range(500)})
    removed = next(digest for digest in store if digest != root.digest)
    kept = store.pop(removed)
    with pytest.raises(NodeMissing) as caught:
        store.read(root)
    assert caught.value.content_hash == removed
    store[removed] = kept
    assert len(store.read(root)) == 500


def test_damaged_nodes_are_told_from_missing_ones() -> None:
    store = Store()
    root = store.trie({b"k": 1})
    store[root.digest] = store[root.digest][:-1] + b"\x02"
    with pytest.raises(BlobHashMismatch):
        store.read(root)


def _put(store: Store, value: cbor.Value) -> Cid:
    data = cbor.encode(value)
    store[content_hash(data)] = data
    return cid_of(data)


def test_a_value_that_is_too_small_for_a_blob_of_its_own_is_refused() -> None:
    store = Store()
    root = store.trie({b"k": "x" * 2_000})
    entry = cbor.decode(store[root.digest], size_max=9_999)
    entry["hamt"][1][0][0][1] = _put(store, "small")
    with pytest.raises(DecodeError, match="T2"):
        store.read(_put(store, entry))
    entry["hamt"][1][0][0][1] = Cid(Codec.RAW, content_hash(b"raw"))
    with pytest.raises(DecodeError, match="T1"):
        store.read(_put(store, entry))


def test_a_chain_of_links_ends_in_an_error_at_the_last_level() -> None:
    store = Store()
    below = cid_of(b"the end")
    for _ in range(60):
        below = _put(store, [bytes((1, 0, 0, 0)), [below]])
    root = _put(store, {"hashAlg": 0x1E, "bucketSize": 3, "hamt": [bytes((1, 0, 0, 0)), [below]]})
    with pytest.raises(DecodeError, match="T4"):
        store.read(root)


def test_a_root_block_is_no_child() -> None:
    root_bytes = encode_node(EMPTY, is_root=True)
    store = Store()
    store[content_hash(root_bytes)] = root_bytes
    parent = _put(store, {"hashAlg": 0x1E, "bucketSize": 3, "hamt": [bytes((1, 0, 0, 0)), [cid_of(root_bytes)]]})
    with pytest.raises(DecodeError, match="T1"):
        store.read(parent)


def _encoded(entries: dict[bytes, cbor.Value]) -> dict[bytes, bytes]:
    return {key: cbor.encode(value) for key, value in entries.items()}

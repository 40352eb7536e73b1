from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.errors import BlobNotFound
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, ContentHash
from agent_world.world.trie import Blobs, NodeCache, Trie
from agent_world.world.trie_diff import diff


class Store(dict[ContentHash, bytes]):
    def __call__(self, digest: ContentHash) -> bytes:
        if digest not in self:
            raise BlobNotFound(digest.hex())
        return self[digest]

    def trie(self, entries: dict[bytes, cbor.Value]) -> Cid:
        root, blobs = Trie(None, NodeCache(self)).update(entries).flush()
        self.update(blobs)
        return root


MAPS = st.dictionaries(
    st.integers(0, 150).map(lambda n: b"key/%d" % n), st.one_of(st.integers(0, 2), st.booleans()), max_size=80
)


@given(before=MAPS, after=MAPS)
@settings(deadline=None, max_examples=60)
def test_the_difference_is_that_of_the_maps(before: Blobs, after: Blobs) -> None:
    store = Store()
    found = {change.key: (change.before, change.after) for change in diff(store.trie(before), store.trie(after), store)}
    expected = {
        key: (before.get(key), after.get(key))
        for key in before.keys() | after.keys()
        if repr(before.get(key)) != repr(after.get(key))
    }
    assert {key: repr(pair) for key, pair in found.items()} == {key: repr(pair) for key, pair in expected.items()}


def test_a_number_is_not_a_truth_value() -> None:
    store = Store()
    (change,) = diff(store.trie({b"k": 1}), store.trie({b"k": True}), store)
    assert (change.before, change.after) == (1, True)
    assert type(change.before) is not type(change.after)


def test_only_what_differs_is_read() -> None:
    store = Store()
    entries = {b"key/%d" % n: n for n in range(5_000)}
    before = store.trie(entries)
    after = store.trie({**entries, b"key/17": -1})
    nodes = NodeCache(store)
    (change,) = diff(before, after, nodes)
    assert (change.key, change.before, change.after) == (b"key/17", 17, -1)
    assert nodes.loads <= 8
    assert list(diff(before, before, NodeCache(Store()))) == []


def test_large_values_are_given_as_they_were_written() -> None:
    store = Store()
    (change,) = diff(store.trie({b"k": "x" * 2_000}), store.trie({b"k": "y" * 2_000}), store)
    assert (change.before, change.after) == ("x" * 2_000, "y" * 2_000)

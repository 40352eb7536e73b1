from agent_world.crypto.hashing import cid_of
from agent_world.distfs.dht_index import IndexedRecord, InMemoryIndexStore, ProviderSet
from agent_world.wire.ids import PeerId

X = cid_of(b"x")


def test_what_is_put_is_got() -> None:  # T-3.2
    index = InMemoryIndexStore()
    assert index.get_providers(X) is None
    assert index.get_record("k") is None
    for age in (1, 2):
        found, record = ProviderSet(X, (PeerId("a"),), age), IndexedRecord("k", b"v", age)
        index.put_providers(found)
        index.put_record(record)
        assert index.get_providers(X) == found
        assert index.get_record("k") == record


def test_the_entry_written_longest_ago_goes_first() -> None:
    index = InMemoryIndexStore(entries_max=2)
    for name in ("a", "b", "a", "c"):
        index.put_record(IndexedRecord(name, b"v", 1))
    assert [name for name in "abc" if index.get_record(name)] == ["a", "c"]

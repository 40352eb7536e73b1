from agent_world.crypto.hashing import cid_of
from agent_world.distfs.dht_index import IndexedRecord, ProviderSet
from agent_world.store.dht_index import SqliteIndexStore
from agent_world.store.home import Home
from agent_world.wire.ids import PublicKey, peer_id_of

X = cid_of(b"x")
A = peer_id_of(PublicKey(bytes(32)))


def test_what_is_put_outlives_the_store(home: Home) -> None:  # T-3.2
    found, record = ProviderSet(X, (A,), 7), IndexedRecord("k", b"v", 8)
    assert SqliteIndexStore(home).get_providers(X) is None
    assert SqliteIndexStore(home).get_record("k") is None
    SqliteIndexStore(home).put_providers(found)
    SqliteIndexStore(home).put_record(record)
    assert SqliteIndexStore(home).get_providers(X) == found
    assert SqliteIndexStore(home).get_record("k") == record
    nobody = ProviderSet(X, (), 9)
    SqliteIndexStore(home).put_providers(nobody)
    assert SqliteIndexStore(home).get_providers(X) == nobody


def test_the_oldest_answer_goes_first(home: Home) -> None:
    index = SqliteIndexStore(home, entries_max=2)
    for age, name in ((3, "a"), (1, "b"), (2, "c")):
        index.put_record(IndexedRecord(name, b"v", age))
    assert [name for name in "abc" if index.get_record(name)] == ["a", "c"]
    assert index.counters() == {"evicted": 1}


def test_a_damaged_set_is_as_if_it_were_not_there(home: Home) -> None:
    index = SqliteIndexStore(home)
    for damage in (b"\xff", b"\x01", b"\x81\x01", b"\x81\x61a"):
        index.put_providers(ProviderSet(X, (A,), 1))
        home.database.execute("UPDATE dht_providers SET providers = ?", (damage,))
        assert index.get_providers(X) is None
    assert index.counters()["damaged"] == 4

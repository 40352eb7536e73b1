import pytest

from agent_world.crypto.hashing import cid_of
from agent_world.errors import DecodeError, Unavailable
from agent_world.net.dht_records import RecordRules
from agent_world.net.memory_dht import InMemoryDhtStore
from agent_world.wire.ids import PeerId

KEY = "/aw/world/w/head"
RULES = RecordRules(lambda _key, _value: None, lambda _key, values: list(values).index(max(values)))


async def test_the_better_record_stays_whoever_puts_last() -> None:
    store = InMemoryDhtStore(RULES)
    a, b = store.node(PeerId("a")), store.node(PeerId("b"))
    assert await a.get_record(KEY, timeout_s=1) is None
    await a.put_record(KEY, b"2")
    await b.put_record(KEY, b"1")
    assert await b.get_record(KEY, timeout_s=1) == b"2"
    await b.put_record(KEY, b"3")
    assert await a.get_record(KEY, timeout_s=1) == b"3"
    with pytest.raises(DecodeError):
        await a.put_record("/other/key", b"9")


async def test_a_head_and_a_directory_are_told_apart() -> None:  # T-3.1
    store = InMemoryDhtStore(RULES)
    a, b = store.node(PeerId("a")), store.node(PeerId("b"))
    await a.put_record(KEY, b"2")
    await a.put_record("/aw/world/w/membership", b"1")
    assert await b.get_record(KEY, timeout_s=1) == b"2"
    assert await b.get_record("/aw/world/w/membership", timeout_s=1) == b"1"


async def test_providers_ascend_and_are_told_apart_by_content() -> None:  # T-3.1
    store = InMemoryDhtStore(RULES)
    for name in ("b", "a", "b"):
        await store.node(PeerId(name)).provide(cid_of(b"x"))
    reader = store.node(PeerId("c"))
    assert await reader.find_providers(cid_of(b"x"), timeout_s=1) == ["a", "b"]
    assert await reader.find_providers(cid_of(b"y"), timeout_s=1) == []


async def test_nobody_reachable_is_unavailable_not_absent() -> None:
    dht = InMemoryDhtStore(RULES).node(PeerId("a"), is_reachable=lambda: False)
    with pytest.raises(Unavailable):
        await dht.get_record(KEY, timeout_s=1)
    with pytest.raises(Unavailable):
        await dht.put_record(KEY, b"1")
    with pytest.raises(Unavailable):
        await dht.provide(cid_of(b"x"))
    with pytest.raises(Unavailable):
        await dht.find_providers(cid_of(b"x"), timeout_s=1)

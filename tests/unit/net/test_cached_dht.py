from collections.abc import Sequence

import attrs
import pytest

from agent_world.crypto.hashing import cid_of
from agent_world.distfs.dht_index import InMemoryIndexStore
from agent_world.errors import Unavailable
from agent_world.net.cached_dht import CachedDht, DhtCacheConfig
from agent_world.net.dht_records import RecordRules
from agent_world.net.memory_dht import InMemoryDht, InMemoryDhtStore
from agent_world.wire.ids import PeerId

KEY = "/aw/world/w/head"
X = cid_of(b"x")


def highest(_key: str, values: Sequence[bytes]) -> int:
    return max(range(len(values)), key=lambda index: (values[index], index))


RULES = RecordRules(lambda _key, _value: None, highest)
CONFIG = DhtCacheConfig(provider_ttl_ms=100, absent_ttl_ms=10, record_ttl_ms=50)


class Setting:
    def __init__(self, config: DhtCacheConfig = CONFIG) -> None:
        self.now_ms = 1_000
        self.store = InMemoryDhtStore(RULES)
        self.reachable = True
        inner = self.store.node(PeerId("me"), is_reachable=lambda: self.reachable)
        self.cached = CachedDht(inner, InMemoryIndexStore(), RULES, PeerId("me"), lambda: self.now_ms, config)

    def other(self, name: str) -> InMemoryDht:
        return self.store.node(PeerId(name))

    async def providers(self) -> list[str]:
        return list(await self.cached.find_providers(X, timeout_s=1))

    async def head(self) -> bytes | None:
        return await self.cached.get_record(KEY, timeout_s=1)


async def test_a_fresh_set_of_providers_is_not_looked_up_again() -> None:  # T-3.3
    setting = Setting()
    await setting.other("a").provide(X)
    assert await setting.providers() == ["a"]
    await setting.other("b").provide(X)
    setting.now_ms += 100
    assert await setting.providers() == ["a"]
    setting.now_ms += 1
    assert await setting.providers() == ["a", "b"]
    assert setting.cached.counters()["dht_cache_hit"] == 1


async def test_providing_does_not_hide_who_else_provides() -> None:
    setting = Setting()
    await setting.other("a").provide(X)
    await setting.cached.provide(X)
    assert await setting.providers() == ["a", "me"]
    setting.cached.withdraw(X)
    assert await setting.providers() == ["a"]


async def test_own_providing_joins_a_set_without_making_it_younger() -> None:
    setting = Setting()
    await setting.other("a").provide(X)
    assert await setting.providers() == ["a"]
    setting.now_ms += 90
    await setting.cached.provide(X)
    assert await setting.providers() == ["a", "me"]
    await setting.other("b").provide(X)
    setting.now_ms += 11
    assert await setting.providers() == ["a", "b", "me"]


async def test_that_nobody_provides_is_remembered_for_a_moment() -> None:
    setting = Setting()
    assert await setting.providers() == []
    await setting.other("a").provide(X)
    setting.now_ms += 10
    assert await setting.providers() == []
    setting.now_ms += 1
    assert await setting.providers() == ["a"]


async def test_heads_are_remembered_and_only_rise() -> None:  # T-3.3
    setting = Setting()
    await setting.other("a").put_record(KEY, b"1")
    assert await setting.head() == b"1"
    await setting.other("a").put_record(KEY, b"2")
    assert await setting.head() == b"1"
    await setting.other("a").put_record(KEY, b"3")
    setting.now_ms += 51
    assert await setting.head() == b"3"
    setting.store.records[KEY] = b"2"
    setting.now_ms += 51
    assert await setting.head() == b"3"
    setting.store.records.clear()
    setting.now_ms += 51
    assert await setting.head() == b"3"


async def test_a_put_is_remembered_once_others_took_it() -> None:
    setting = Setting()
    setting.reachable = False
    with pytest.raises(Unavailable):
        await setting.cached.put_record(KEY, b"1")
    setting.reachable = True
    assert await setting.head() is None
    await setting.cached.put_record(KEY, b"1")
    setting.reachable = False
    assert await setting.head() == b"1"
    setting.now_ms += 51
    with pytest.raises(Unavailable):
        await setting.head()


async def test_answers_are_trimmed_and_all_are_remembered() -> None:
    setting = Setting(attrs.evolve(CONFIG, max_providers_per_content=2))
    for name in "abc":
        await setting.other(name).provide(X)
    assert await setting.providers() == ["a", "b"]
    unlimited = Setting(attrs.evolve(CONFIG, max_providers_per_content=0))
    for name in "abcdefghij":
        await unlimited.other(name).provide(X)
    assert len(await unlimited.providers()) == 10


async def test_a_memory_that_is_off_remembers_nothing() -> None:
    setting = Setting(DhtCacheConfig(provider_ttl_ms=0, absent_ttl_ms=0, record_ttl_ms=0))
    for number, name in enumerate("ab", 1):
        await setting.other(name).provide(X)
        assert len(await setting.providers()) == number
        await setting.other(name).put_record(KEY, b"%d" % number)
        assert await setting.head() == b"%d" % number


async def test_a_clock_put_back_makes_nothing_young() -> None:
    setting = Setting()
    assert await setting.providers() == []
    await setting.other("a").provide(X)
    setting.now_ms -= 500
    assert await setting.providers() == ["a"]


async def test_the_rest_is_the_dhts() -> None:
    setting = Setting()
    setting.cached.learned(PeerId("a"), "/ip4/10.0.0.1/tcp/1")
    assert setting.cached.addresses(PeerId("a")) == ("/ip4/10.0.0.1/tcp/1",)
    assert setting.cached.peers() == 1

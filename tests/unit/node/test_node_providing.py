from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_world.crypto.hashing import cid_of, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import Unavailable
from agent_world.net.dht_records import RecordRules
from agent_world.net.memory_dht import InMemoryDhtStore
from agent_world.node.providing import RETRY_MS, ProviderCache
from agent_world.store.home import Home
from agent_world.store.provided import ProvidedRoots
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId

X, Y = cid_of(b"x"), cid_of(b"y")
ME = PeerId("me")


class Setting:
    def __init__(self, roots: ProvidedRoots, republish_interval_ms: int = 50) -> None:
        self.store = InMemoryDhtStore(RecordRules(lambda _key, _value: None, lambda _key, _values: 0))
        self.roots = roots
        self.reachable = True
        self.here: set[Cid] = {X, Y}
        dht = self.store.node(ME, is_reachable=lambda: self.reachable)
        self.cache = ProviderCache(dht, roots, self.here.__contains__, ME, republish_interval_ms)

    def announced(self) -> set[Cid]:
        return {cid for cid in (X, Y) if ME in self.store.providers.get(cid.digest, ())}


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    genesis = hash32(b"genesis")
    Home.create(
        tmp_path / "home", genesis_hash=genesis, genesis_toml="", node_toml="", node_key=KeyPair(bytes(32))
    )  # fmt: skip
    with Home.open(tmp_path / "home", genesis) as home:
        yield Setting(ProvidedRoots(home))


async def test_own_content_is_known_and_announced_again_after_the_interval(setting: Setting) -> None:  # T-3.4
    assert setting.cache.register_local_content([X], 100) == 1
    assert await setting.cache.query_providers(X, timeout_s=1) == [ME]
    assert await setting.cache.republish_local(100) == 1
    assert setting.announced() == {X}
    assert await setting.cache.republish_local(149) == 0
    setting.store.providers.clear()
    assert await setting.cache.republish_local(150) == 1
    assert setting.announced() == {X}


@pytest.mark.parametrize(
    ("interval_ms", "again"), [(100, {150: 0, 200: 1}), (100, {201: 1}), (0, {100: 0, 200: 0, 2**62: 0})]
)
async def test_the_interval_is_the_gate_and_none_means_never_again(
    setting: Setting, interval_ms: int, again: dict[int, int]
) -> None:  # T-1.10
    once = Setting(setting.roots, interval_ms)
    once.cache.register_local_content([X], 100)
    assert await once.cache.republish_local(100) == 1
    for now_ms, taken in again.items():
        assert await once.cache.republish_local(now_ms) == taken


async def test_own_content_hides_nobody(setting: Setting) -> None:
    await setting.store.node(PeerId("a")).provide(X)
    setting.cache.register_local_content([X], 100)
    assert await setting.cache.query_providers(X, timeout_s=1) == ["a", ME]
    assert await setting.cache.query_providers(Y, timeout_s=1) == []
    setting.here.discard(X)
    assert await setting.cache.query_providers(X, timeout_s=1) == ["a"]


async def test_nobody_answers_but_the_content_is_here(setting: Setting) -> None:
    setting.cache.register_local_content([X], 100)
    setting.reachable = False
    assert await setting.cache.query_providers(X, timeout_s=1) == [ME]
    with pytest.raises(Unavailable):
        await setting.cache.query_providers(Y, timeout_s=1)


async def test_what_is_gone_is_withdrawn_until_it_is_back(setting: Setting) -> None:
    setting.cache.register_local_content([X, Y], 100)
    assert await setting.cache.republish_local(100) == 2
    setting.here.discard(X)
    assert await setting.cache.republish_local(150) == 1
    assert setting.announced() == {Y}
    setting.here.add(X)
    assert await setting.cache.republish_local(150 + RETRY_MS) == 2
    assert setting.announced() == {X, Y}


async def test_when_nobody_answers_everything_waits_and_nothing_is_lost(setting: Setting) -> None:
    setting.cache.register_local_content([X, Y], 100)
    setting.reachable = False
    assert await setting.cache.republish_local(100) == 0
    assert setting.cache.counters["dht.provide_failed"] == 1
    setting.reachable = True
    assert await setting.cache.republish_local(100) == 1
    assert await setting.cache.republish_local(100 + RETRY_MS) == 2
    assert setting.announced() == {X, Y}

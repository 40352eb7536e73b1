from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from agent_world.crypto.hashing import content_hash
from agent_world.net.dht_records import RecordRules
from agent_world.net.memory import InMemoryNetwork
from agent_world.net.memory_dht import InMemoryDhtStore
from agent_world.node.provider_search import CONTENTS_MAX, PROVIDERS_MAX, SEARCH_EVERY_S, WAITING_MAX, ProviderSearch
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import PeerId, PublicKey, peer_id_of

CONTENTS = [content_hash(bytes([number])) for number in range(40)]
POEM = CONTENTS[0]


def peer(number: int) -> PeerId:
    return peer_id_of(PublicKey(bytes([number]) * 32))


class Rig:
    """One node's search, and providers that it has never met."""

    def __init__(self, hub: InMemoryNetwork) -> None:
        self.hub = hub
        self.network = hub.node(peer(100))
        self.kept: set[PeerId] = set()
        self.store = InMemoryDhtStore(RecordRules(lambda _key, _value: None, lambda _key, values: len(values) - 1))
        self.reachable = True
        self.dht = self.store.node(peer(100), is_reachable=lambda: self.reachable)
        self.search = ProviderSearch(self.network, self.kept.__contains__)
        self.search.join(self.dht)

    async def provide(self, number: int, content: ContentHash = POEM, *, address: str | None = None) -> PeerId:
        node = self.hub.node(peer(number))
        dht = self.store.node(node.peer_id)
        await dht.provide(Cid(Codec.RAW, content))
        dht.learned(node.peer_id, address or node.listen_addresses()[0])
        return node.peer_id

    def linked(self) -> list[PeerId]:
        return [info.peer for info in self.network.peers()]


@asynccontextmanager
async def rigged() -> AsyncIterator[Rig]:
    hub = InMemoryNetwork(random.Random(1))
    async with hub.open():
        yield Rig(hub)


async def test_providers_are_linked_to_while_they_are_asked(autojump_clock: object) -> None:
    async with rigged() as rig:
        one, two = await rig.provide(1), await rig.provide(2)
        async with rig.search.providers([POEM]) as providers:
            assert sorted(providers) == sorted([one, two])
            assert set(rig.linked()) == {one, two}
        await trio.sleep(1)
        assert rig.linked() == []
        await trio.sleep(30)
        assert rig.linked() == [], "nobody dials them again"
        assert rig.search.counters["sources.given_back"] == 2


async def test_whom_the_node_keeps_or_who_was_linked_before_stays(autojump_clock: object) -> None:
    async with rigged() as rig:
        one, two, three = [await rig.provide(number) for number in (1, 2, 3)]
        rig.network.dial(one, rig.hub.node(one).listen_addresses()[0])
        await trio.sleep(1)
        async with rig.search.providers([POEM]) as providers:
            assert len(providers) == 3
            rig.kept.add(two)  # it has become a neighbour meanwhile
        await trio.sleep(1)
        assert rig.linked() == sorted([one, two])
        assert three not in rig.linked()


async def test_the_first_to_end_leaves_the_link_to_the_second(autojump_clock: object) -> None:
    async with rigged() as rig:
        one = await rig.provide(1)
        async with rig.search.providers([POEM]):
            async with rig.search.providers([POEM]) as providers:
                assert providers == [one]
            assert rig.linked() == [one]
        await trio.sleep(1)
        assert rig.linked() == []


async def test_nobody_has_it_and_nobody_answers(autojump_clock: object) -> None:
    async with rigged() as rig:
        async with rig.search.providers([POEM]) as providers:
            assert providers == []
        assert rig.search.counters["sources.nobody"] == 1
        assert rig.search.counters["dht.nobody_answered"] == 0
        rig.reachable = False
        async with rig.search.providers([POEM]) as providers:
            assert providers == []
        assert rig.search.counters["dht.nobody_answered"] == 1
        without = ProviderSearch(rig.network, lambda _peer: False)
        async with without.providers([POEM]) as providers:
            assert providers == []


async def test_a_provider_that_cannot_be_reached_costs_a_bounded_time(autojump_clock: object) -> None:
    async with rigged() as rig:
        await rig.provide(1, address="/ip4/10.9.9.9/tcp/1")
        rig.hub.remove(peer(1))
        started = trio.current_time()
        async with rig.search.providers([POEM]) as providers:
            assert providers == []
        assert trio.current_time() - started < 10
        assert rig.search.counters["sources.unreachable"] == 1


async def test_searches_are_paced_and_contents_take_turns(autojump_clock: object) -> None:
    async with rigged() as rig:
        last = await rig.provide(1, CONTENTS[-1])
        started, found = trio.current_time(), []
        for _ in range(3):
            async with rig.search.providers(CONTENTS) as providers:
                found += providers
        assert trio.current_time() - started >= 2 * SEARCH_EVERY_S
        assert found == [last], "the last of 40 had its turn in the third search of 16"
        assert rig.dht.counters()["dht_lookups"] == 3 * CONTENTS_MAX


async def test_few_providers_are_dialled_and_few_callers_wait(autojump_clock: object) -> None:
    async with rigged() as rig:
        for number in range(1, PROVIDERS_MAX + 5):
            await rig.provide(number)
        async with rig.search.providers([POEM]) as providers:
            assert len(providers) == len(rig.linked()) == PROVIDERS_MAX

        async def ask() -> None:
            async with rig.search.providers([POEM]):
                pass

        async with trio.open_nursery() as nursery:
            for _ in range(WAITING_MAX + 3):
                nursery.start_soon(ask)
        assert rig.search.counters["sources.search_refused"] == 2

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

from agent_world.crypto.hashing import cid_of
from agent_world.errors import DecodeError, RemoteError, Unavailable
from agent_world.net.dht_records import RecordRules
from agent_world.net.libp2p import dht as module
from agent_world.net.libp2p.dht import Libp2pDht

KEY = "/aw/world/w/head"


def validate(_key: str, value: bytes) -> None:
    if not value.isdigit():
        raise RemoteError("H1", "not a number")


def highest(_key: str, values: Sequence[bytes]) -> int:
    return max(range(len(values)), key=lambda index: int(values[index]))


RULES = RecordRules(validate, highest)


@asynccontextmanager
async def dhts(networks: Any, until: Any, count: int = 3) -> AsyncIterator[list[Libp2pDht]]:
    """Nodes that all know each other's DHT; the line of connections is that of ``networks``."""
    async with networks(count) as nodes, AsyncExitStack() as stack:
        all_dhts = [await stack.enter_async_context(Libp2pDht.open(node, RULES)) for node in nodes]
        await until(lambda: all(dht._kad.routing_table.get_peer_ids() for dht in all_dhts))
        yield all_dhts


async def test_the_head_record_is_found_everywhere_and_only_rises(networks: Any, until: Any) -> None:  # T-1.9, K-1.7
    async with dhts(networks, until) as (one, two, three):
        assert await two.get_record(KEY, timeout_s=5) is None
        await one.put_record(KEY, b"1")
        for dht in (one, two, three):
            assert await dht.get_record(KEY, timeout_s=5) == b"1"
        await three.put_record(KEY, b"2")
        for dht in (one, two, three):
            assert await dht.get_record(KEY, timeout_s=5) == b"2"  # not what an earlier look-up left behind
        await one.put_record(KEY, b"1")
        await one.put_record(KEY, b"2")
        for dht in (one, two, three):
            assert await dht.get_record(KEY, timeout_s=5) == b"2"


async def test_records_that_break_a_rule_go_nowhere(networks: Any, until: Any) -> None:
    async with dhts(networks, until, 2) as (one, two):
        with pytest.raises(RemoteError):
            await one.put_record(KEY, b"none")
        with pytest.raises(DecodeError):
            await one.put_record("/zz/x", b"1")
        # What a peer without these checks would send is refused by the holder.
        peer = module.library_id(two._network.peer_id)
        for key, value in ((KEY, b"none"), ("/zz/x", b"1"), ("plain", b"1")):
            await one._kad.value_store._store_at_peer(peer, key.encode(), value)
            assert key.encode() not in two._kad.value_store.store
        await one.put_record(KEY, b"1")
        assert KEY.encode() in two._kad.value_store.store


async def test_providers_are_found_and_new_ones_too(networks: Any, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROVIDE_EVERY_S", 0.1)
    content, other = cid_of(b"module"), cid_of(b"other")
    async with dhts(networks, until) as (one, two, three):
        assert await three.find_providers(content, timeout_s=5) == []
        await one.provide(content)
        assert await three.find_providers(content, timeout_s=5) == [one._network.peer_id]
        await two.provide(content)
        both = sorted([one._network.peer_id, two._network.peer_id])
        for dht in (one, two, three):
            assert await dht.find_providers(content, timeout_s=5) == both
        assert await three.find_providers(other, timeout_s=5) == []


async def test_provider_records_are_paced(networks: Any, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.PROVIDE_EVERY_S >= 1
    monkeypatch.setattr(module, "PROVIDE_EVERY_S", 0.3)
    async with dhts(networks, until, 2) as (one, _):
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(one.provide, cid_of(bytes([number])))
        assert trio.current_time() - started >= 0.6


async def test_alone_is_unavailable(networks: Any) -> None:
    async with networks(1) as (node,), Libp2pDht.open(node, RULES) as dht:
        with pytest.raises(Unavailable):
            await dht.put_record(KEY, b"1")
        with pytest.raises(Unavailable):
            await dht.get_record(KEY, timeout_s=1)
        with pytest.raises(Unavailable):
            await dht.provide(cid_of(b"x"))
        with pytest.raises(Unavailable):
            await dht.find_providers(cid_of(b"x"), timeout_s=1)


async def test_peers_without_a_dht_are_not_asked(networks: Any, until: Any) -> None:
    async with networks(2) as (one, two), Libp2pDht.open(one, RULES) as dht:
        await until(lambda: one.host.is_identified(two.peer_id))
        await until(lambda: not dht._kad.routing_table.get_peer_ids())
        with pytest.raises(Unavailable):
            await dht.get_record(KEY, timeout_s=1)


async def test_a_record_that_nobody_takes_is_unavailable(networks: Any, until: Any) -> None:
    def refuse(_key: str, _value: bytes) -> None:
        raise RemoteError("H1", "nothing is good enough")

    async with (
        networks(2) as (one, two),
        Libp2pDht.open(one, RULES) as dht,
        Libp2pDht.open(two, RecordRules(refuse, highest)),
    ):
        await until(lambda: dht._kad.routing_table.get_peer_ids())
        with pytest.raises(Unavailable):
            await dht.put_record(KEY, b"1")


async def test_who_dials_us_enters_the_routing_table(
    networks: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Identified after it was announced, and before it asks anything: only the identification tells of it then.
    async def hears_nothing(_dht: Libp2pDht) -> None:
        await trio.sleep_forever()

    for part in ("_feed_routing_table", "_walk"):
        monkeypatch.setattr(Libp2pDht, part, hears_nothing)
    async with networks(2, line=False) as (one, two), Libp2pDht.open(one, RULES), Libp2pDht.open(two, RULES) as dht:
        one.dial(two.peer_id, two.listen_addresses()[0])
        await until(lambda: dht._kad.routing_table.get_peer_ids())


async def test_holders_renew_a_record_they_have(networks: Any, until: Any) -> None:
    async with dhts(networks, until, 2) as (one, two):
        await one.put_record(KEY, b"1")
        _, before = two._kad.value_store.store[KEY.encode()]
        await one.put_record(KEY, b"1")
        _, after = two._kad.value_store.store[KEY.encode()]
        assert after > before
        assert one.counters()["dht_put_copies"] == 2


async def test_a_record_found_is_not_lost_to_a_peer_that_is_silent(networks: Any, until: Any) -> None:
    async with dhts(networks, until) as (one, two, three):
        await one.put_record(KEY, b"1")

        async def silent(_stream: Any) -> None:
            await trio.sleep_forever()

        two._network.host.on_stream("/aw/kad/1.0.0", silent)
        assert await three.get_record(KEY, timeout_s=1) == b"1"
        one._network.host.on_stream("/aw/kad/1.0.0", silent)
        with pytest.raises(Unavailable):
            await three.get_record(KEY, timeout_s=0.5)


async def test_one_peer_is_asked_for_what_it_knows_best(networks: Any, until: Any) -> None:
    async with dhts(networks, until) as (one, two, three):
        await one.put_record(KEY, b"1")
        three._kad.value_store.store.clear()
        assert await two.get_record(KEY, timeout_s=5, at=one._network.peer_id) == b"1"
        assert await two.get_record(KEY, timeout_s=5, at=three._network.peer_id) is None
        with pytest.raises(Unavailable):
            await two.get_record(
                KEY, timeout_s=5, at=module.PeerId("12D3KooWN1BT9q8rVsjPn6TjXmrrd8HxEM65weadT2q9GMR7h5MY")
            )


async def test_who_provides_can_be_dialled_by_who_never_met_it(networks: Any, until: Any) -> None:
    content = cid_of(b"module")
    async with dhts(networks, until) as (one, _two, three):
        await one.provide(content)
        assert await three.find_providers(content, timeout_s=5) == [one._network.peer_id]
        assert set(three.addresses(one._network.peer_id)) >= set(one._network.listen_addresses())
        assert three.addresses(module.PeerId("12D3KooWN1BT9q8rVsjPn6TjXmrrd8HxEM65weadT2q9GMR7h5MY")) == ()


async def test_what_is_no_longer_served_is_not_told(networks: Any, until: Any) -> None:
    content = cid_of(b"module")
    async with dhts(networks, until, 2) as (one, two):
        await one.provide(content)
        two._kad.provider_store.providers.clear()
        assert await two.find_providers(content, timeout_s=5) == [one._network.peer_id]
        one.withdraw(content)
        assert await two.find_providers(content, timeout_s=5) == []

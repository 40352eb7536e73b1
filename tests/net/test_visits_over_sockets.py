"""Connections made by look-ups end soon after them, and nothing else ends with them."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

from agent_world.net.dht_records import RecordRules
from agent_world.net.interface import Verdict
from agent_world.net.libp2p import dht as dht_module
from agent_world.net.libp2p import visits
from agent_world.net.libp2p.dht import Libp2pDht
from agent_world.net.libp2p.host import library_id
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.wire.ids import PeerId

KEY = "/aw/world/w/head"


def last(_key: str, values: Sequence[bytes]) -> int:
    return len(values) - 1


RULES = RecordRules(lambda _key, _value: None, last)


@pytest.fixture(autouse=True)
def end_visits(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Visits last until this is called, however slow the machine is."""
    monkeypatch.setattr(dht_module, "WALK_FIRST_S", 3_600)  # nobody visits but whom a test tells to
    monkeypatch.setattr(visits, "LINGER_S", 3_600)
    monkeypatch.setattr(visits, "LOOK_EVERY_S", 0.02)
    return lambda: monkeypatch.setattr(visits, "LINGER_S", 0)


@asynccontextmanager
async def line(networks: Any, until: Any, count: int = 4) -> AsyncIterator[tuple[list[Libp2pNetwork], list[Libp2pDht]]]:
    """Nodes of which each is linked with the next only, and has heard of all others."""
    async with networks(count) as nodes, AsyncExitStack() as stack:
        dhts = [await stack.enter_async_context(Libp2pDht.open(node, RULES)) for node in nodes]
        for node, dht in zip(nodes, dhts, strict=True):
            for other in nodes:
                dht.learned(other.peer_id, other.listen_addresses()[0])
                if other is not node:
                    await dht._kad.routing_table.add_peer(library_id(other.peer_id), skip_server_mode_check=True)
        yield nodes, dhts


def linked(node: Libp2pNetwork) -> set[PeerId]:
    return {info.peer for info in node.peers()}


async def look_rounds() -> None:
    """So long that visits would have ended."""
    for _ in range(10):
        await trio.sleep(0.02)


def connected(node: Libp2pNetwork, other: Libp2pNetwork) -> bool:
    return node.host.is_connected(other.peer_id)


async def test_many_look_ups_leave_the_links_that_were_there(
    networks: Any, until: Any, end_visits: Callable[[], None]
) -> None:
    async with line(networks, until) as (nodes, dhts):
        one, two, _, four = nodes
        since = dict(one.connections.since)
        for number in range(10):
            await dhts[0].put_record(KEY, b"%d" % number)
            assert await dhts[3].get_record(KEY, timeout_s=5) == b"%d" % number
        assert connected(one, four)
        made = sum(node.counters().get("visit_made", 0) for node in nodes)
        assert 1 <= made <= 6, "three pairs have no link, and a visit lasts from one look-up to the next"
        end_visits()
        await until(lambda: all(dht.counters()["dht_visits_open"] == 0 for dht in dhts))
        for place, node in enumerate(nodes):
            neighbours = {other.peer_id for other in nodes[max(0, place - 1) : place + 2] if other is not node}
            await until(lambda node=node, neighbours=neighbours: linked(node) == neighbours)
        await until(lambda: not connected(one, four) and not connected(four, one))
        assert one.connections.since[two.peer_id] == since[two.peer_id], "the link of the beginning"


async def test_a_visit_is_told_to_nobody_here(networks: Any, until: Any, end_visits: Callable[[], None]) -> None:
    async with line(networks, until) as (nodes, dhts):
        events: Any = nodes[0].peer_events()
        assert [event.peer for event in events.drain()] == [nodes[1].peer_id]
        await dhts[0].put_record(KEY, b"1")
        assert len(nodes[0].connections.visits) == 2
        assert linked(nodes[0]) == {nodes[1].peer_id}
        end_visits()
        await until(lambda: not len(nodes[0].connections.visits))
        assert events.drain() == []


@pytest.mark.parametrize("asker", [0, 2])
async def test_a_visit_that_is_used_for_something_else_stays(
    networks: Any, until: Any, end_visits: Callable[[], None], asker: int
) -> None:
    async def echo(_peer: PeerId, payload: bytes) -> bytes:
        return payload

    async with line(networks, until, 3) as (nodes, dhts):
        one, _, three = nodes
        for node in nodes:
            node.serve("/aw/rr/1.0.0/echo", echo)
        await dhts[0].put_record(KEY, b"1")
        assert three.peer_id not in linked(one)
        other = three if asker == 0 else one
        assert await nodes[asker].request(other.peer_id, "/aw/rr/1.0.0/echo", b"x") == b"x"
        await until(lambda: three.peer_id in linked(one))
        end_visits()
        await look_rounds()
        assert connected(one, three)
        assert one.counters()["visit_became_link"] == 1


async def test_a_visit_to_a_peer_that_is_then_kept_stays(
    networks: Any, until: Any, end_visits: Callable[[], None]
) -> None:
    async with line(networks, until, 3) as (nodes, dhts):
        one, _, three = nodes
        await dhts[0].put_record(KEY, b"1")
        one.dial(three.peer_id, three.listen_addresses()[0])
        assert three.peer_id in linked(one)
        end_visits()
        await look_rounds()
        assert connected(one, three)
        assert one.counters()["connection_up"] == 2


async def test_a_visit_that_gossip_needs_stays(networks: Any, until: Any, end_visits: Callable[[], None]) -> None:
    async with line(networks, until, 3) as (nodes, dhts):
        one, _, three = nodes
        for node in nodes:
            await node.subscribe("aw.w.head", lambda _source, _data: Verdict.ACCEPT)
        await dhts[0].put_record(KEY, b"1")
        await until(lambda: one._gossip.needs(three.peer_id))
        end_visits()
        await until(lambda: three.peer_id in linked(one))
        assert one.counters()["visit_became_link"] == 1


async def test_the_other_way_round_the_peers_own_link_stays(networks: Any, until: Any) -> None:
    async with line(networks, until, 3) as (nodes, dhts):
        one, _, three = nodes
        await dhts[0].put_record(KEY, b"1")
        assert connected(one, three)
        visit = one.host.connections(three.peer_id)[0]
        three.dial(one.peer_id, one.listen_addresses()[0])
        await visit.close()
        await until(lambda: three.peer_id in linked(one) and one.peer_id in linked(three))
        assert len(one.connections.visits) == 0


async def test_more_visits_than_are_allowed_end_at_once(
    networks: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visits, "VISITS_MAX", 1)
    async with line(networks, until) as (nodes, dhts):
        await dhts[0].put_record(KEY, b"1")
        await until(lambda: len(nodes[0].connections.visits) == 1)
        assert nodes[0].counters()["visit_made"] >= 2


async def test_an_address_that_is_none_is_counted(networks: Any, until: Any) -> None:
    async with line(networks, until, 2) as (nodes, dhts):
        message = dhts[0]._client._message(0, b"x")
        entry = message.closerPeers.add()
        entry.id = library_id(nodes[1].peer_id).to_bytes()
        entry.addrs.extend([b"\xff\xff no address", b"", b"\x04\x7f\x00\x00\x01\x06\x00\x50"])
        assert list(dhts[0]._client._peers(message.closerPeers)) == [library_id(nodes[1].peer_id)]
        assert dhts[0].counters()["dht_address_wrong"] == 2

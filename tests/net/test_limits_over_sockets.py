"""Every limit of a host, red when it is not kept. Those of one stream's protocol stand beside that protocol's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import attrs
import pytest
import trio
from attackers import From
from multiaddr import Multiaddr

from agent_world.config import MINIMAL
from agent_world.errors import ErrorCode, Refused
from agent_world.net.address import parse_address
from agent_world.net.interface import Verdict
from agent_world.net.libp2p import single_request
from agent_world.net.libp2p.bodies import PARTS_PROTOCOL
from agent_world.net.libp2p.host import library_id
from agent_world.net.libp2p.large_answers import BODY_PROTOCOL
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.net.libp2p.streams import LOST
from agent_world.wire import rpc
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import GOSSIP_BYTES_MAX

CHANNEL, TOPIC = "consensus", "aw.w.head"
BURST = 5
SLOW = attrs.evolve(
    MINIMAL.net,
    **{f"{kind}_per_s": 0.01 for kind in ("requests", "content_requests", "submits", "messages", "gossip")},
    **{f"{kind}_burst": BURST for kind in ("requests", "content_requests", "submits", "messages", "gossip")},
)
"""Of a node that takes five of each."""


@asynccontextmanager
async def flooding(
    node: Libp2pNetwork, key: Any, until: Any, source: str = "127.0.0.1"
) -> AsyncIterator[Libp2pNetwork]:
    """A peer that keeps itself to no rate."""
    config = attrs.evolve(MINIMAL.net, listen=())
    async with Libp2pNetwork.open(config, key, transport=From(source)) as network:
        network.dial(node.peer_id, node.listen_addresses()[0])
        await until(lambda: network.peers() and network.peer_id in [info.peer for info in node.peers()])
        yield network


def accept(_peer: PeerId, _data: bytes) -> Verdict:
    return Verdict.ACCEPT


async def echo(_peer: PeerId, payload: bytes) -> bytes:
    return payload


@pytest.mark.parametrize(
    ("method", "kind"),
    [("/aw/rr/1.0.0/echo", "request"), (rpc.FETCH_BLOB, "content"), (rpc.SUBMIT_ACTION, "submit")],
)
async def test_requests_above_the_rate_are_refused(
    networks: Any, new_key: Any, until: Any, method: str, kind: str
) -> None:
    async with networks(1, config=SLOW) as (node,), flooding(node, new_key(), until) as flood:
        node.serve(method, echo)
        codes = []
        for _ in range(2 * BURST):
            try:
                codes.append(await flood.request(node.peer_id, method, b""))
            except Refused as error:
                codes.append(error.code)
        assert codes == [b""] * BURST + [ErrorCode.RATE_LIMITED] * BURST
        assert node.counters()[f"rate_limited.{kind}"] == BURST


async def test_bodies_above_the_rate_are_refused(networks: Any, new_key: Any, until: Any) -> None:
    async def serve(_peer: PeerId, _payload: bytes) -> AsyncIterator[bytes]:
        yield b"part"

    async with networks(1, config=SLOW) as (node,), flooding(node, new_key(), until) as flood:
        node.serve_body(rpc.STREAM_BLOBS, serve)
        refused = 0
        for _ in range(2 * BURST):
            try:
                async with flood.open_body(node.peer_id, rpc.STREAM_BLOBS, b"", timeout_s=5) as parts:
                    assert [part async for part in parts] == [b"part"]
            except Refused as error:
                refused += error.code is ErrorCode.RATE_LIMITED
        assert refused == BURST


async def test_messages_above_the_rate_are_dropped(networks: Any, new_key: Any, until: Any) -> None:
    async with networks(1, config=SLOW) as (node,), flooding(node, new_key(), until) as flood:
        got: list[bytes] = []

        async def take(_peer: PeerId, payload: bytes) -> None:
            got.append(payload)

        node.on_message(CHANNEL, take)
        for number in range(2 * BURST):
            assert flood.send(node.peer_id, CHANNEL, bytes([number]))
        await until(lambda: node.counters().get("rate_limited.message", 0) == BURST)
        await until(lambda: got == [bytes([number]) for number in range(BURST)])


async def test_gossip_above_the_rate_is_dropped(networks: Any, new_key: Any, until: Any) -> None:
    async with networks(1, config=SLOW) as (node,), flooding(node, new_key(), until) as flood:
        await node.subscribe(TOPIC, accept)
        await until(lambda: flood._gossip._service.peer_topics.get(TOPIC))
        for number in range(2 * BURST):
            await flood.publish(TOPIC, bytes([number]))
        await until(lambda: node.counters().get("rate_limited.gossip", 0) == BURST)
        await until(lambda: node.counters().get("gossip_accept", 0) == BURST)


async def test_gossip_above_the_largest_message_is_dropped(networks: Any, new_key: Any, until: Any) -> None:
    async with networks(1) as (node,), flooding(node, new_key(), until) as flood:
        inbox = await node.subscribe(TOPIC, accept)
        await until(lambda: flood._gossip._service.peer_topics.get(TOPIC))
        await flood._gossip._service.publish(TOPIC, bytes(GOSSIP_BYTES_MAX + 1))  # past our own check
        await flood.publish(TOPIC, b"small")
        with trio.fail_after(30):
            assert (await anext(inbox)).data == b"small"


async def test_all_connections_together(networks: Any, new_key: Any, until: Any, stranger: Any) -> None:
    limit = 3
    async with networks(1, config=attrs.evolve(MINIMAL.net, connections_max=limit)) as (node,):
        target = Multiaddr(node.listen_addresses()[0])
        async with AsyncExitStack() as stack:
            hosts = [await stack.enter_async_context(stranger()) for _ in range(2 * limit)]
            for host in hosts:
                with suppress(Exception):  # how a refused dial fails is the library's affair
                    await host.network.dial_addr(target, library_id(node.peer_id))
            await until(lambda: len(node.peers()) == limit)
            assert len(node.host.network.get_connections()) == limit
            let_in = [host for host in hosts if node.host.is_connected(host.peer_id)]
            await let_in[0].close()
            await until(lambda: len(node.peers()) < limit)
            await hosts[-1].network.dial_addr(target, library_id(node.peer_id))
            await until(lambda: node.host.is_connected(hosts[-1].peer_id))


async def test_connections_of_one_peer(networks: Any, until: Any, stranger: Any) -> None:
    async with networks(1) as (node,), stranger() as host:
        target, most = Multiaddr(node.listen_addresses()[0]), 0
        up = node.connections.connected

        def watch(connection: Any) -> None:
            nonlocal most
            most = max(most, len([c for c in node.host.connections(host.peer_id) if not c.is_closed]))
            up(connection)

        node.connections.connected = watch

        async def dial() -> None:
            with suppress(Exception):  # as above
                await host.network.dial_addr(target, library_id(node.peer_id))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(dial)
        await until(lambda: len(node.host.connections(host.peer_id)) <= 1)
        assert 1 <= most <= MINIMAL.net.connections_per_peer_max
        assert node.counters()["connection_limit_per_peer"] >= 1


async def tcp(node: Libp2pNetwork, source: str) -> trio.SocketStream:
    known = parse_address(node.listen_addresses()[0])
    return await trio.open_tcp_stream(known.host, known.port, local_address=source)


@pytest.mark.parametrize(
    ("config", "counter"),
    [
        ({"handshakes_per_ip_max": 4}, "connection_limit_handshakes"),
        ({"connections_per_ip_max": 4}, "connection_limit_per_address"),
        ({"connects_per_ip_burst": 4, "connects_per_ip_per_s": 0.01}, "connection_limit_rate"),
    ],
    ids=["handshakes", "connections", "rate"],
)
async def test_what_one_address_begins(
    networks: Any, new_key: Any, until: Any, config: dict[str, Any], counter: str
) -> None:
    async with networks(1, config=attrs.evolve(MINIMAL.net, **config)) as (node,), AsyncExitStack() as stack:
        for _ in range(10):
            await stack.enter_async_context(await tcp(node, "127.0.0.2"))
        await until(lambda: node.counters().get(counter) == 6)
        async with flooding(node, new_key(), until, "127.0.0.3") as other:
            assert [info.peer for info in node.peers()] == [other.peer_id], "another address is let in"


async def test_handshakes_of_all_addresses(networks: Any, until: Any) -> None:
    config = attrs.evolve(MINIMAL.net, handshakes_max=6, upgrade_timeout_s=60)
    async with networks(1, config=config) as (node,), AsyncExitStack() as stack:
        for number in range(2, 12):
            await stack.enter_async_context(await tcp(node, f"127.0.0.{number}"))
        await until(lambda: node.counters().get("connection_limit_handshakes") == 4)
        assert node.host.doors.shown()["handshakes"] == 6


async def test_a_handshake_ends_by_its_deadline(networks: Any, until: Any) -> None:
    config = attrs.evolve(MINIMAL.net, upgrade_timeout_s=0.2)
    async with networks(1, config=config) as (node,), await tcp(node, "127.0.0.2") as stream:
        with suppress(trio.BrokenResourceError), trio.fail_after(30):
            while await stream.receive_some(100):  # what the host says first
                pass
        await until(lambda: node.host.doors.shown()["handshakes"] == 0)


@pytest.mark.parametrize(("protocol", "counter"), [(BODY_PROTOCOL, "request_body_lost"), (PARTS_PROTOCOL, "body_lost")])
async def test_a_stream_for_one_request_that_says_nothing(
    networks: Any, stranger: Any, join: Any, until: Any, monkeypatch: pytest.MonkeyPatch, protocol: str, counter: str
) -> None:
    monkeypatch.setattr(single_request, "REQUEST_WAIT_MAX_S", 0.2)
    async with networks(1) as (node,), stranger() as host:
        await join(host, node)
        stream = await host.open_stream(node.peer_id, protocol)
        await until(lambda: node.counters().get(counter) == 1)
        with trio.fail_after(30), suppress(*LOST):
            while await stream.read(1):
                pass

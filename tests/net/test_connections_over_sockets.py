import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network import swarm
from libp2p.peer.peerinfo import PeerInfo as LibraryPeerInfo
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from multiaddr import Multiaddr

from agent_world.config import MINIMAL
from agent_world.errors import UsageError
from agent_world.net.address import parse_address
from agent_world.net.interface import PeerDown, PeerUp, Verdict
from agent_world.net.libp2p import connections as connections_module
from agent_world.net.libp2p.host import library_id
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.wire.ids import PeerId, peer_id_of

CONFIG = MINIMAL.net
ECHO = "/aw/rr/1.0.0/echo"


async def echo(_peer: PeerId, payload: bytes) -> bytes:
    return payload


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def tcp(network: Libp2pNetwork) -> trio.SocketStream:
    address = parse_address(network.listen_addresses()[0])
    return await trio.open_tcp_stream(address.host, address.port)


class Wire:
    """A TCP relay that can stop carrying bytes while its connections stay open, as a cable that is pulled."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.target = target
        self.flows = trio.Event()
        self.flows.set()

    async def carry(self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            async for data in source:
                await self.flows.wait()
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()

    async def accept(self, stream: trio.SocketStream) -> None:
        async with (
            stream,
            await trio.open_tcp_stream("127.0.0.1", self.target) as other,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self.carry, stream, other, nursery.cancel_scope)
            await self.carry(other, stream, nursery.cancel_scope)


@asynccontextmanager
async def wire_to(network: Libp2pNetwork) -> AsyncIterator[Wire]:
    async with trio.open_nursery() as nursery:
        target = parse_address(network.listen_addresses()[0]).port
        wire = Wire(target)
        (listener,) = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), wire.accept, 0)
        wire.port = listener.socket.getsockname()[1]
        yield wire
        wire.flows.set()
        nursery.cancel_scope.cancel()


async def test_both_sides_are_told_of_connect_and_disconnect(networks: Any) -> None:
    async with networks(2, line=False) as (one, two):
        events, others = one.peer_events(), two.peer_events()
        one.dial(two.peer_id, two.listen_addresses()[0])
        with trio.fail_after(30):
            up = await anext(events)
            assert up == PeerUp(two.peer_id, two.listen_addresses()[0], True)
            seen = await anext(others)
            assert isinstance(seen, PeerUp)
            assert (seen.peer, seen.outbound) == (one.peer_id, False)
            assert await anext(two.peer_events()) == seen  # a later reader is told who is there
            (info,) = one.peers()
            assert (info.peer, info.address, info.outbound) == (two.peer_id, two.listen_addresses()[0], True)
            one.forget(two.peer_id)
            await one.disconnect(two.peer_id)
            assert await anext(events) == PeerDown(two.peer_id)
            assert await anext(others) == PeerDown(one.peer_id)
        assert one.peers() == two.peers() == []
        await one.disconnect(two.peer_id)


async def test_a_dial_makes_no_pause(networks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with networks(2, line=False) as (one, two):
        target = LibraryPeerInfo(library_id(two.peer_id), [Multiaddr(two.listen_addresses()[0])])
        pauses: list[float] = []

        def noted(seconds: float) -> trio.CancelScope:
            pauses.append(seconds)
            return trio.move_on_after(seconds)

        monkeypatch.setattr(swarm, "trio", SimpleNamespace(**{**vars(trio), "move_on_after": noted}))
        await one.host.inner.connect(target)
        assert pauses == [0], "the library waits 250 ms for a second address"


async def test_a_kept_connection_comes_back_after_a_disconnect(networks: Any) -> None:
    async with networks(2) as (one, two):
        events = one.peer_events()
        assert isinstance(await anext(events), PeerUp)
        await two.disconnect(one.peer_id)
        with trio.fail_after(30):
            assert isinstance(await anext(events), PeerDown)
            assert isinstance(await anext(events), PeerUp)


async def test_a_forgotten_peer_stays_away(networks: Any) -> None:
    async with networks(2) as (one, two):
        one.forget(two.peer_id)
        await one.disconnect(two.peer_id)
        # Only real time shows that nobody redials: nothing happens that could be waited for.
        await trio.sleep(CONFIG.redial_max_s * 3)
        assert one.peers() == []


async def test_a_dead_address_does_not_hide_a_live_one(networks: Any, until: Any) -> None:
    async with networks(2, line=False) as (one, two):
        one.dial(two.peer_id, f"/ip4/127.0.0.1/tcp/{free_port()}")
        await until(lambda: one.counters().get("dial_failed", 0) >= 2)
        one.dial(two.peer_id, two.listen_addresses()[0])
        await until(lambda: len(one.peers()) == 1)


async def test_all_addresses_are_tried_in_turn(networks: Any, until: Any) -> None:
    async with networks(2, line=False) as (one, two):
        dead = [f"/ip4/127.0.0.1/tcp/{free_port()}" for _ in range(2)]
        for address in (dead[0], two.listen_addresses()[0], dead[1]):
            one.dial(two.peer_id, address)
        await until(lambda: one.peers())
        assert one.counters()["dial_failed"] >= 1


async def test_somebody_else_at_the_address_is_not_the_peer(networks: Any, until: Any, new_key: Any) -> None:
    async with networks(2, line=False) as (one, two):
        one.dial(peer_id_of(new_key().public_key), two.listen_addresses()[0])
        await until(lambda: one.counters().get("dial_failed", 0) >= 2)
        assert one.peers() == []


async def test_dialling_oneself_or_no_address(networks: Any) -> None:
    async with networks(1) as (one,):
        one.dial(one.peer_id, one.listen_addresses()[0])
        assert one.connections._kept == {}
        with pytest.raises(UsageError):
            one.dial(PeerId("12D3KooW"), "nowhere")


async def test_two_that_dial_each_other_stay_connected(networks: Any, until: Any) -> None:
    async with networks(2, line=False) as (one, two):
        for node in (one, two):
            node.serve(ECHO, echo)
        events = one.peer_events()
        one.dial(two.peer_id, two.listen_addresses()[0])
        two.dial(one.peer_id, one.listen_addresses()[0])
        await until(lambda: one.peers() and two.peers())
        for _ in range(10):
            assert await one.request(two.peer_id, ECHO, b"1") == b"1"
            assert await two.request(one.peer_id, ECHO, b"2") == b"2"
            await trio.sleep(0.05)
        assert [type(event) for event in events.drain()] == [PeerUp]


async def test_a_restarted_node_is_heard_again_within_five_seconds(networks: Any, until: Any, new_key: Any) -> None:
    key, topic = new_key(), "aw.w.head"
    config = attrs.evolve(CONFIG, listen=(f"/ip4/127.0.0.1/tcp/{free_port()}",))
    async with networks(1) as (one,):
        inbox = await one.subscribe(topic, lambda _source, _data: Verdict.ACCEPT)
        for generation in range(3):
            async with Libp2pNetwork.open(config, key) as two:
                two.serve(ECHO, echo)
                with trio.fail_after(5):
                    if generation == 0:
                        one.dial(two.peer_id, two.listen_addresses()[0])
                    await until(lambda two=two: two.peers() and one.peers())
                    assert await one.request(two.peer_id, ECHO, b"x") == b"x"
                    heard: list[bytes] = []
                    while not heard:  # gossip is a hint: said until somebody listens
                        await two.publish(topic, bytes([generation]))
                        await trio.sleep(0.05)
                        heard = [message.data for message in inbox.drain()]
                    assert set(heard) == {bytes([generation])}


async def test_a_silent_peer_is_disconnected_and_comes_back(
    networks: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections_module, "PING_EVERY_S", 0.2)
    monkeypatch.setattr(connections_module, "PING_TIMEOUT_S", 0.5)
    async with networks(2, line=False) as (one, two), wire_to(two) as wire:
        two.serve(ECHO, echo)
        one.dial(two.peer_id, f"/ip4/127.0.0.1/tcp/{wire.port}")
        await until(lambda: one.peers() and two.peers())
        wire.flows = trio.Event()
        await until(lambda: not one.peers() and not two.peers())
        assert one.counters()["connection_silent"] + two.counters().get("connection_silent", 0) >= 1
        monkeypatch.undo()  # a busy machine is not to be taken for silence again
        wire.flows.set()
        wire.flows = trio.Event()
        wire.flows.set()
        await until(lambda: one.peers() and two.peers())
        assert await one.request(two.peer_id, ECHO, b"back") == b"back"


async def test_closing_a_connection_whose_peer_reads_nothing_takes_no_longer(networks: Any, until: Any) -> None:
    async with networks(2, line=False) as (one, two), wire_to(two) as wire:
        one.dial(two.peer_id, f"/ip4/127.0.0.1/tcp/{wire.port}")
        await until(lambda: one.peers() and two.peers())
        wire.flows = trio.Event()
        (connection,) = one.host.connections(two.peer_id)

        written = 0

        async def fill() -> None:
            nonlocal written
            while True:  # until the kernel takes no more and the write stands still
                await connection.muxed_conn._write_frame(bytes(65_536))
                written += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill)
            before = -1
            while written != before:
                before = written
                await trio.sleep(0.3)
            one.forget(two.peer_id)
            with trio.fail_after(30):
                await one.disconnect(two.peer_id)
            nursery.cancel_scope.cancel()
        assert one.peers() == []


async def test_a_second_connection_of_a_peer_replaces_its_first(networks: Any, until: Any) -> None:
    async with networks(2) as (one, two):
        two.serve(ECHO, echo)
        events = two.peer_events()
        assert isinstance(await anext(events), PeerUp)
        await one.host.network.dial_addr(Multiaddr(two.listen_addresses()[0]), library_id(two.peer_id))
        await until(lambda: two.counters().get("connection_replaced") == 1)
        with trio.fail_after(30):
            assert isinstance(await anext(events), PeerDown)
            assert isinstance(await anext(events), PeerUp)
        await until(lambda: len(two.host.connections(one.peer_id)) == 1)
        assert await one.request(two.peer_id, ECHO, b"x") == b"x"


async def test_garbage_on_the_port_disturbs_nobody(networks: Any) -> None:
    async with networks(2) as (one, two):
        two.serve(ECHO, echo)
        for garbage in (
            b"GET / HTTP/1.1\r\n\r\n",
            bytes(100_000),
            b"\x13/multistream/1.0.0\n" + b"\xff" * 500,
            b"\x13/multistream/1.0.0\n\x07/noise\n" + b"\x00\x20" + b"x" * 600,
        ):
            stream = await tcp(two)
            await stream.send_all(garbage)
            assert await one.request(two.peer_id, ECHO, b"x") == b"x"
            await stream.aclose()
        assert await one.request(two.peer_id, ECHO, b"x") == b"x"


async def test_half_open_connections_are_limited_and_service_goes_on(networks: Any, until: Any) -> None:
    config = attrs.evolve(CONFIG, connections_per_ip_max=8, upgrade_timeout_s=0.5)
    async with networks(2, config=config) as (one, two):
        two.serve(ECHO, echo)
        streams = [await tcp(two) for _ in range(20)]
        await until(lambda: two.counters().get("connection_limit_per_address", 0) >= 12)
        assert await one.request(two.peer_id, ECHO, b"x") == b"x"
        await one.disconnect(two.peer_id)  # the half-open ones time out, and the way back is free
        await until(lambda: one.peers() and two.peers())
        for stream in streams:
            await stream.aclose()


async def test_more_connections_over_time_than_slots(networks: Any, stranger: Any, until: Any) -> None:
    config = attrs.evolve(CONFIG, connections_max=20, connects_per_ip_burst=512)
    async with networks(1, config=config) as (node,):
        target = Multiaddr(node.listen_addresses()[0])
        node.serve(ECHO, echo)

        async def come_and_go(host: Any) -> None:
            for _ in range(10):
                connection = await host.network.dial_addr(target, library_id(node.peer_id))
                await connection.close()

        async with stranger() as a, stranger() as b, stranger() as c, stranger() as d:
            async with trio.open_nursery() as nursery:
                for host in (a, b, c, d, a, b, c, d):
                    nursery.start_soon(come_and_go, host)
            await until(lambda: node.counters()["connection_up"] == 80 and not node.peers())


async def test_plaintext_is_refused(networks: Any) -> None:
    async with networks(1) as (node,):
        pair = create_new_key_pair()
        liar = new_host(
            key_pair=pair,
            sec_opt={PLAINTEXT_PROTOCOL_ID: InsecureTransport(pair)},
            muxer_opt={YAMUX: Yamux},
        )
        async with liar.run([]):
            with pytest.raises(Exception, match="no addresses established"):
                await liar.connect(LibraryPeerInfo(library_id(node.peer_id), [Multiaddr(node.listen_addresses()[0])]))
            await liar.close()
        assert node.peers() == []


async def test_a_port_in_use_is_a_usage_error(networks: Any, new_key: Any) -> None:
    async with networks(1) as (node,):
        config = attrs.evolve(CONFIG, listen=node.listen_addresses())
        with pytest.raises(UsageError, match="in use"):
            async with Libp2pNetwork.open(config, new_key()):
                pass


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("/ip4/192.0.2.1/tcp/0", "no such address"),
        ("/dns/localhost/tcp/0", "not on a name"),
        ("127.0.0.1:1", "not a multiaddr"),
        ("/ip4/127.0.0.1/tcp/1/p2p/x", "x"),
    ],
)
async def test_an_address_that_cannot_be_had_is_a_usage_error(address: str, says: str, new_key: Any) -> None:
    with pytest.raises(UsageError, match=says):
        async with Libp2pNetwork.open(attrs.evolve(CONFIG, listen=(address,)), new_key()):
            pass


async def test_several_listen_addresses(new_key: Any) -> None:
    config = attrs.evolve(CONFIG, listen=("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.2/tcp/0"))
    async with Libp2pNetwork.open(config, new_key()) as node:
        assert [parse_address(text).host for text in node.listen_addresses()] == ["127.0.0.1", "127.0.0.2"]
        assert all(parse_address(text).port for text in node.listen_addresses())


async def test_a_close_that_is_cancelled_still_ends_the_connection(networks: Any, until: Any) -> None:
    async with networks(2, line=False) as (one, two):
        one.dial(two.peer_id, two.listen_addresses()[0])
        await until(lambda: one.peers() and two.peers())
        one.forget(two.peer_id)
        with trio.CancelScope() as scope:
            scope.cancel()
            await one.disconnect(two.peer_id)
        await until(lambda: not one.peers() and not two.peers())

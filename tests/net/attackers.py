"""Hostile peers, each from a loopback address of its own, for tests of what a node survives."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final

import attrs
import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.pubsub.pb import rpc_pb2
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from agent_world.config import MINIMAL
from agent_world.crypto.keys import KeyPair
from agent_world.errors import Refused
from agent_world.net.address import parse_address, parse_peer
from agent_world.net.interface import Verdict
from agent_world.net.libp2p.gossip import MESHSUB
from agent_world.net.libp2p.messages import protocol_of
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.net.libp2p.requests import KEPT_PROTOCOL
from agent_world.net.libp2p.streams import LOST, StreamLost, framed, write_bytes
from agent_world.testing.examples import example
from agent_world.wire import record, rpc
from agent_world.wire.action import GetPendingRequest
from agent_world.wire.blob import FetchBlobsRequest, FetchBlobsResponse
from agent_world.wire.cid import ContentHash
from agent_world.wire.hello import PROTOCOL_VERSIONS, Hello
from agent_world.wire.ids import U32, Hash32, PeerId, WorldId, peer_id_of
from agent_world.wire.limits import MIB
from agent_world.wire.submit import GetReceiptRequest

_RATES: Final = ("requests", "content_requests", "submits", "messages", "gossip")
_FLOOD: Final = attrs.evolve(
    MINIMAL.net, listen=(), bytes_per_s=1e12, bytes_burst=10**12,
    **{f"{name}_per_s": 1e6 for name in _RATES}, **{f"{name}_burst": 10**6 for name in _RATES},
)  # fmt: skip
"""An attacker keeps no limits."""
_GONE: Final = (*LOST, StreamLost, Refused, trio.TooSlowError)
"""How an attacker sees that it was thrown out."""


def _hello(target: Target) -> Hello:
    plain: Hello = example(Hello, "lowest")
    return attrs.evolve(
        plain,
        versions=PROTOCOL_VERSIONS,
        world_id=target.world_id,
        genesis_hash=target.genesis_hash,
        head=attrs.evolve(plain.head, world_id=target.world_id),
    )


def _key(attack: str) -> KeyPair:
    return KeyPair(attack.encode().ljust(32, b"!"))


def peer_of(attack: str) -> PeerId:
    """Peer id of an attacker."""
    return peer_id_of(_key(attack).public_key)


class From(TCP):
    """Dials from one address."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    async def dial(self, maddr: Multiaddr) -> Any:
        """Not the library's dial_with_source: a dial of that which fails or is cancelled leaves its socket open."""
        host, port = maddr.value_for_protocol("ip4"), int(maddr.value_for_protocol("tcp"))
        try:
            stream = await trio.open_tcp_stream(host, port, local_address=self._address)
        except OSError as error:
            raise OpenConnectionError(str(error)) from error
        return RawConnection(TrioTCPStream(stream), True)


@attrs.frozen
class Target:
    """The node under attack."""

    multiaddr: str
    world_id: WorldId
    genesis_hash: Hash32
    opened: Counter[str] = attrs.Factory(Counter)
    """Bare connections that were made, by the address they came from."""

    @property
    def peer(self) -> PeerId:
        return parse_peer(self.multiaddr)[0]

    @property
    def address(self) -> str:
        return parse_peer(self.multiaddr)[1]

    async def tcp(self, source: str) -> trio.SocketStream:
        """A bare connection from an address."""
        known = parse_address(self.address)
        stream = await trio.open_tcp_stream(known.host, known.port, local_address=source)
        self.opened[source] += 1
        return stream


@asynccontextmanager
async def _peer(target: Target, key: KeyPair, source: str) -> AsyncIterator[Libp2pNetwork]:
    """A libp2p host of the attacker, linked with the target as long as that lets it in."""
    async with Libp2pNetwork.open(_FLOOD, key, transport=From(source)) as network:
        network.dial(target.peer, target.address)
        with trio.fail_after(30):
            while not network.host.is_connected(target.peer):  # noqa: ASYNC110 - told by no event
                await trio.sleep(0.02)
        yield network


async def garbage(target: Target, source: str) -> None:
    """Bytes of no protocol, a connection after the other."""
    rng = random.Random(1)
    for _ in range(100):
        with suppress(OSError, trio.BrokenResourceError):
            stream = await target.tcp(source)
            async with stream:
                await stream.send_all(rng.randbytes(rng.randint(1, 4_000)))
                with trio.move_on_after(0.05):
                    await stream.receive_some(100)


async def slow_handshakes(target: Target, source: str) -> None:
    """A handshake that goes on for ever, a byte at a time, many times over."""

    async def dribble() -> None:
        with suppress(OSError, trio.BrokenResourceError):
            async with await target.tcp(source) as stream:
                for byte in b"\x13/multistream/1.0.0\n" * 10:
                    await stream.send_all(bytes([byte]))
                    await trio.sleep(0.5)

    with trio.move_on_after(12):
        async with trio.open_nursery() as nursery:
            for _ in range(60):
                nursery.start_soon(dribble)


async def half_open(target: Target, source: str) -> None:
    """300 connections that say nothing."""
    async with AsyncExitStack() as streams:
        for _ in range(300):
            with suppress(OSError):
                await streams.enter_async_context(await target.tcp(source))
        with trio.move_on_after(6):  # longer than a handshake may take
            await trio.sleep_forever()


async def broken_frames(target: Target, source: str) -> None:
    """Frames above every limit, on the streams of requests and of votes."""
    with suppress(*_GONE):
        async with _peer(target, _key("broken_frames"), source) as network:
            for protocol in (KEPT_PROTOCOL, protocol_of("consensus")) * 6:
                with suppress(*_GONE), trio.move_on_after(2):
                    stream = await network.host.open_stream(target.peer, protocol)
                    await write_bytes(stream, framed(bytes(MIB)))
                    await stream.read(1)


async def invalid_gossip(target: Target, source: str) -> None:
    """Signed messages of nonsense on a topic of the world, as fast as it goes."""
    with suppress(*_GONE):
        async with _peer(target, _key("invalid_gossip"), source) as network:
            topic = f"aw.{target.world_id}.head"
            await network.subscribe(topic, lambda _peer, _data: _ignore())
            for number in range(3_000):
                await network.publish(topic, number.to_bytes(4, "big") * 100)
                if number % 50 == 0:
                    await trio.sleep(0.02)


def _ignore() -> Verdict:
    return Verdict.IGNORE


async def endless_streams(target: Target, source: str) -> None:
    """Streams that are opened and never say what for."""
    with suppress(*_GONE), trio.move_on_after(12):
        async with _peer(target, _key("endless_streams"), source) as network:
            (connection, *_) = network.host.connections(target.peer)
            try:
                async with trio.open_nursery() as nursery:
                    for _ in range(600):
                        nursery.start_soon(_open_quietly, connection)
                await trio.sleep_forever()
            finally:
                # So many streams are not ended one by one within the time that a host has to close.
                with trio.CancelScope(shield=True):
                    for opened in (connection, *network.host.connections(target.peer)):
                        await opened.muxed_conn.secured_conn.close()


async def _open_quietly(connection: Any) -> None:
    with suppress(*_GONE):
        await connection.muxed_conn.open_stream()


async def many_topics(target: Target, source: str) -> None:
    """10,000 topics of its own invention."""
    with suppress(*_GONE):
        async with _peer(target, _key("many_topics"), source) as network:
            stream = await network.host.open_stream(target.peer, MESHSUB)
            for start in range(0, 10_000, 100):
                names = [f"invented-{number}-{'x' * 100}" for number in range(start, start + 100)]
                asked = rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=name) for name in names])
                with suppress(*_GONE):
                    await write_bytes(stream, framed(asked.SerializeToString()))
            await trio.sleep(3)  # real sockets: the node has to take it all in before the link ends


async def wrong_bytes(target: Target, source: str, asks: Callable[[], Awaitable[None]]) -> None:
    """Answers every request for content with other content; ``asks`` makes the target ask its peers."""
    with suppress(*_GONE):
        async with _peer(target, _key("wrong_bytes"), source) as network:

            async def lie(_peer: PeerId, data: bytes) -> bytes:
                request = record.from_bytes(FetchBlobsRequest, data, size_max=MIB)
                return record.to_bytes(FetchBlobsResponse(blobs=tuple(b"a lie" for _ in request.content_hashes)))

            network.serve(rpc.FETCH_BLOBS, lie)
            await network.request(target.peer, rpc.HELLO, record.to_bytes(_hello(target)))  # or it is asked for nothing
            for _ in range(8):
                await asks()


async def greed(target: Target, source: str) -> None:
    """Requests that break no rule, cheap and costly ones, as many at once as are answered."""

    async def ask(network: Libp2pNetwork, method: str, payload: bytes) -> None:
        while network.host.is_connected(target.peer):
            with suppress(Refused):
                await network.request(target.peer, method, payload)

    world, nothing = WorldId(target.world_id), Hash32(bytes(32))
    receipt = record.to_bytes(GetReceiptRequest(world_id=world, action_id=nothing))
    pending = record.to_bytes(GetPendingRequest(world_id=world, digest=nothing, skip=U32(0)))
    blobs = record.to_bytes(FetchBlobsRequest(content_hashes=(ContentHash(bytes(32)),)))
    with suppress(*_GONE):
        async with _peer(target, _key(f"greed {source}"), source) as network:
            with trio.move_on_after(12):
                async with trio.open_nursery() as nursery:
                    for _ in range(20):
                        nursery.start_soon(ask, network, rpc.GET_RECEIPT, receipt)
                        nursery.start_soon(ask, network, rpc.FETCH_BLOBS, blobs)
                        nursery.start_soon(ask, network, rpc.GET_PENDING, pending)

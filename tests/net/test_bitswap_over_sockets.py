"""A bitswap server on a real host, asked by a client made by hand: answers, limits, and what is held against a peer."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from libp2p.custom_types import TProtocol

from agent_world.config import MINIMAL, BitswapConfig
from agent_world.crypto.hashing import cid_of, content_hash
from agent_world.errors import Refused
from agent_world.net.libp2p import bitswap
from agent_world.net.libp2p.bitswap import PROTOCOLS, STREAMS_PER_PEER_MAX
from agent_world.net.libp2p.host import Host
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.net.libp2p.streams import LOST, FrameReader, end_stream, framed
from agent_world.node.node import Node
from agent_world.node.provision import NodeSpec, SwarmSpec, make_swarm
from agent_world.node.runner import load_home, run_node
from agent_world.wire.bitswap import Answer, Presence, Want, block_field, open_answer, want_message
from agent_world.wire.cid import Codec, ContentHash
from agent_world.wire.hello import Role
from agent_world.wire.ids import TimeMs, WorldId
from agent_world.wire.limits import BITSWAP_MESSAGE_BYTES_MAX, BITSWAP_WANTS_MAX, BLOB_BYTES_MAX, MIB

NEW, OLD = PROTOCOLS


class Blocks:
    """What a node has; notes what it is asked to read."""

    def __init__(self, *blocks: bytes) -> None:
        self.stored = {content_hash(block): block for block in blocks}
        self.read: list[ContentHash] = []

    def has_block(self, digest: ContentHash) -> bool:
        return digest in self.stored

    def read_block(self, digest: ContentHash) -> bytes | None:
        self.read.append(digest)
        return self.stored.get(digest)


def want(block: bytes, **options: Any) -> Want:
    return Want(cid_of(block, Codec.RAW).to_bytes(), **options)


class Asker:
    """A stranger that wants something of one network by hand."""

    def __init__(self, host: Host, network: Libp2pNetwork) -> None:
        self.host = host
        self.network = network
        self.sent: Any = None
        self._answers, self.answers = trio.open_memory_channel[Answer](10_000)
        self.reading = trio.Event()
        self.reading.set()
        for protocol in PROTOCOLS:
            host.inner.set_stream_handler(TProtocol(protocol), self._take)

    async def _take(self, stream: Any) -> None:
        reader = FrameReader(stream)
        while True:
            await self.reading.wait()
            data = await reader.next(4 * MIB)
            if data is None:
                return
            await self._answers.send(open_answer(data))

    async def send(self, data: bytes, protocol: str = NEW) -> None:
        if self.sent is None:
            self.sent = await self.host.open_stream(self.network.peer_id, protocol)
        await self.sent.write(data)

    async def ask(self, *wants: Want, protocol: str = NEW, full: bool = False) -> None:
        await self.send(framed(want_message(wants, full=full)), protocol)

    async def next(self) -> Answer:
        with trio.fail_after(30):
            return await self.answers.receive()

    async def blocks(self, count: int) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < count:
            found += [data for _prefix, data in (await self.next()).blocks]
        return found

    async def is_cut_off(self) -> bool:
        with trio.fail_after(30):
            try:
                return not await self.sent.read(1)
            except LOST:
                return True


@pytest.fixture
def served(networks: Any, stranger: Any, join: Any) -> Any:
    """``async with served(source) as (network, asker)``."""

    @asynccontextmanager
    async def opened(source: Blocks, config: Any = MINIMAL.net, rate: float = 1e9) -> AsyncIterator[Any]:
        async with networks(1, config=config) as (network,), stranger() as host:
            network.serve_bitswap(source, rate)
            await join(host, network)
            yield network, Asker(host, network)

    return opened


async def test_blocks_come_with_their_prefixes(served: Any) -> None:
    blocks = [os.urandom(size) for size in (1, 1_000, 300_000, BLOB_BYTES_MAX)]
    async with served(Blocks(*blocks)) as (network, asker):
        await asker.ask(*(want(block) for block in blocks))
        assert sorted(await asker.blocks(4), key=len) == blocks
        await asker.ask(Want(cid_of(blocks[0], Codec.DAG_CBOR).to_bytes()))
        answer = await asker.next()
        assert answer.blocks == ((b"\x01\x71\x1e\x20", blocks[0]),)
        counters = network.counters()
        assert counters["bitswap_block_sent"] == 5
        assert counters["bitswap_bytes_sent"] == sum(map(len, blocks)) + 1


async def test_presence_and_absence_are_told_as_asked(served: Any) -> None:
    source = Blocks(b"here")
    async with served(source) as (network, asker):
        other = Want(b"\x01\x55\x12\x20" + bytes(32), tell_absence=True)
        await asker.ask(
            want(b"here", only_presence=True),
            want(b"nowhere", only_presence=True, tell_absence=True),
            want(b"nowhere else", tell_absence=True),
            want(b"and nothing is said of this", only_presence=True),
            want(b"nor of this"),
            other,
        )
        answer = await asker.next()
        assert answer.blocks == ()
        assert dict(answer.presences) == {
            want(b"here").cid: Presence.HAVE,
            want(b"nowhere").cid: Presence.DONT_HAVE,
            want(b"nowhere else").cid: Presence.DONT_HAVE,
            other.cid: Presence.DONT_HAVE,
        }
        assert content_hash(b"here") not in source.read, "to say that it is here nothing is read"
        assert network.counters()["bitswap_absent"] == 5


async def test_the_older_version_has_blocks_and_no_words(served: Any) -> None:
    async with served(Blocks(b"here")) as (_network, asker):
        await asker.ask(want(b"nowhere", tell_absence=True), want(b"here"), protocol=OLD)
        answer = await asker.next()
        assert [data for _prefix, data in answer.blocks] == [b"here"]
        assert answer.presences == ()


async def test_without_serving_the_protocol_is_not_spoken(networks: Any, stranger: Any, join: Any) -> None:
    async with networks(1) as (network,), stranger() as host:
        await join(host, network)
        for protocol in (*PROTOCOLS, "/ipfs/bitswap/1.0.0"):
            with pytest.raises(Refused) as caught:
                await host.open_stream(network.peer_id, protocol)
            assert caught.value.code == "ERR_UNSUPPORTED"


async def test_higher_priorities_come_first(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitswap, "ANSWER_BYTES", 1)
    blocks = [b"%d" % place for place in range(5)]
    async with served(Blocks(*blocks)) as (_network, asker):
        await asker.ask(*(want(block, priority=place - 2) for place, block in enumerate(blocks)))
        assert await asker.blocks(5) == blocks[::-1]


async def test_a_cancel_takes_back_what_waits(served: Any) -> None:
    source = Blocks(b"1", b"2")
    async with served(source) as (_network, asker):
        # In one message, so that nothing is answered in between.
        await asker.ask(want(b"1", priority=3), want(b"2", priority=2), want(b"1", cancel=True, priority=1))
        assert await asker.blocks(1) == [b"2"]
        assert source.read == [content_hash(b"2")]


async def test_a_full_wantlist_takes_back_all_that_waits(served: Any, until: Any) -> None:
    large = [os.urandom(BLOB_BYTES_MAX) for _ in range(3)]
    source = Blocks(*large, b"1", b"2")
    async with served(source) as (network, asker):
        asker.reading = trio.Event()  # so that the first answer cannot end
        await asker.ask(*(want(block) for block in large))
        await until(lambda: source.read)
        await asker.ask(want(b"1"))
        await asker.ask(want(b"2"), full=True)
        await until(lambda: network.counters()["bitswap_message"] == 3)
        asker.reading.set()
        assert await asker.blocks(2) == [large[0], b"2"]
        assert source.read == [content_hash(large[0]), content_hash(b"2")]


async def test_wants_above_the_limit_are_dropped_and_the_others_answered(served: Any) -> None:
    async with served(Blocks()) as (network, asker):
        await asker.ask(*(want(b"%d" % place, tell_absence=True) for place in range(BITSWAP_WANTS_MAX + 7)))
        told = 0
        while told < BITSWAP_WANTS_MAX:
            told += len((await asker.next()).presences)
        assert told == BITSWAP_WANTS_MAX
        assert network.counters()["bitswap_want_dropped"] == 7


async def test_what_a_peer_wants_at_a_time_is_bounded(served: Any, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitswap, "ANSWERS_AT_ONCE_MAX", 0)
    async with served(Blocks()) as (network, asker):
        for first in (0, 1_000):
            await asker.ask(*(want(b"%d" % place) for place in range(first, first + 1_000)))
        await until(lambda: network.counters().get("bitswap_want_dropped", 0) == 2_000 - BITSWAP_WANTS_MAX)


GARBAGE = [
    pytest.param(framed(b"\xff\xff"), id="no protobuf"),
    pytest.param(framed(want_message([Want(b"")])), id="a want of nothing"),
    pytest.param((BITSWAP_MESSAGE_BYTES_MAX + 1).to_bytes(3, "little") + b"", id="a length"),
    pytest.param(b"\xff" * 6, id="a length without an end"),
]


@pytest.mark.parametrize("data", GARBAGE)
async def test_garbage_ends_the_stream_and_is_held_against_the_peer(served: Any, data: bytes) -> None:
    if len(data) == 3:
        data = b"\x81\x80\xc0\x00"  # 1 MiB and a byte, as a varint
    async with served(Blocks(b"here")) as (network, asker):
        await asker.send(data)
        assert await asker.is_cut_off()
        assert network.counters()["bitswap_bad_message"] == 1
        assert network.gate.score(asker.host.peer_id) < 0


async def test_blocks_that_nobody_asked_for_are_held_against_the_peer(served: Any, until: Any) -> None:
    async with served(Blocks(b"here")) as (network, asker):
        await asker.send(framed(block_field(b"\x01\x55\x1e\x20", b"x") + want_message([want(b"here")])))
        assert await asker.blocks(1) == [b"here"]
        assert network.counters()["bitswap_unasked"] == 1
        assert network.gate.score(asker.host.peer_id) < 0
        for _ in range(6):
            if network.gate.is_banned(asker.host.peer_id):
                break
            await asker.send(framed(block_field(b"", b"x")))
        await until(lambda: network.gate.is_banned(asker.host.peer_id))


async def test_a_peer_above_its_rate_is_read_slower_and_not_blamed(served: Any, until: Any) -> None:
    slow = attrs.evolve(MINIMAL.net, content_requests_per_s=20.0, content_requests_burst=2)
    async with served(Blocks(b"here"), slow) as (network, asker):
        await asker.send(framed(want_message([want(b"here")])) * 5)  # at once, also from a busy machine
        assert await asker.blocks(1)
        await until(lambda: network.counters()["bitswap_message"] == 5)
        assert network.counters()["rate_slowed.content"] > 0
        assert network.gate.score(asker.host.peer_id) == 0


async def test_a_peer_that_takes_nothing_loses_its_stream_and_its_wants(
    served: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bitswap, "ANSWER_MAX_S", 0.2)
    blocks = [os.urandom(BLOB_BYTES_MAX) for _ in range(3)]
    async with served(Blocks(*blocks)) as (network, asker):
        asker.reading = trio.Event()
        await asker.ask(*(want(block) for block in blocks))
        await until(lambda: network.counters().get("bitswap_slow_reader", 0) == 1)
        asker.reading.set()


async def test_streams_of_one_peer_are_bounded(served: Any, until: Any) -> None:
    async with served(Blocks(b"here")) as (network, asker):
        streams = [await asker.host.open_stream(network.peer_id, NEW) for _ in range(STREAMS_PER_PEER_MAX)]
        with suppress(Refused):  # cut off while it was being opened, or just after
            streams.append(await asker.host.open_stream(network.peer_id, NEW))
        await until(lambda: network.counters().get("bitswap_stream_limit", 0) == 1)
        await streams[0].write(framed(want_message([want(b"here")])))
        assert await asker.blocks(1) == [b"here"]
        for stream in streams:
            await end_stream(stream, politely=False)


async def test_the_line_is_shared_out(served: Any) -> None:
    """The first answer uses up a second of the line; the third waits until that has passed."""
    blocks = [b"%d" % number * 100 for number in range(3)]
    async with served(Blocks(*blocks), rate=1.0) as (network, asker):
        for block in blocks:
            await asker.ask(want(block))
            assert await asker.blocks(1) == [block]
        assert network.counters()["bitswap_waited"] > 0


async def test_what_a_peer_wants_is_forgotten_when_it_goes(served: Any, until: Any) -> None:
    async with served(Blocks(b"here")) as (network, asker):
        await asker.ask(want(b"here"))
        assert await asker.blocks(1) == [b"here"]
        await network.disconnect(asker.host.peer_id)
        await until(lambda: not network.peers())


@pytest.mark.parametrize("enabled", [True, False])
async def test_a_node_answers_once_it_is_told_to(tmp_path: Path, stranger: Any, join: Any, enabled: bool) -> None:
    spec = SwarmSpec(
        world_id=WorldId("bridge"),
        nodes=(NodeSpec(name="v1", role=Role.SEQUENCER, validator=True),),
        genesis_time_ms=TimeMs(1_700_000_000_000),
        config=attrs.evolve(MINIMAL, bitswap=BitswapConfig(enabled=enabled)),
    )
    (made,) = make_swarm(tmp_path / "swarm", spec).nodes
    async with trio.open_nursery() as nursery, stranger() as host:
        node: Node = await nursery.start(run_node, load_home(made.home))
        assert isinstance(node.network, Libp2pNetwork)
        block = os.urandom(1_000)
        node.blobs.put(block)
        await join(host, node.network)
        asker = Asker(host, node.network)
        if enabled:
            await asker.ask(want(block))
            assert await asker.blocks(1) == [block]
        else:
            with pytest.raises(Refused):
                await asker.ask(want(block))
        nursery.cancel_scope.cancel()

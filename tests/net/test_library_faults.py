"""Each repair has a test here, or is named in ELSEWHERE, that is red when the repair does nothing."""

import inspect
import logging
import struct
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from libp2p.kad_dht import utils as kad_utils
from libp2p.network.health import ping_probe
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.pubsub import utils as pubsub_utils
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.stream_muxer.yamux.yamux import HEADER_SIZE, TYPE_WINDOW_UPDATE, YAMUX_HEADER_FORMAT

from agent_world.config import MINIMAL, NetConfig
from agent_world.errors import Refused
from agent_world.net.counters import Counters
from agent_world.net.dht_records import RecordRules
from agent_world.net.interface import Verdict
from agent_world.net.libp2p import gossip_faults, library_faults
from agent_world.net.libp2p.dht import Libp2pDht
from agent_world.net.libp2p.gossip import MESHSUB
from agent_world.net.libp2p.host import library_id
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.net.libp2p.streams import LOST, framed
from agent_world.wire.ids import PeerId

LIBRARY = attrs.evolve(MINIMAL.net, faster=())
"""With the library's own parts: the faster ones do without some of the faults."""
TOPIC = "aw.w.head"
KEY = "/aw/world/w/head"
PROBE = "/aw/probe/1.0.0"
ELSEWHERE = {
    "dial_without_pause": "test_a_dial_makes_no_pause",
    "bound_connection_close": "test_closing_a_connection_whose_peer_reads_nothing_takes_no_longer",
    "finish_connection_close": "test_a_close_that_is_cancelled_still_ends_the_connection",
    "free_inbound_slot": "test_more_connections_over_time_than_slots",
    "take_messages_with": "test_a_stale_message_costs_nobody_anything_and_is_judged_once",
    "bound_seen_messages": "test_nothing_is_left_behind",
    "after_identify": "test_who_dials_us_enters_the_routing_table",
    "stop_own_walk": "test_a_visit_to_a_peer_that_is_then_kept_stays",
}


def accept(_source: PeerId, _data: bytes) -> Verdict:
    return Verdict.ACCEPT


def test_every_repair_has_a_test() -> None:
    repairs = {
        name
        for module in (library_faults, gossip_faults)
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    } - {"replace_once"}
    here = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {name for name in repairs if not any(test.startswith(name) for test in here)} == set(ELSEWHERE)
    written = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert not [test for test in ELSEWHERE.values() if f"def {test}(" not in written]


def test_deepen_queues() -> None:
    library_faults.repair_library()
    queue = RpcQueue()
    assert [queue.push(rpc_pb2.RPC()) for _ in range(1_025)] == [True] * 1_024 + [False]


@pytest.mark.parametrize("config", [MINIMAL.net, LIBRARY])
async def test_credit_in_batches(networks: Any, until: Any, config: NetConfig) -> None:
    async with networks(2, config=config) as (one, two):
        got = bytearray()

        async def read(stream: Any) -> None:
            while len(got) < 100_000:
                got.extend(await stream.read(1_000))

        two.host.on_stream(PROBE, read)
        stream = await one.host.open_stream(two.peer_id, PROBE)
        (muxed,) = [connection.muxed_conn for connection in two.host.connections(one.peer_id)]
        updates = 0
        write_frame = muxed._write_frame

        async def spy(frame: bytes) -> None:
            nonlocal updates
            kind = struct.unpack(YAMUX_HEADER_FORMAT, frame[:HEADER_SIZE])[1]
            updates += kind == TYPE_WINDOW_UPDATE
            await write_frame(frame)

        muxed._write_frame = spy
        for _ in range(1_000):
            await stream.write(bytes(100))
        await until(lambda: len(got) == 100_000)
        assert updates <= 10  # a thousand and more otherwise


@pytest.mark.parametrize("config", [MINIMAL.net, LIBRARY])
async def test_shield_frame_writes(networks: Any, until: Any, config: NetConfig) -> None:
    async with networks(2, config=config) as (one, two):
        reading = trio.Event()
        arrived = trio.Event()
        (slow,) = [connection.muxed_conn for connection in two.host.connections(one.peer_id)]
        (fast,) = [connection.muxed_conn for connection in one.host.connections(two.peer_id)]
        read = slow.secured_conn.read

        async def read_later(size: int | None = None) -> bytes:
            await reading.wait()
            return bytes(await read(size))

        async def serve(stream: Any) -> None:
            arrived.set()

        two.host.on_stream(PROBE, serve)
        slow.secured_conn.read = read_later
        ping = struct.pack(YAMUX_HEADER_FORMAT, 0, 2, 2, 0, 0)  # a PING answer: nothing happens on arrival
        data = struct.pack(YAMUX_HEADER_FORMAT, 0, 0, 0, 99_999, 65_536) + bytes(65_536)  # for no stream
        async with trio.open_nursery() as nursery:
            written = 0

            async def write_until_stuck() -> None:
                nonlocal written
                while True:
                    await fast._write_frame(data)
                    written += 1

            nursery.start_soon(write_until_stuck)
            before = -1
            while written != before:
                before = written
                await trio.sleep(0.3)
            assert fast._write_lock.locked()
            nursery.cancel_scope.cancel()
            reading.set()  # without the shield half a frame is all that ever comes
        await fast._write_frame(ping)
        with trio.fail_after(30):
            await one.host.open_stream(two.peer_id, PROBE)
            await arrived.wait()


async def test_verify_peer_record_once(networks: Any, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = 0
    real = pubsub_utils.consume_envelope

    def spy(*args: Any) -> Any:
        nonlocal verified
        verified += 1
        return real(*args)

    async with networks(2) as (one, two):
        inbox = await two.subscribe(TOPIC, accept)
        await until(lambda: one._gossip._service.peer_topics.get(TOPIC))
        monkeypatch.setattr(pubsub_utils, "consume_envelope", spy)
        for number in range(20):
            await one.publish(TOPIC, bytes([number]))
        with trio.fail_after(30):
            for _ in range(20):
                await anext(inbox)
        assert verified <= 2


async def test_verify_peer_record_once_when_the_dht_asks(
    networks: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = 0
    real = kad_utils.consume_envelope

    def spy(*args: Any) -> Any:
        nonlocal verified
        verified += 1
        return real(*args)

    rules = RecordRules(lambda _key, _value: None, lambda _key, _values: 0)
    async with networks(3) as nodes, AsyncExitStack() as stack:
        dhts = [await stack.enter_async_context(Libp2pDht.open(node, rules)) for node in nodes]
        await until(lambda: all(dht._kad.routing_table.get_peer_ids() for dht in dhts))
        monkeypatch.setattr(kad_utils, "consume_envelope", spy)
        for number in range(10):
            assert await dhts[0].get_record(f"/aw/world/w/{number}", timeout_s=5) is None
        assert verified <= 6  # each host two others
        verified = 0
        monkeypatch.setattr(library_faults, "RECORD_GOOD_S", 0)
        assert await dhts[0].get_record(KEY, timeout_s=5) is None
        assert verified  # what is good no longer


async def test_log_by_name(networks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    async with networks(2):
        pass
    assert logging.root.handlers == []


async def test_count_no_as_alive(networks: Any, stranger: Any, join: Any) -> None:
    async with networks(1) as (network,), stranger() as host:
        await join(host, network)
        del host.inner.multiselect.handlers[ping_probe.PING_PROTOCOL]
        (connection,) = network.host.connections(host.peer_id)
        answer = await ping_probe.ping_connection(connection, ping_timeout=5.0)
        assert (answer.success, answer.protocol_supported) == (True, False)


async def test_use_own_kad_protocol(networks: Any) -> None:
    rules = RecordRules(lambda _key, _value: None, lambda _key, _values: 0)
    async with networks(1) as (node,), Libp2pDht.open(node, rules):
        protocols = {str(protocol) for protocol in node.host.inner.get_mux().handlers}
        assert "/aw/kad/1.0.0" in protocols
        assert "/ipfs/kad/1.0.0" not in protocols


@pytest.mark.parametrize("error", [ValueError("x"), trio.TooSlowError(), StreamEOF(), ExceptionGroup("g", [OSError()])])
async def test_guard_stream_handlers(error: Exception, networks: Any, until: Any) -> None:
    async with networks(2) as (one, two):

        async def fail(_stream: Any) -> None:
            raise error

        async def answer(stream: Any) -> None:
            await stream.write(b"alive")

        two.host.on_stream(PROBE, fail)
        with suppress(Refused):  # the reset may come before the protocol is agreed
            await one.host.open_stream(two.peer_id, PROBE)
        await until(lambda: two.counters().get("stream_handler_failed", 0) >= 1)
        two.host.on_stream(PROBE, answer)
        with trio.fail_after(30):
            stream = await one.host.open_stream(two.peer_id, PROBE)
            assert await stream.read(5) == b"alive"


async def test_guard_stream_handlers_limits_the_streams_of_a_peer(networks: Any, until: Any) -> None:
    async with networks(2, config=attrs.evolve(MINIMAL.net, streams_per_peer_max=8)) as (one, two):

        async def hold(_stream: Any) -> None:
            await trio.sleep_forever()

        two.host.on_stream(PROBE, hold)
        async with trio.open_nursery() as nursery:

            async def open_one() -> None:
                with trio.move_on_after(5), suppress(Refused):
                    await one.host.open_stream(two.peer_id, PROBE)

            for _ in range(12):
                nursery.start_soon(open_one)
            await until(lambda: two.counters().get("stream_limit", 0) >= 4)


async def test_guard_stream_handlers_against_broken_gossip(networks: Any, stranger: Any, join: Any, until: Any) -> None:
    async with networks(2) as (one, two), stranger() as host:
        inbox = await two.subscribe(TOPIC, accept)
        await until(lambda: one._gossip._service.peer_topics.get(TOPIC))
        await join(host, two)
        for broken in (b"\xff\xff\xff", b"\x12\x7f" + bytes(20), bytes(range(256))):
            # The third may find the stranger banned already, as it should be.
            with suppress(Refused, *LOST):
                stream = await host.open_stream(two.peer_id, MESHSUB)
                await stream.write(framed(broken))
        await one.publish(TOPIC, b"alive")
        with trio.fail_after(30):
            assert (await anext(inbox)).data == b"alive"


async def test_guard_inbound_messages(networks: Any, stranger: Any, join: Any, until: Any) -> None:
    async with networks(2) as (one, two), stranger() as host:
        inbox = await two.subscribe(TOPIC, accept)
        await until(lambda: one._gossip._service.peer_topics.get(TOPIC))
        await join(host, two)
        stream = await host.open_stream(two.peer_id, MESHSUB)
        message = rpc_pb2.Message(
            data=b"x", topicIDs=[TOPIC], from_id=b"\x12\x20" + bytes(32), seqno=b"1", key=b"garbage", signature=b"x"
        )
        await stream.write(framed(rpc_pb2.RPC(publish=[message]).SerializeToString()))
        await until(lambda: two.counters().get("gossip_undecodable") == 1)
        await one.publish(TOPIC, b"alive")
        with trio.fail_after(30):
            assert (await anext(inbox)).data == b"alive"


async def test_guard_inbound_messages_bounds_what_waits(networks: Any) -> None:
    async with networks(1) as (node,):
        service = node._gossip._service
        for _ in range(1 + library_faults.GOSSIP_QUEUE_MAX + 7):  # the worker that waits takes the first at once
            service.manager.run_task(service.push_msg, library_id(node.peer_id), None)
        assert node.counters()["gossip_overflow"] == 7


async def test_stop_auto_connector(networks: Any, until: Any) -> None:
    async with networks(2) as (one, two):
        one.forget(two.peer_id)
        await one.disconnect(two.peer_id)
        one.host.network.auto_connector._recent_disconnects.clear()
        await one.host.network.auto_connector.maybe_connect()
        assert one.peers() == []
        assert not one.host.is_connected(two.peer_id)


async def test_open_streams_without_dialling(networks: Any, until: Any) -> None:
    async with networks(2) as (one, two):
        await until(lambda: one.host.is_identified(two.peer_id))
        one.forget(two.peer_id)
        await one.disconnect(two.peer_id)
        with pytest.raises(Exception, match="not connected"):
            await one.host.inner.new_stream(library_id(two.peer_id), [MESHSUB])
        assert not one.host.is_connected(two.peer_id)


async def test_forget_failed_dials(networks: Any, until: Any) -> None:
    async with networks(2, line=False) as (one, two):
        one.host.network._negative_peer_cache.mark_failed(two.peer_id)
        one.dial(two.peer_id, two.listen_addresses()[0])
        await until(lambda: one.peers())
        assert not one.host.network._negative_peer_cache.is_blocked(two.peer_id)


async def test_number_messages_from(networks: Any, until: Any, new_key: Any) -> None:
    key = new_key()
    async with networks(1) as (reader,):
        inbox = await reader.subscribe(TOPIC, accept)
        heard: list[bytes] = []
        for generation, count in ((0, 200), (1, 50)):
            async with Libp2pNetwork.open(MINIMAL.net, key) as publisher:
                publisher.dial(reader.peer_id, reader.listen_addresses()[0])
                service = publisher._gossip._service
                await until(lambda service=service: service.peer_topics.get(TOPIC))
                for number in range(count):
                    await publisher.publish(TOPIC, bytes([generation, number]))
                expected = len(heard) + count
                with trio.fail_after(30):
                    while len(heard) < expected:
                        heard.append((await anext(inbox)).data)
        assert len(set(heard)) == 250


async def test_announce_to_new_peers(networks: Any, until: Any) -> None:
    async with networks(2, line=False) as (one, two):
        new_stream = one.host.inner.new_stream

        async def new_stream_with_a_late_topic(peer: Any, protocols: Any) -> Any:
            stream = await new_stream(peer, protocols)
            if MESHSUB in protocols:
                write = stream.write

                async def write_after_joining(data: bytes) -> None:
                    stream.write = write
                    await one.subscribe(TOPIC, accept)
                    await write(data)

                stream.write = write_after_joining
            return stream

        one.host.inner.new_stream = new_stream_with_a_late_topic
        one.dial(two.peer_id, two.listen_addresses()[0])
        await until(lambda: two._gossip._service.peer_topics.get(TOPIC))


def router() -> GossipSub:
    return GossipSub(protocols=[MESHSUB], degree=6, degree_low=4, degree_high=12)


def test_count_dropped_messages() -> None:
    counters, gossipsub = Counters(), router()
    gossip_faults.count_dropped_messages(gossipsub, counters)
    gossipsub._handle_dropped_rpc(library_id(PeerId("12D3KooW9xCm2jWjNVrwh51SWCQBMYdMyeU3NpT85QhLVkF6PcNM")),
                                  rpc_pb2.RPC(), "queue_full")  # fmt: skip
    assert counters.snapshot() == {"gossip_queue_dropped": 1}


def test_trim_statistics() -> None:
    gossipsub = router()
    gossipsub.recent_message_deliveries["t"].append(1.0)
    gossipsub.recent_peer_connections.append(1.0)
    gossipsub.recent_peer_disconnections.append(1.0)
    gossip_faults.trim_statistics(gossipsub)
    assert not gossipsub.recent_message_deliveries
    assert not gossipsub.recent_peer_connections
    assert not gossipsub.recent_peer_disconnections


def test_whole_seconds() -> None:
    assert [library_faults.whole_seconds(value) for value in (0.1, 1, 1.2, 5.0)] == [1, 1, 2, 5]


def test_repair_library_once() -> None:
    library_faults.repair_library()
    assert library_faults.repair_library.cache_info().misses == 1

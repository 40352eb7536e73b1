import logging
from contextlib import suppress
from typing import Any

import pytest
import trio

from agent_world.errors import LocalError, Refused, RemoteError
from agent_world.net.libp2p import messages as module
from agent_world.net.libp2p.messages import MESSAGE_BYTES_MAX, QUEUED_MESSAGES_MAX, protocol_of
from agent_world.net.libp2p.streams import FrameReader, framed
from agent_world.wire.ids import PeerId

CHANNEL = "consensus"


async def test_messages_arrive_in_order_from_their_sender(networks: Any, until: Any) -> None:
    async with networks(2) as (one, two):
        got: list[int] = []

        async def take(source: PeerId, payload: bytes) -> None:
            assert source == one.peer_id
            got.append(int.from_bytes(payload, "big"))

        two.on_message(CHANNEL, take)
        for number in range(1_000):
            while not one.send(two.peer_id, CHANNEL, number.to_bytes(4, "big")):
                await until(lambda number=number: len(got) > number - QUEUED_MESSAGES_MAX)
        await until(lambda: len(got) == 1_000)
        assert got == list(range(1_000))
        assert protocol_of(CHANNEL) == "/aw/consensus/1.0.0"


async def test_the_largest_message_and_one_above_it(networks: Any, until: Any) -> None:
    async with networks(2) as (one, two):
        got: list[int] = []

        async def take(_source: PeerId, payload: bytes) -> None:
            got.append(len(payload))

        two.on_message(CHANNEL, take)
        assert one.send(two.peer_id, CHANNEL, bytes(MESSAGE_BYTES_MAX))
        await until(lambda: got == [MESSAGE_BYTES_MAX])
        with pytest.raises(LocalError):
            one.send(two.peer_id, CHANNEL, bytes(MESSAGE_BYTES_MAX + 1))


async def test_nothing_is_queued_for_who_is_not_connected(networks: Any) -> None:
    async with networks(2, line=False) as (one, two):
        assert not one.send(two.peer_id, CHANNEL, b"x")
        assert one.counters()["message_not_connected"] == 1


async def test_a_full_queue_says_so(networks: Any) -> None:
    async with networks(2) as (one, two):

        async def take(_source: PeerId, _payload: bytes) -> None:
            """Take."""

        two.on_message(CHANNEL, take)
        sent = [one._messages.send(two.peer_id, CHANNEL, b"x") for _ in range(QUEUED_MESSAGES_MAX + 5)]
        assert sent == [True] * QUEUED_MESSAGES_MAX + [False] * 5
        assert one.counters()["message_queue_full"] == 5


async def test_a_channel_the_peer_does_not_have_loses_the_messages_counted(networks: Any, until: Any) -> None:
    async with networks(2) as (one, two):
        assert one.send(two.peer_id, CHANNEL, b"x")
        await until(lambda: one.counters().get("message_lost") == 1)

        async def take(_source: PeerId, _payload: bytes) -> None:
            """Take."""

        two.on_message(CHANNEL, take)
        assert one.send(two.peer_id, CHANNEL, b"x")
        await until(lambda: two.counters().get("message_received") == 1)


async def test_handlers_that_fail_lose_only_their_message(
    networks: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with networks(2) as (one, two):
        got: list[bytes] = []

        async def take(_source: PeerId, payload: bytes) -> None:
            if payload == b"rule":
                raise RemoteError("C1", "no vote")
            if payload == b"bug":
                raise ZeroDivisionError
            got.append(payload)

        two.on_message(CHANNEL, take)
        with caplog.at_level(logging.CRITICAL):
            for payload in (b"rule", b"bug", b"good"):
                one.send(two.peer_id, CHANNEL, payload)
            await until(lambda: got == [b"good"])
        counters = two.counters()
        assert (counters["message_bad"], counters["message_handler_failed"]) == (1, 1)


async def test_a_slow_handler_loses_the_oldest_and_the_reading_goes_on(networks: Any, until: Any) -> None:
    async with networks(2) as (one, two):
        go_on = trio.Event()
        got: list[int] = []

        async def take(_source: PeerId, payload: bytes) -> None:
            await go_on.wait()
            got.append(int.from_bytes(payload[:4], "big"))

        two.on_message(CHANNEL, take)
        count = 2 * QUEUED_MESSAGES_MAX
        for number in range(count):
            payload = number.to_bytes(4, "big") + bytes(4_000)
            await until(lambda payload=payload: one._messages.send(two.peer_id, CHANNEL, payload))
        await until(lambda: two.counters().get("message_inbox_dropped", 0) >= count - QUEUED_MESSAGES_MAX - 1)
        go_on.set()
        await until(lambda: got[-1:] == [count - 1])
        assert got == sorted(got)
        assert len(got) < count


async def test_the_stream_is_opened_again_after_a_loss(networks: Any, until: Any) -> None:
    async with networks(2) as (one, two):
        got: list[bytes] = []

        async def take(_source: PeerId, payload: bytes) -> None:
            got.append(payload)

        two.on_message(CHANNEL, take)
        one.send(two.peer_id, CHANNEL, b"1")
        await until(lambda: got == [b"1"])
        for connection in one.host.connections(two.peer_id):
            for stream in connection.get_streams():
                if stream.get_protocol() == protocol_of(CHANNEL):
                    await stream.reset()
        await until(lambda: not two._messages._incoming)

        async def again() -> None:
            while got[-1] != b"2":
                one.send(two.peer_id, CHANNEL, b"2")
                await trio.sleep(0.02)

        with trio.fail_after(30):
            await again()


@pytest.mark.parametrize("closing", ["sender", "receiver", "replaced"])
async def test_no_message_after_a_reconnect_is_lost(networks: Any, until: Any, closing: str) -> None:
    """The kept stream is given up when its connection ends, not at the next write."""
    async with networks(2) as (one, two):
        got: list[bytes] = []

        async def take(_source: PeerId, payload: bytes) -> None:
            got.append(payload)

        two.on_message(CHANNEL, take)
        for round_ in range(4):
            assert one.send(two.peer_id, CHANNEL, bytes([round_]))
            await until(lambda round_=round_: got == [bytes([past]) for past in range(round_ + 1)])
            ups = one.counters()["connection_up"]
            match closing:
                case "sender":
                    await one.disconnect(two.peer_id)
                case "receiver":
                    await two.disconnect(one.peer_id)
                case _:
                    await one.connections._dial(one.connections._kept[two.peer_id])
            await until(lambda ups=ups: one.counters()["connection_up"] > ups and one.host.is_connected(two.peer_id))
        assert one.counters()["message_lost"] == 0


async def test_no_message_after_a_reset_is_lost(networks: Any, stranger: Any, until: Any) -> None:
    async with networks(1) as (node,), stranger(listen=True) as host:
        got: list[bytes] = []

        async def take_one(stream: Any) -> None:
            got.append(await FrameReader(stream).next(10))
            await stream.reset()

        host.on_stream(protocol_of(CHANNEL), take_one)
        node.dial(host.peer_id, host.listen_addresses()[0])
        await until(lambda: node.host.is_connected(host.peer_id))
        for round_ in range(4):
            assert node.send(host.peer_id, CHANNEL, bytes([round_]))
            await until(lambda round_=round_: got == [bytes([past]) for past in range(round_ + 1)])
            await until(lambda: not node._messages._outgoing)


async def test_a_peer_that_answers_on_a_message_stream_is_blamed(networks: Any, stranger: Any, until: Any) -> None:
    async with networks(1) as (node,), stranger(listen=True) as host:

        async def talk(stream: Any) -> None:
            await stream.write(framed(b"thanks"))
            await trio.sleep_forever()

        host.on_stream(protocol_of(CHANNEL), talk)
        node.dial(host.peer_id, host.listen_addresses()[0])
        await until(lambda: node.host.is_connected(host.peer_id))
        assert node.send(host.peer_id, CHANNEL, b"x")
        await until(lambda: node.counters().get("message_bad_frame") == 1)
        assert node.gate.score(host.peer_id) < 0
        await until(lambda: not node._messages._outgoing)


async def test_a_sender_that_breaks_the_framing_loses_its_stream(
    networks: Any, stranger: Any, join: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with networks(1) as (node,), stranger() as host:
        got: list[bytes] = []

        async def take(_source: PeerId, payload: bytes) -> None:
            got.append(payload)

        node.on_message(CHANNEL, take)
        await join(host, node)
        stream = await host.open_stream(node.peer_id, protocol_of(CHANNEL))
        with caplog.at_level(logging.ERROR):
            await stream.write(framed(b"good") + framed(bytes(MESSAGE_BYTES_MAX + 1))[:100])
            await until(lambda: node.counters().get("message_bad_frame") == 1)
        await until(lambda: got == [b"good"])


async def test_streams_of_one_peer_are_limited(networks: Any, stranger: Any, join: Any, until: Any) -> None:
    async with networks(1) as (node,), stranger() as host:

        async def take(_source: PeerId, _payload: bytes) -> None:
            """Take."""

        node.on_message(CHANNEL, take)
        await join(host, node)
        for _ in range(module.STREAMS_PER_PEER_MAX + 2):
            # A stream over the limit is reset, before or after the protocol is agreed upon.
            with suppress(Refused):
                await host.open_stream(node.peer_id, protocol_of(CHANNEL))
        await until(lambda: node.counters().get("message_stream_limit") == 2)

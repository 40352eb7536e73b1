import logging
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio

from agent_world.config import MINIMAL
from agent_world.errors import BlobNotFound, ErrorCode, Refused
from agent_world.net.interface import Verdict
from agent_world.net.libp2p import request_server
from agent_world.net.libp2p import requests as requests_module
from agent_world.net.libp2p.large_answers import BODY_PROTOCOL
from agent_world.net.libp2p.requests import KEPT_PROTOCOL
from agent_world.net.libp2p.streams import LOST, FrameReader, framed
from agent_world.wire import record
from agent_world.wire.ids import U32, U64, PeerId
from agent_world.wire.limits import RPC_BODY_BYTES_MAX, RPC_FRAME_BYTES_MAX, RPC_INLINE_BYTES_MAX
from agent_world.wire.rpc import RequestFrame, ResponseFrame

ECHO = "/aw/rr/1.0.0/echo"
SIZED = "/aw/rr/1.0.0/sized"


async def echo(_peer: PeerId, payload: bytes) -> bytes:
    return payload


async def sized(_peer: PeerId, payload: bytes) -> bytes:
    return bytes(int(payload))


async def never(_peer: PeerId, _payload: bytes) -> bytes:
    await trio.sleep_forever()
    raise AssertionError


def request_frame(number: int, payload: bytes = b"", method: str = ECHO) -> bytes:
    frame = RequestFrame(id=U64(number), method=method, payload=payload, deadline_ms=U32(5_000))
    return framed(record.to_bytes(frame))


async def read_to_the_end(stream: Any) -> None:
    while await stream.read(1000):
        pass


async def refusal(network: Any, peer: PeerId, method: str = ECHO, **options: float) -> Refused:
    with pytest.raises(Refused) as caught:
        await network.request(peer, method, b"", **options)
    return caught.value


async def test_ping_and_gossip_between_two(networks: Any) -> None:  # T-1.8
    with trio.fail_after(30):
        async with networks(2) as (one, two):
            two.serve(ECHO, echo)
            assert await one.request(two.peer_id, ECHO, b"ping") == b"ping"
            inbox = await two.subscribe("aw.w.head", lambda _source, _data: Verdict.ACCEPT)
            await one.publish("aw.w.head", b"news")
            message = await anext(inbox)
            assert (message.source, message.data) == (one.peer_id, b"news")


async def test_all_ten_codes_arrive_as_sent(networks: Any) -> None:  # T-1.7, T-1.13, K-1.1
    async with networks(2) as (one, two):
        for code in ErrorCode:

            async def refuse(_peer: PeerId, _payload: bytes, code: ErrorCode = code) -> bytes:
                raise Refused(code, "the reason", rule="A7", retryable=not code.retryable)

            two.serve(ECHO, refuse)
            error = await refusal(one, two.peer_id)
            assert (error.code, error.message, error.rule) == (code, "the reason", "A7")
            assert error.retryable is not code.retryable


async def test_handlers_that_fail_do_not_end_the_service(networks: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with networks(2) as (one, two):

        async def missing(_peer: PeerId, _payload: bytes) -> bytes:
            raise BlobNotFound("/home/secret")

        async def bug(_peer: PeerId, _payload: bytes) -> bytes:
            raise ZeroDivisionError("secret")

        two.serve("/missing", missing)
        two.serve("/bug", bug)
        two.serve(ECHO, echo)
        error = await refusal(one, two.peer_id, "/missing")
        assert error.code is ErrorCode.NOT_FOUND
        assert "secret" not in error.message
        with caplog.at_level(logging.CRITICAL):
            assert (await refusal(one, two.peer_id, "/bug")).code is ErrorCode.NOT_AVAILABLE
        assert (await refusal(one, two.peer_id, "/unknown")).code is ErrorCode.UNSUPPORTED
        assert two.counters()["request_handler_failed"] == 1
        assert await one.request(two.peer_id, ECHO, b"alive") == b"alive"


async def test_answers_of_all_sizes(networks: Any) -> None:
    async with networks(2) as (one, two):
        two.serve(SIZED, sized)
        for size in (0, RPC_INLINE_BYTES_MAX, RPC_INLINE_BYTES_MAX + 1, 1 << 20, 8 << 20, RPC_BODY_BYTES_MAX):
            assert await one.request(two.peer_id, SIZED, str(size).encode()) == bytes(size)
        assert one.counters()["request_body_stream"] == 4
        await one.request(two.peer_id, SIZED, b"10")  # asked on a body stream, answered small: back to the kept one
        await one.request(two.peer_id, SIZED, b"10")
        assert one.counters()["request_body_stream"] == 5


async def test_an_answer_above_the_largest_is_not_sent(networks: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with networks(2) as (one, two):
        two.serve(SIZED, sized)
        with caplog.at_level(logging.CRITICAL), pytest.raises(Refused) as caught:
            await one.request(two.peer_id, SIZED, str(RPC_BODY_BYTES_MAX + 1).encode())
        assert caught.value.code is ErrorCode.NOT_AVAILABLE


async def test_large_bodies_do_not_hold_up_small_requests(networks: Any) -> None:
    async with networks(2) as (one, two):
        two.serve(SIZED, sized)
        two.serve(ECHO, echo)
        await one.request(two.peer_id, SIZED, b"100000")
        ended = answered_meanwhile = 0

        async def large() -> None:
            nonlocal ended
            await one.request(two.peer_id, SIZED, str(8 << 20).encode())
            ended += 1

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(large)
            for number in range(20):
                assert await one.request(two.peer_id, ECHO, bytes([number])) == bytes([number])
                answered_meanwhile += ended < 4
        assert answered_meanwhile >= 5


async def test_the_deadline_holds_on_both_ends(networks: Any, until: Any) -> None:
    async with networks(2) as (one, two):
        two.serve(ECHO, never)
        started = trio.current_time()
        assert (await refusal(one, two.peer_id, timeout_s=0.2)).code is ErrorCode.TIMEOUT
        assert trio.current_time() - started < MINIMAL.net.request_timeout_s, "its own deadline, not that of all"
        await until(lambda: two.counters().get("request_deadline") == 1)  # the server gave up too
        two.serve(ECHO, echo)
        assert await one.request(two.peer_id, ECHO, b"next") == b"next"
        await until(lambda: one.counters().get("request_late_answer") == 1)


async def test_more_than_the_in_flight_limit_wait_their_turn(networks: Any) -> None:
    async with networks(2) as (one, two):
        running = most = 0

        async def count(_peer: PeerId, payload: bytes) -> bytes:
            nonlocal running, most
            running += 1
            most = max(most, running)
            # Only real time lets requests of two hosts overlap here.
            await trio.sleep(0.01)
            running -= 1
            return payload

        two.serve(ECHO, count)
        answers: list[bytes] = []

        async def ask(number: int) -> None:
            answers.append(await one.request(two.peer_id, ECHO, bytes([number])))

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(ask, number)
        assert sorted(answers) == [bytes([number]) for number in range(200)]
        assert most == MINIMAL.net.requests_in_flight_per_peer_max


async def test_not_connected_is_not_available_and_nobody_else_is_asked(networks: Any) -> None:  # K-1.2
    async with networks(2) as (one, two), networks(1) as (three,):
        for node in (one, two):
            node.serve(ECHO, echo)
        error = await refusal(one, three.peer_id)
        assert error.code is ErrorCode.NOT_AVAILABLE
        assert error.retryable
        assert (await refusal(one, one.peer_id)).code is ErrorCode.NOT_AVAILABLE
        assert two.counters().get("request_served", 0) == 0


async def test_a_peer_without_our_protocol_is_unsupported(networks: Any, stranger: Any, join: Any) -> None:
    async with networks(1) as (node,), stranger() as host:
        await join(host, node)
        assert (await refusal(node, host.peer_id)).code is ErrorCode.UNSUPPORTED


async def test_requests_in_flight_end_when_the_peer_goes(networks: Any, until: Any) -> None:
    async with networks(2) as (one, two):
        two.serve(ECHO, never)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _cut() -> None:
                await until(lambda: two.counters().get("request_served") == 1)
                await two.disconnect(one.peer_id)

            with trio.fail_after(30):
                assert (await refusal(one, two.peer_id, timeout_s=60)).code is ErrorCode.NOT_AVAILABLE


async def test_a_lost_stream_fails_what_is_in_flight_and_is_opened_again(networks: Any, until: Any) -> None:
    async with networks(2) as (one, two):
        two.serve(ECHO, never)
        two.serve(SIZED, sized)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _break() -> None:
                await until(lambda: two.counters().get("request_served") == 1)
                for connection in two.host.connections(one.peer_id):
                    for stream in connection.get_streams():
                        if stream.get_protocol() == KEPT_PROTOCOL:
                            await stream.reset()

            with trio.fail_after(30):
                assert (await refusal(one, two.peer_id, timeout_s=60)).code is ErrorCode.NOT_AVAILABLE
        assert await one.request(two.peer_id, SIZED, b"3") == bytes(3)


class Wrong:
    """A peer whose kept streams answer every request with given bytes, or never."""

    def __init__(self, host: Any, answer: bytes | None) -> None:
        self.answer = answer
        self.streams = 0
        host.on_stream(KEPT_PROTOCOL, self.serve)

    async def serve(self, stream: Any) -> None:
        self.streams += 1
        reader = FrameReader(stream)
        while await reader.next(RPC_FRAME_BYTES_MAX) is not None:
            if self.answer is not None:
                await stream.write(self.answer)


async def test_a_peer_that_never_answers_costs_only_the_deadline(
    networks: Any, stranger: Any, join: Any, until: Any
) -> None:
    async with networks(2) as (one, two), stranger() as host:
        silent = Wrong(host, None)
        two.serve(ECHO, echo)
        await join(host, one)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(one.request, host.peer_id, ECHO, b"", timeout_s=60))
            await until(lambda: silent.streams)
            assert await one.request(two.peer_id, ECHO, b"x") == b"x"  # while the other is still waited for
            assert len(nursery.child_tasks) == 1
            nursery.cancel_scope.cancel()
        started = trio.current_time()
        assert (await refusal(one, host.peer_id, timeout_s=0.2)).code is ErrorCode.TIMEOUT
        assert trio.current_time() - started < MINIMAL.net.request_timeout_s, "its own deadline, not that of all"


BOTH = ResponseFrame(id=U64(1), payload=b"", error=None, elsewhere=True)


@pytest.mark.parametrize(
    "answer",
    [framed(b"\x00garbage"), b"\xff" * 64, framed(bytes(RPC_FRAME_BYTES_MAX + 1))[:64], framed(record.to_bytes(BOTH))],
    ids=["garbage", "endless length", "oversized", "payload and elsewhere"],
)
async def test_a_peer_that_answers_wrongly_loses_its_stream(
    answer: bytes, networks: Any, stranger: Any, join: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with networks(1) as (node,), stranger() as host:
        wrong = Wrong(host, answer)
        await join(host, node)
        with caplog.at_level(logging.ERROR):
            for _ in range(2):
                error = await refusal(node, host.peer_id)
                assert error.code is ErrorCode.NOT_AVAILABLE
        assert node.counters()["request_bad_frame"] == 2
        assert wrong.streams == 2  # each time a new stream


async def test_answers_nobody_asked_for_are_counted(networks: Any, stranger: Any, join: Any, until: Any) -> None:
    stray = framed(record.to_bytes(ResponseFrame(id=U64(99), payload=b"", error=None, elsewhere=False)))
    async with networks(1) as (node,), stranger() as host:
        Wrong(host, stray)
        await join(host, node)
        assert (await refusal(node, host.peer_id, timeout_s=0.3)).code is ErrorCode.TIMEOUT
        assert node.counters()["request_late_answer"] == 1


GARBAGE, ENDLESS = framed(b"no request"), b"\xff" * 64
OVERSIZED = framed(bytes(RPC_FRAME_BYTES_MAX + 1))[:64]
TWICE = request_frame(1, method="/never") * 2


@pytest.mark.parametrize(
    ("protocol", "sent"),
    [
        (KEPT_PROTOCOL, GARBAGE),
        (KEPT_PROTOCOL, ENDLESS),
        (KEPT_PROTOCOL, OVERSIZED),
        (KEPT_PROTOCOL, TWICE),
        (BODY_PROTOCOL, GARBAGE),
        (BODY_PROTOCOL, ENDLESS),
        (BODY_PROTOCOL, OVERSIZED),
    ],
)
async def test_an_asker_that_breaks_the_framing_loses_its_stream(
    protocol: str, sent: bytes, networks: Any, stranger: Any, join: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with networks(2) as (one, node), stranger() as host:
        node.serve(ECHO, echo)
        node.serve("/never", never)
        await join(host, node)
        stream = await host.open_stream(node.peer_id, protocol)
        with caplog.at_level(logging.ERROR):
            await stream.write(sent)
            with trio.fail_after(30), pytest.raises(LOST):
                await read_to_the_end(stream)
        assert node.counters()["request_bad_frame"] == 1
        assert await one.request(node.peer_id, ECHO, b"alive") == b"alive"


async def test_above_the_limit_an_asker_is_told_busy(networks: Any, stranger: Any, join: Any) -> None:
    limit = MINIMAL.net.requests_in_flight_per_peer_max
    async with networks(1) as (node,), stranger() as host:
        node.serve(ECHO, never)
        await join(host, node)
        stream = await host.open_stream(node.peer_id, KEPT_PROTOCOL)
        await stream.write(b"".join(request_frame(number) for number in range(limit + 3)))
        reader = FrameReader(stream)
        for _ in range(3):
            data = await reader.next(RPC_FRAME_BYTES_MAX)
            assert data is not None
            answer = record.from_bytes(ResponseFrame, data, size_max=RPC_FRAME_BYTES_MAX)
            assert answer.error is not None
            assert answer.error.code is ErrorCode.BUSY
            assert answer.error.retryable


async def test_an_asker_that_reads_no_answers_loses_its_stream(
    networks: Any, stranger: Any, join: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_server, "ANSWERS_WAITING_MAX", 16)
    async with networks(2) as (one, node), stranger() as host:
        node.serve(ECHO, echo)
        await join(host, node)
        stream = await host.open_stream(node.peer_id, KEPT_PROTOCOL)

        async def flood() -> None:
            number = 0
            while True:
                await stream.write(request_frame(number, bytes(30_000)))
                number += 1

        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _flood() -> None:
                with pytest.raises(LOST):
                    await flood()

            await until(lambda: node.counters().get("request_slow_reader") == 1)
            assert await one.request(node.peer_id, ECHO, b"alive") == b"alive"


async def test_streams_of_one_peer_are_limited(networks: Any, stranger: Any, join: Any, until: Any) -> None:
    async with networks(1) as (node,), stranger() as host:
        await join(host, node)
        for _ in range(6):
            # A stream over the limit is reset, before or after the protocol is agreed upon.
            with suppress(Refused):
                await host.open_stream(node.peer_id, KEPT_PROTOCOL)
        await until(lambda: node.counters().get("request_stream_limit") == 2)


def test_methods_with_large_answers_are_remembered_within_a_bound() -> None:
    assert requests_module.LARGE_METHODS_MAX <= 1024

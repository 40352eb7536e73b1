"""net/libp2p/large_answers.py: streams for large answers are kept for the next, and lost ones cost nobody an answer."""

import logging
from typing import Any

import pytest
import trio

from agent_world.errors import ErrorCode, Refused
from agent_world.net.libp2p import large_answers, single_request
from agent_world.net.libp2p.large_answers import AT_ONCE_MAX, BODY_PROTOCOL
from agent_world.net.libp2p.requests import KEPT_PROTOCOL
from agent_world.net.libp2p.streams import FrameReader, end_stream, framed
from agent_world.wire import record
from agent_world.wire.ids import U64, PeerId
from agent_world.wire.limits import RPC_FRAME_BYTES_MAX
from agent_world.wire.rpc import RequestFrame, ResponseFrame

SIZED = "/aw/rr/1.0.0/sized"
LARGE = 100_000


async def sized(_peer: PeerId, payload: bytes) -> bytes:
    return bytes(int(payload))


async def ask(network: Any, peer: PeerId, size: int = LARGE, timeout_s: float = 5.0) -> None:
    assert await network.request(peer, SIZED, str(size).encode(), timeout_s=timeout_s) == bytes(size)


def open_streams(network: Any, peer: PeerId) -> int:
    streams = [stream for connection in network.host.connections(peer) for stream in connection.get_streams()]
    return sum(stream.get_protocol() == BODY_PROTOCOL for stream in streams)


async def test_one_stream_serves_many_questions_one_after_the_other(networks: Any) -> None:
    async with networks(2) as (one, two):
        two.serve(SIZED, sized)
        for size in (LARGE, 3 << 20, LARGE, 10, LARGE):
            await ask(one, two.peer_id, size)
            assert open_streams(one, two.peer_id) == open_streams(two, one.peer_id) == 1
        assert not one.counters().get("request_body_stream_gone")


async def test_a_few_questions_at_once_have_a_stream_each_and_the_others_wait(networks: Any) -> None:
    async with networks(2) as (one, two):
        running = most = 0

        async def counted(peer: PeerId, payload: bytes) -> bytes:
            nonlocal running, most
            running += 1
            most = max(most, running)
            # Only real time lets questions of two hosts overlap here.
            await trio.sleep(0.01)
            running -= 1
            return await sized(peer, payload)

        two.serve(SIZED, sized)
        await ask(one, two.peer_id)
        two.serve(SIZED, counted)
        async with trio.open_nursery() as nursery:
            for _ in range(5 * AT_ONCE_MAX):
                nursery.start_soon(ask, one, two.peer_id)
        assert most == open_streams(one, two.peer_id) == open_streams(two, one.peer_id) == AT_ONCE_MAX


async def test_an_unused_stream_is_closed(networks: Any, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_answers, "IDLE_S", 0.2)
    async with networks(2) as (one, two):
        two.serve(SIZED, sized)
        for _ in range(2):  # the second time whoever closes has to begin anew
            await ask(one, two.peer_id)
            await until(lambda: open_streams(one, two.peer_id) == open_streams(two, one.peer_id) == 0)
        assert "request_body_lost" not in two.counters()


async def test_a_stream_that_the_other_end_has_closed_costs_nobody_an_answer(
    networks: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_request, "REQUEST_WAIT_MAX_S", 0.2)
    async with networks(2) as (one, two):
        two.serve(SIZED, sized)
        await ask(one, two.peer_id)
        await until(lambda: open_streams(two, one.peer_id) == 0)
        await ask(one, two.peer_id)
        assert one.counters()["request_body_stream_gone"] == 1
        assert "request_body_lost" not in two.counters()


async def test_a_stream_that_was_lost_while_it_waited_costs_nobody_an_answer(networks: Any) -> None:
    async with networks(2) as (one, two):
        two.serve(SIZED, sized)
        await ask(one, two.peer_id)
        for connection in one.host.connections(two.peer_id):
            for stream in connection.get_streams():
                if stream.get_protocol() == BODY_PROTOCOL:
                    await stream.reset()
        await ask(one, two.peer_id)
        assert one.counters()["request_body_stream_gone"] == 1


async def test_a_stream_on_which_a_question_timed_out_is_not_used_again(networks: Any) -> None:
    async with networks(2) as (one, two):
        two.serve(SIZED, sized)
        await ask(one, two.peer_id)
        begun = trio.Event()

        async def slow(_peer: PeerId, payload: bytes) -> bytes:
            begun.set()
            await trio.sleep_forever()
            return payload

        two.serve(SIZED, slow)
        with pytest.raises(Refused) as caught:
            await ask(one, two.peer_id, timeout_s=0.2)
        assert caught.value.code is ErrorCode.TIMEOUT
        assert begun.is_set()
        two.serve(SIZED, sized)
        await ask(one, two.peer_id, LARGE + 1)


class Wrong:
    """A peer that has only large answers; ``number`` is what it adds to the question's number, ``end`` what becomes of
    a stream after one answer: "close" at once, "reset" at the next question, or nothing.
    """

    def __init__(self, host: Any, number: int, end: str = "") -> None:
        self._number = number
        self._end = end
        self.streams = 0
        host.on_stream(KEPT_PROTOCOL, self._elsewhere)
        host.on_stream(BODY_PROTOCOL, self._body)

    async def _elsewhere(self, stream: Any) -> None:
        reader = FrameReader(stream)
        while (data := await reader.next(RPC_FRAME_BYTES_MAX)) is not None:
            asked = record.from_bytes(RequestFrame, data, size_max=RPC_FRAME_BYTES_MAX)
            await self._send(stream, ResponseFrame(id=asked.id, payload=None, error=None, elsewhere=True))

    async def _body(self, stream: Any) -> None:
        self.streams += 1
        reader = FrameReader(stream)
        while (data := await reader.next(RPC_FRAME_BYTES_MAX)) is not None:
            asked = record.from_bytes(RequestFrame, data, size_max=RPC_FRAME_BYTES_MAX)
            number = U64(asked.id + self._number)
            await self._send(stream, ResponseFrame(id=number, payload=bytes(LARGE), error=None, elsewhere=False))
            if self._end == "reset":
                await reader.next(RPC_FRAME_BYTES_MAX)
            if self._end:
                break
        await end_stream(stream, politely=self._end != "reset")

    async def _send(self, stream: Any, response: ResponseFrame) -> None:
        await stream.write(framed(record.to_bytes(response)))


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_peer_that_ends_the_stream_after_every_answer(
    networks: Any, stranger: Any, join: Any, end: str
) -> None:
    """To close was what nodes did before streams were kept."""
    async with networks(1) as (node,), stranger() as host:
        old = Wrong(host, 0, end)
        await join(host, node)
        for _ in range(3):
            await ask(node, host.peer_id)
        assert old.streams == 3
        assert node.counters()["request_body_stream_gone"] == 2


async def test_an_answer_to_another_question_loses_the_stream(
    networks: Any, stranger: Any, join: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with networks(1) as (node,), stranger() as host:
        wrong = Wrong(host, 1)
        await join(host, node)
        with caplog.at_level(logging.ERROR):
            for _ in range(2):
                with pytest.raises(Refused) as caught:
                    await ask(node, host.peer_id)
                assert caught.value.code is ErrorCode.NOT_AVAILABLE
        assert node.counters()["request_bad_frame"] == wrong.streams == 2

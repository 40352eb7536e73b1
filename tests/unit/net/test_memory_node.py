import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from agent_world.config import NetConfig
from agent_world.errors import ErrorCode, LocalError, Refused, RemoteError, UsageError
from agent_world.net.interface import PeerUp, Verdict
from agent_world.net.memory import InMemoryNetwork, LinkSettings
from agent_world.net.memory_node import InMemoryNode
from agent_world.wire.ids import PeerId, PublicKey, peer_id_of
from agent_world.wire.limits import GOSSIP_BYTES_MAX

METHOD = "/aw/rr/1.0.0/test"


def peer(number: int) -> PeerId:
    return peer_id_of(PublicKey(bytes([number]) * 32))


@asynccontextmanager
async def pair(*, dialled: bool = True) -> AsyncIterator[tuple[InMemoryNetwork, InMemoryNode, InMemoryNode]]:
    config = NetConfig(inbox_messages_max=4, requests_in_flight_per_peer_max=2, redial_min_s=0.1, redial_max_s=1)
    hub = InMemoryNetwork(random.Random(1), LinkSettings(delay_min_s=0.01, delay_max_s=0.02), config=config)
    async with hub.open():
        one, two = hub.node(peer(1)), hub.node(peer(2))
        if dialled:
            one.dial(two.peer_id, two.listen_addresses()[0])
            await trio.sleep(0.5)
        yield hub, one, two


async def refusal(node: InMemoryNode, target: PeerId, **options: float) -> Refused:
    with pytest.raises(Refused) as caught:
        await node.request(target, METHOD, b"", **options)
    return caught.value


async def test_both_sides_see_the_connection(autojump_clock: object) -> None:
    async with pair() as (_, one, two):
        (seen,) = one.peers()
        assert (seen.peer, seen.address, seen.outbound) == (two.peer_id, two.listen_addresses()[0], True)
        (back,) = two.peers()
        assert (back.peer, back.outbound, back.latency_ms) == (one.peer_id, False, None)
        assert await anext(two.peer_events()) == PeerUp(one.peer_id, one.listen_addresses()[0], False)


async def test_addresses_are_tried_in_turn_until_one_is_right(autojump_clock: object) -> None:
    async with pair(dialled=False) as (_, one, two):
        one.dial(two.peer_id, "/ip4/10.9.9.9/tcp/1")
        await trio.sleep(3)
        assert one.peers() == []
        one.dial(two.peer_id, two.listen_addresses()[0])
        await trio.sleep(3)
        assert [info.peer for info in one.peers()] == [two.peer_id]


async def test_text_that_is_no_address_is_refused(autojump_clock: object) -> None:
    async with pair(dialled=False) as (_, one, two):
        with pytest.raises(UsageError):
            one.dial(two.peer_id, "10.0.0.2:4001")
        one.dial(one.peer_id, one.listen_addresses()[0])
        await trio.sleep(1)
        assert one.peers() == []


async def test_a_lost_connection_comes_back_unless_forgotten(autojump_clock: object) -> None:
    async with pair() as (_, one, two):
        await one.disconnect(two.peer_id)
        assert one.peers() == []
        await trio.sleep(2)
        assert len(one.peers()) == 1
        one.forget(two.peer_id)
        await one.disconnect(two.peer_id)
        await trio.sleep(10)
        assert one.peers() == []


async def test_request_and_answer(autojump_clock: object) -> None:
    async with pair() as (_, one, two):

        async def who(asker: PeerId, payload: bytes) -> bytes:
            return asker.encode() + payload

        two.serve(METHOD, who)
        assert await one.request(two.peer_id, METHOD, b"!") == one.peer_id.encode() + b"!"
        (info,) = one.peers()
        assert info.requests == 1
        assert info.latency_ms is not None
        assert 20 <= info.latency_ms <= 40


@pytest.mark.parametrize("code", ErrorCode)
async def test_every_code_arrives_as_sent(code: ErrorCode, autojump_clock: object) -> None:  # T-1.7, T-1.13
    async with pair() as (_, one, two):

        async def refuse(_peer: PeerId, _payload: bytes) -> bytes:
            raise Refused(code, "why", rule="A1", retryable=not code.retryable)

        two.serve(METHOD, refuse)
        error = await refusal(one, two.peer_id)
        assert (error.code, error.message, error.rule) == (code, "why", "A1")
        assert error.retryable is not code.retryable


async def test_who_is_not_connected_is_not_available_and_nobody_else_answers(autojump_clock: object) -> None:  # K-1.2
    async with pair() as (_, one, _two):

        async def own(_peer: PeerId, _payload: bytes) -> bytes:
            raise AssertionError("a node must not answer itself")

        one.serve(METHOD, own)
        assert (await refusal(one, peer(9))).code is ErrorCode.NOT_AVAILABLE
        assert (await refusal(one, one.peer_id)).code is ErrorCode.NOT_AVAILABLE


async def test_a_peer_that_does_not_answer_costs_the_deadline(autojump_clock: object) -> None:
    async with pair() as (_, one, two):

        async def never(_peer: PeerId, _payload: bytes) -> bytes:
            await trio.sleep_forever()
            raise AssertionError

        two.serve(METHOD, never)
        started = trio.current_time()
        error = await refusal(one, two.peer_id, timeout_s=2)
        assert error.code is ErrorCode.TIMEOUT
        assert trio.current_time() - started == pytest.approx(2)
        await trio.sleep(1)
        assert one.counters()["request_late_answer"] == 1  # the peer's own deadline told it too, a little later


async def test_requests_in_flight_end_with_the_connection(autojump_clock: object) -> None:
    async with pair() as (hub, one, two):

        async def never(_peer: PeerId, _payload: bytes) -> bytes:
            await trio.sleep_forever()
            raise AssertionError

        two.serve(METHOD, never)

        async def cut() -> None:
            await trio.sleep(0.5)
            hub.disconnect(one.peer_id, two.peer_id)

        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut)
            assert (await refusal(one, two.peer_id, timeout_s=100)).code is ErrorCode.NOT_AVAILABLE
        assert trio.current_time() - started == pytest.approx(0.5)


async def test_too_many_in_flight_is_busy(autojump_clock: object) -> None:
    async with pair() as (_, one, two):

        async def slow(_peer: PeerId, _payload: bytes) -> bytes:
            await trio.sleep(1)
            return b""

        two.serve(METHOD, slow)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.request, two.peer_id, METHOD, b"")
            nursery.start_soon(one.request, two.peer_id, METHOD, b"")
            await trio.sleep(0.1)
            assert (await refusal(one, two.peer_id)).code is ErrorCode.BUSY


async def test_inbox_is_bounded_and_each_subscriber_has_its_own(autojump_clock: object) -> None:  # T-1.4, K-1.5
    async with pair() as (_, one, two):
        inboxes = [await two.subscribe("t", lambda _source, _data: Verdict.ACCEPT) for _ in range(2)]
        for number in range(6):
            await one.publish("t", bytes([number]))
            await trio.sleep(0.1)
        for inbox in inboxes:
            assert [message.data[0] for message in inbox.drain()] == [2, 3, 4, 5]
        assert two.counters()["gossip_inbox_dropped"] == 4


async def test_messages_arrive_in_order_and_bad_ones_are_counted(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair() as (_, one, two):
        got: list[bytes] = []

        async def take(source: PeerId, payload: bytes) -> None:
            assert source == one.peer_id
            if payload == b"rule":
                raise RemoteError("C1", "no vote")
            if payload == b"bug":
                raise ZeroDivisionError
            got.append(payload)

        two.on_message("votes", take)
        with caplog.at_level(logging.CRITICAL):
            for payload in (b"1", b"rule", b"2", b"bug"):
                assert one.send(two.peer_id, "votes", payload)
            await trio.sleep(1)
            assert one.send(two.peer_id, "votes", b"3")
            assert one.send(two.peer_id, "other", b"x")
            await trio.sleep(1)
        assert got == [b"1", b"2", b"3"]
        counters = two.counters()
        assert (counters["message_bad"], counters["message_handler_failed"]) == (1, 1)
        assert counters["message_unsupported"] == 1
        assert not one.send(peer(9), "votes", b"x")


async def test_a_slow_taker_loses_the_oldest(autojump_clock: object) -> None:
    async with pair() as (_, one, two):
        got: list[int] = []

        async def slow(_peer: PeerId, payload: bytes) -> None:
            await trio.sleep(1)
            got.append(payload[0])

        two.on_message("votes", slow)
        for number in range(10):
            one.send(two.peer_id, "votes", bytes([number]))
        await trio.sleep(20)
        assert got[-4:] == [6, 7, 8, 9]
        assert two.counters()["message_inbox_dropped"] == 10 - len(got) > 0


async def test_sizes_are_the_caller_s_business(autojump_clock: object) -> None:
    async with pair() as (_, one, two):
        too_much = bytes(GOSSIP_BYTES_MAX + 1)
        with pytest.raises(LocalError):
            await one.publish("t", too_much)
        with pytest.raises(LocalError):
            one.send(two.peer_id, "votes", too_much)
        with pytest.raises(LocalError):
            await one.request(two.peer_id, METHOD, too_much)

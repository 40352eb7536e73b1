import gc
import os
import threading
from typing import Any

import pytest
import trio

from agent_world.config import MINIMAL
from agent_world.net.interface import PeerUp, Verdict
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.wire.ids import PeerId

ECHO = "/aw/rr/1.0.0/echo"


def busy_threads() -> list[str]:
    """Names of threads; without those that trio keeps for ten seconds after their work, which end by chance."""
    return sorted(name for thread in threading.enumerate() if not (name := thread.name).startswith("Trio thread "))


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def settled_tasks() -> int:
    for _ in range(20):
        await trio.lowlevel.checkpoint()
    return trio.lowlevel.current_statistics().tasks_living


async def test_nothing_is_left_behind(networks: Any, until: Any) -> None:
    async def use() -> None:
        async with networks(3) as (one, two, three):

            async def echo(_peer: PeerId, payload: bytes) -> bytes:
                return payload

            async def take(_peer: PeerId, _payload: bytes) -> None:
                """Take."""

            for node in (one, two, three):
                node.serve(ECHO, echo)
                node.on_message("votes", take)
                await node.subscribe("aw.w.head", lambda _source, _data: Verdict.ACCEPT)
            await one.request(two.peer_id, ECHO, b"x")
            await two.request(three.peer_id, ECHO, b"x")
            one.send(two.peer_id, "votes", b"x")
            await one.publish("aw.w.head", b"x")

    await use()  # the first run loads what is loaded once
    before = (await settled_tasks(), busy_threads(), open_files())
    for _ in range(3):
        await use()
    gc.collect()
    assert (await settled_tasks(), busy_threads(), open_files()) == before


async def test_leaving_ends_what_waits(networks: Any, new_key: Any) -> None:
    async with Libp2pNetwork.open(MINIMAL.net, new_key()) as node:
        events = node.peer_events()
        inbox = await node.subscribe("aw.w.head", lambda _source, _data: Verdict.ACCEPT)
    with trio.fail_after(30):
        assert [event async for event in events] == []
        assert [message async for message in inbox] == []


async def test_leaving_is_quick_with_requests_in_flight_and_peers_see_it(networks: Any, until: Any) -> None:
    async with networks(1) as (one,):
        served = trio.Event()

        async def never(_peer: PeerId, _payload: bytes) -> bytes:
            served.set()
            await trio.sleep_forever()
            raise AssertionError

        one.serve(ECHO, never)
        events = one.peer_events()
        async with networks(1) as (two,), trio.open_nursery() as nursery:
            two.dial(one.peer_id, one.listen_addresses()[0])
            assert isinstance(await anext(events), PeerUp)
            await until(lambda: two.peers())
            nursery.start_soon(two.request, one.peer_id, ECHO, b"")
            await served.wait()
            nursery.cancel_scope.cancel()
            started = trio.current_time()
        assert trio.current_time() - started < 2
        await until(lambda: not one.peers())


async def test_cancelling_from_outside_closes_too(new_key: Any) -> None:
    threads = busy_threads()
    with trio.CancelScope() as scope:
        async with Libp2pNetwork.open(MINIMAL.net, new_key()) as node:
            address = node.listen_addresses()[0]
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert busy_threads() == threads
    with pytest.raises(OSError, match=r"connect"):
        await trio.open_tcp_stream("127.0.0.1", int(address.rsplit("/", 1)[1]))


async def test_a_task_that_fails_is_counted_and_ends_nothing_else(
    networks: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with networks(2) as (one, two):

        async def fail() -> None:
            raise ZeroDivisionError

        with caplog.at_level("CRITICAL"):
            one._messages._start(fail)
            await until(lambda: one.counters().get("task_failed") == 1)
        assert [info.peer for info in one.peers()] == [two.peer_id]

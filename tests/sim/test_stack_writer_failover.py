"""Stack tier: another writer takes over, and the old one learns it (T-8.7, T-9.7, K-8.9)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import attrs
import trio
from replicating import CONFIG, covered, index, open_checked, put, take_lease, until_covered, until_same_place

from agent_world.config import LeaseConfig
from agent_world.handlers.replication import open_offered
from agent_world.net.interface import RequestHandler
from agent_world.testing.stack import Stack
from agent_world.wire import record, rpc
from agent_world.wire.ids import PeerId
from agent_world.wire.replication import OfferRecordRequest, RecordOutcome

REST = ("v2", "v3", "v4", "s1")


async def until_free(stack: Stack, name: str) -> None:
    await stack.until(lambda: stack.node(name).replication.log.committed_lease()[1] is None, "the lease has run out")


async def test_a_writer_that_stops_is_followed_by_another(tmp_path: Path, autojump_clock: object) -> None:
    async with open_checked(tmp_path) as (stack, checker):
        await stack.start_all()
        await take_lease(stack, "v1")
        first = stack.node("v1").ledger.height
        put(stack, "v1", "file", b"by v1")
        await until_covered(stack, first + 5)
        await stack.stop("v1")
        await until_free(stack, "v2")
        assert await take_lease(stack, "v2") == 2
        put(stack, "v2", "file", b"by v2")
        await until_covered(stack, stack.top() + 5)
        guard = stack.node("o1").replication.store.guard()
        assert (guard.writer_id, guard.writer_epoch) == ("v2", 2)
        # Heights that nobody wrote while there was no writer have their records too.
        checker.covered("o1", first, covered(stack, "o1"))
        await stack.start("v1")
        await until_covered(stack, stack.top() + 3)
        await until_same_place(stack)
        checker.one_log(stack.members)
        assert not stack.status("v1")["replication"]["writes"]
        assert set(index(stack, "v1")) == {"file"}


async def test_a_writer_that_was_cut_off_is_refused_everywhere_and_follows(
    tmp_path: Path, autojump_clock: object
) -> None:
    """v1 and an observer are cut off, and v1's clock is late: it believes in its lease, writes on, and comes back."""
    config = attrs.evolve(CONFIG, net=attrs.evolve(CONFIG.net, hello_interval_s=5.0))
    async with open_checked(tmp_path, config=config) as (stack, checker):
        await stack.start_all()
        await take_lease(stack, "v1")
        first = stack.node("v1").ledger.height
        put(stack, "v1", "both", b"old")
        await until_covered(stack, first + 8)
        await until_same_place(stack)
        stack.clock_error_ms["v1"] = -3_600_000
        stack.hub.partition(stack.peers("v1", "o1"), stack.peers(*REST))
        await until_free(stack, "v2")
        assert await take_lease(stack, "v2") == 2
        await until_covered(stack, stack.top() + 4, *REST)
        put(stack, "v1", "both", b"void")
        put(stack, "v1", "only v1", b"void")
        await stack.until(lambda: set(index(stack, "o1")) == {"both", "only v1"}, "the observer cannot know better")
        assert stack.node("o1").replication.store.guard().writer_epoch == 1
        late = stack.node("v1").replication.store.records_after((0, 0))[-1]
        told = trio.Event()

        async def later(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
            await told.wait()
            return await handler(peer, data)

        for name in REST:  # so that v1 does not learn it from the chain first
            stack.network(name).lie(rpc.GET_BLOCKS, later)
        before = {name: stack.node(name).replication.log.place() for name in REST}
        stack.hub.heal()
        put(stack, "v1", "after", b"void too")
        await stack.until(lambda: stack.node("v1").replication.publisher.superseded_by is not None, "v1 is told")
        assert stack.node("v1").replication.publisher.superseded_by == (2, "v2")
        assert not stack.status("v1")["replication"]["writes"]
        assert stack.node("v1").replication.log.committed_lease()[0] == 1
        assert stack.counters("v1")["replication.stopped_superseded"] == 1
        told.set()
        await until_covered(stack, stack.top() + 4)
        await until_same_place(stack)
        checker.one_log(stack.members)
        # Its message is refused by everybody, with the current term and holder (typed).
        offer = record.to_bytes(OfferRecordRequest(record=late))
        for name in (*REST, "o1"):
            shown = open_offered(
                await stack.network("v1").request(stack.members[name].peer_id, rpc.OFFER_RECORD, offer)
            )
            assert (shown.outcome, shown.term, shown.holder_id) == (RecordOutcome.SUPERSEDED, 2, "v2"), name
        assert all(stack.node(name).replication.log.place() > before[name] for name in REST)
        for name in stack.members:
            assert index(stack, name).keys() == {"both"}
            checker.covered(name, first, stack.top() - 3)
        assert stack.node("o1").replication.store.voided >= 2
        assert stack.agree()


async def test_a_writer_that_is_cut_off_stops_when_its_lease_is_over_by_its_own_clock(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_checked(tmp_path) as (stack, _checker):
        await stack.start_all()
        await take_lease(stack, "v1")
        await until_covered(stack, stack.top() + 3)
        stack.hub.partition(stack.peers("v1", "o1"), stack.peers(*REST))
        assert stack.status("v1")["replication"]["writes"]
        await trio.sleep(5)
        log = stack.node("v1").replication.log
        assert log.committed_lease() == (1, "v1")  # no block has said otherwise
        assert not stack.status("v1")["replication"]["writes"]
        assert stack.counters("v1")["replication.not_writing"] >= 1


async def test_a_writer_that_lost_its_log_gives_no_place_twice(tmp_path: Path, autojump_clock: object) -> None:
    """As after a reset of the home, or with an older copy of it: the lease is still its own."""
    async with open_checked(tmp_path, config=attrs.evolve(CONFIG, lease=LeaseConfig(ttl_ms=30_000))) as (
        stack,
        checker,
    ):
        await stack.start_all()
        await take_lease(stack, "v1")
        put(stack, "v1", "file", b"data")
        await until_covered(stack, stack.top() + 8)
        await until_same_place(stack)
        place = stack.node("v1").replication.log.place()
        await stack.stop("v1")
        with closing(sqlite3.connect(stack.members["v1"].home / "world.db")) as database, database:
            for table in ("replication_records", "replication_guard", "file_index"):
                database.execute(f"DELETE FROM {table}")
        await stack.start("v1")
        assert stack.node("v1").replication.log.place() == (0, 0)
        put(stack, "v1", "later", b"later")
        await until_covered(stack, stack.top() + 4)
        await until_same_place(stack)
        assert stack.node("v1").replication.log.place() > place
        checker.one_log(stack.members)
        assert index(stack, "o1").keys() == {"file", "later"}
        assert not any(stack.counters(name).get("replication.two_for_one_place") for name in stack.members)


async def test_a_new_writer_gets_what_its_neighbours_have_before_it_writes(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_checked(tmp_path) as (stack, _checker):
        await stack.start_all()
        await take_lease(stack, "v1")
        await until_covered(stack, stack.top() + 5)
        node = stack.node("v2").replication
        node.log.take = lambda _data, _source: RecordOutcome.KNOWN  # type: ignore[method-assign]
        ask = node.follower._ask_one

        async def ask_if_it_seeks() -> None:
            if node.follower.is_seeking:
                await ask()

        node.follower._ask_one = ask_if_it_seeks  # type: ignore[method-assign]  # nothing else comes to it
        put(stack, "v1", "last", b"last")
        await stack.until(lambda: "last" in index(stack, "o1"), "others have it")
        assert "last" not in index(stack, "v2")
        await stack.stop("v1")
        await until_free(stack, "v2")
        await take_lease(stack, "v2")
        await until_covered(stack, stack.top() + 2)
        assert all(stack.node(name).replication.store.voided == 0 for name in ("v2", "v3", "v4", "s1", "o1"))
        assert "last" in index(stack, "v2")

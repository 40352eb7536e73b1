from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from agent_world.config import BatchRules, LeaseConfig, MempoolConfig
from agent_world.errors import ErrorCode, Refused
from agent_world.node.clock import Clock
from agent_world.node.filing import Filing
from agent_world.node.lease_keeper import LeaseKeeper, lease_of
from agent_world.node.pool import ActionPool
from agent_world.testing.ledger_chain import BLOCK_MS, LedgerChain
from agent_world.testing.node_swarm import make_key
from agent_world.wire.ids import U64, ValidatorId
from agent_world.wire.lease import AcquireLease

TTL_MS = 10 * BLOCK_MS


class Node:
    """The one validator of a world, whose blocks come when told and whose wall clock is their time and an error."""

    def __init__(self, chain: LedgerChain, *, keep: bool) -> None:
        self.chain = chain
        self.error_ms = 0
        clock = Clock(lambda: chain.ledger.timestamp_ms + self.error_ms)
        self.pool = ActionPool(chain.ledger, MempoolConfig(), clock)
        self.filing = Filing(chain.ledger, self.pool, clock, chain.voter)
        self.keeper = LeaseKeeper(chain.ledger, self.filing, clock, LeaseConfig(keep=keep, ttl_ms=TTL_MS))
        self.told: list[int] = []
        self.keeper.superseded = self.told.append

    async def commit(self, count: int = 1) -> None:
        for _ in range(count):
            batch = self.pool.batch(BatchRules())
            actions = [action for item in batch.actions if (action := self.pool.get(item.action_id)) is not None]
            self.chain.commit(*actions)
            self.pool.committed(self.chain.ledger.last_actions)
            await trio.testing.wait_all_tasks_blocked()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.keeper.run)
            await trio.testing.wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()


async def test_a_keeper_takes_the_free_lease_and_renews_it_in_time(empty_chain: LedgerChain) -> None:
    node = Node(empty_chain, keep=True)
    async with node.running():
        with pytest.raises(Refused) as caught:
            node.keeper.fencing_term()
        assert caught.value.code is ErrorCode.UNAUTHORIZED
        await node.commit(60)
        assert node.keeper.fencing_term() == 1
        assert node.keeper.status() == {"held_here": True, "keeps_it": True}
    assert (node.told, node.keeper.counters["lease.held"]) == ([], 1)
    assert 10 <= node.keeper.counters["lease.asked"] <= 13


async def test_who_is_not_to_keep_it_does_not_ask(empty_chain: LedgerChain) -> None:
    node = Node(empty_chain, keep=False)
    async with node.running():
        await node.commit(5)
    assert lease_of(empty_chain.ledger)["term"] == 0


async def test_a_writer_whose_lease_ran_out_is_told(empty_chain: LedgerChain) -> None:
    node = Node(empty_chain, keep=False)
    async with node.running():
        empty_chain.do(empty_chain.voter, AcquireLease(ttl_ms=U64(3 * BLOCK_MS)))
        await node.commit()
        assert (node.keeper.fencing_term(), node.told) == (1, [])
        await node.commit(3)
        assert node.told == [1]
        with pytest.raises(Refused):
            node.keeper.fencing_term()
        shown = lease_of(empty_chain.ledger)
        assert (shown["term"], shown["holder_id"]) == (1, None)


async def test_acquiring_and_releasing_by_word(empty_chain: LedgerChain) -> None:
    node = Node(empty_chain, keep=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.keeper.acquire)
        await trio.testing.wait_all_tasks_blocked()
        await node.commit()
    assert node.keeper.fencing_term() == 1
    node.keeper.keep = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.keeper.release)
        await trio.testing.wait_all_tasks_blocked()
        await node.commit()
    assert node.keeper.status() == {"held_here": False, "keeps_it": False}
    with pytest.raises(Refused):
        await node.keeper.release()


async def ask(node: Node, asking: Callable[[], Awaitable[object]]) -> None:
    """Have a block take what is asked for."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asking)
        await trio.testing.wait_all_tasks_blocked()
        await node.commit()


async def test_who_was_not_granted_the_lease_does_not_go_on_asking(tmp_path: Path) -> None:
    other = make_key("another writer")
    with LedgerChain(tmp_path / "home", others={ValidatorId("v2"): other}) as chain:
        node = Node(chain, keep=False)
        chain.do(other, AcquireLease(ttl_ms=U64(4 * BLOCK_MS)))
        await ask(node, partial(node.keeper.acquire, keep=True))
        assert node.keeper.status() == {"held_here": False, "keeps_it": False}
        async with node.running():
            await node.commit(8)
        assert lease_of(chain.ledger)["term"] == 1


async def test_a_lease_that_is_held_here_already_is_kept_from_now_on(empty_chain: LedgerChain) -> None:
    node = Node(empty_chain, keep=False)
    await ask(node, node.keeper.acquire)
    assert await node.keeper.acquire(keep=True) is None
    async with node.running():
        await node.commit(30)
        assert node.keeper.fencing_term() == 1


async def test_who_does_not_hold_the_lease_can_still_stop_asking_for_it(tmp_path: Path) -> None:
    other = make_key("another writer")
    with LedgerChain(tmp_path / "home", others={ValidatorId("v2"): other}) as chain:
        node = Node(chain, keep=True)
        chain.do(other, AcquireLease(ttl_ms=U64(4 * BLOCK_MS)))
        with pytest.raises(Refused):
            await node.keeper.release()
        assert not node.keeper.keep


async def test_a_clock_that_is_behind_does_not_cost_the_lease(empty_chain: LedgerChain) -> None:
    node = Node(empty_chain, keep=True)
    node.error_ms = -3_600_000
    async with node.running():
        await node.commit(60)
        assert node.keeper.fencing_term() == 1

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from agent_world.config import BatchRules, MempoolConfig
from agent_world.crypto.hashing import actor_id_of
from agent_world.errors import ErrorCode, Refused
from agent_world.node.clock import Clock
from agent_world.node.filing import WAITING_MAX, Filing
from agent_world.node.pool import ActionPool
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.stack import GENESIS_TIME_MS, make_key
from agent_world.wire.ids import U64, Hash32
from agent_world.wire.lease import AcquireLease

ACQUIRE = AcquireLease(ttl_ms=U64(5_000))


class Node:
    """A validator that puts whatever waits into a block when told to."""

    def __init__(self, chain: LedgerChain) -> None:
        self.chain = chain
        clock = Clock(lambda: GENESIS_TIME_MS)
        self.pool = ActionPool(chain.ledger, MempoolConfig(), clock)
        self.filing = Filing(chain.ledger, self.pool, clock, chain.voter)
        self.told: list[Hash32] = []
        self.filing.admitted = self.told.append

    def commit(self) -> None:
        batch = self.pool.batch(BatchRules())
        actions = [action for item in batch.actions if (action := self.pool.get(item.action_id)) is not None]
        self.chain.commit(*actions)
        self.pool.committed(self.chain.ledger.last_actions)


@pytest.fixture
def node(empty_chain: LedgerChain) -> Node:
    return Node(empty_chain)


@asynccontextmanager
async def filed(node: Node, count: int = 1, timeout_s: float = 100) -> AsyncIterator[list[object]]:
    """Payloads on their way; what came of them once the block ends."""
    results: list[object] = []

    async def one() -> None:
        try:
            results.append(await node.filing.file(ACQUIRE, timeout_s=timeout_s))
        except Refused as error:
            results.append(error.code)

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        yield results


async def test_an_action_is_signed_told_and_waited_for(node: Node, autojump_clock: object) -> None:
    async with filed(node) as results:
        assert len(node.told) == 1
        node.commit()
    ((action_id, height, receipt),) = results  # type: ignore[misc]
    assert (action_id, height, receipt.code) == (node.told[0], 1, "ok")
    assert node.filing.counters["filing.committed"] == 1


async def test_one_after_the_other_each_with_the_next_nonce(node: Node, autojump_clock: object) -> None:
    async with filed(node, 3) as results:
        for _ in range(3):
            node.commit()
            await trio.testing.wait_all_tasks_blocked()
    assert [receipt.code for _, _, receipt in results] == ["ok", "lease_held", "lease_held"]  # type: ignore[misc]
    assert node.chain.ledger.next_nonce(actor_id_of(node.chain.voter.public_key)) == 4


async def test_what_no_block_takes_in_time(node: Node, autojump_clock: object) -> None:
    async with filed(node, timeout_s=5) as results:
        pass
    assert results == [ErrorCode.TIMEOUT]
    assert node.filing.counters["filing.timeout"] == 1


async def test_an_action_that_the_pool_lost_is_handed_in_again(node: Node, autojump_clock: object) -> None:
    async with filed(node) as results:
        node.pool.mempool.on_committed([])
        lost = ActionPool(node.chain.ledger, MempoolConfig(), Clock(lambda: GENESIS_TIME_MS))
        node.pool.mempool, node.pool._opened = lost.mempool, {}
        node.commit()
        await trio.testing.wait_all_tasks_blocked()
        node.commit()
    assert results[0][2].code == "ok"  # type: ignore[index]


async def test_a_nonce_that_another_process_took_is_noticed(node: Node, autojump_clock: object) -> None:
    async with filed(node) as results:
        for number in range(3):
            other = node.chain.sign(node.chain.voter, AcquireLease(ttl_ms=U64(number + 1)))
            node.chain.commit(other)
            node.pool.committed(node.chain.ledger.last_actions)
            await trio.testing.wait_all_tasks_blocked()
    assert results == [ErrorCode.STATE_MISMATCH]
    assert node.filing.counters["filing.nonce_taken"] == 3


async def test_a_key_that_no_block_knows(node: Node, autojump_clock: object) -> None:
    node.filing.key = make_key("a newcomer")
    async with filed(node) as results:
        pass
    assert results == [ErrorCode.UNAUTHORIZED]


async def test_not_too_many_wait(node: Node, autojump_clock: object) -> None:
    async with filed(node, WAITING_MAX + 3, timeout_s=5) as results:
        assert results == [ErrorCode.BUSY, ErrorCode.BUSY]
    assert results.count(ErrorCode.TIMEOUT) == WAITING_MAX + 1

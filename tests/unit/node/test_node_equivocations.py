from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from agent_world.config import BatchRules, MempoolConfig
from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, sign_record
from agent_world.node.clock import Clock
from agent_world.node.equivocations import TELL_HEIGHTS, Equivocations
from agent_world.node.filing import Filing
from agent_world.node.pool import ActionPool
from agent_world.store.evidence import EvidenceBook
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.stack import GENESIS_TIME_MS, WORLD_ID, make_key
from agent_world.wire.consensus import Step, Vote
from agent_world.wire.ids import U32, U64


class Gossip:
    """Notes what is published."""

    def __init__(self) -> None:
        self.topics: list[str] = []

    async def publish(self, topic: str, _data: bytes) -> None:
        self.topics.append(topic)


class Node:
    """The one validator of a world, which has contradicted itself."""

    def __init__(self, chain: LedgerChain, *, votes: bool = True) -> None:
        self.chain = chain
        self.gossip = Gossip()
        clock = Clock(lambda: GENESIS_TIME_MS)
        self.pool = ActionPool(chain.ledger, MempoolConfig(), clock)
        self.seen = Equivocations(chain.ledger, EvidenceBook(chain.home), self.gossip)  # type: ignore[arg-type]
        if votes:
            self.seen.filing = Filing(chain.ledger, self.pool, clock, chain.voter)

    def vote(self, choice: bytes, *, round: int = 0, key: KeyPair | None = None) -> bytes:
        vote = Vote(world_id=WORLD_ID, height=U64(1), round=U32(round), step=Step.PREVOTE, block_hash=hash32(choice))
        return sign_record(Domain.VOTE, self.chain.genesis_hash, vote, key or self.chain.voter)

    async def commit(self) -> None:
        batch = self.pool.batch(BatchRules())
        actions = [action for item in batch.actions if (action := self.pool.get(item.action_id)) is not None]
        self.chain.commit(*actions)
        self.pool.committed(self.chain.ledger.last_actions)
        await trio.testing.wait_all_tasks_blocked()


async def running(node: Node, test: Callable[[], object]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.seen.run)
        await trio.testing.wait_all_tasks_blocked()
        await test()  # type: ignore[misc]
        nursery.cancel_scope.cancel()


async def test_found_kept_told_and_brought_into_a_block(empty_chain: LedgerChain, autojump_clock: object) -> None:
    node = Node(empty_chain)

    async def see() -> None:
        node.seen.found(node.vote(b"a"), node.vote(b"b"))
        await trio.testing.wait_all_tasks_blocked()
        assert node.gossip.topics == [f"aw.{WORLD_ID}.consensus.evidence"]
        assert node.seen.status()["waiting"] == 1
        await node.commit()
        await node.commit()

    await running(node, see)
    assert node.seen.status() == {
        "on_record": 1, "newest": [{"validator_id": "v1", "height": 1, "round": 0}], "waiting": 0,
    }  # fmt: skip
    assert node.seen.counters["evidence.filed"] == 1


async def test_what_is_known_is_not_taken_again(empty_chain: LedgerChain, autojump_clock: object) -> None:
    node = Node(empty_chain)
    node.seen.found(node.vote(b"a"), node.vote(b"b"))
    node.seen.found(node.vote(b"c"), node.vote(b"b"))
    assert node.seen.counters["evidence.kept"] == node.seen.counters["evidence.found"] == 1
    node.seen.found(node.vote(b"a", round=1), node.vote(b"b", round=1))
    assert node.seen.counters["evidence.kept"] == 2


async def test_messages_of_nobodys_key_are_no_evidence(empty_chain: LedgerChain) -> None:
    node, stranger = Node(empty_chain), make_key("stranger")
    node.seen.found(node.vote(b"a", key=stranger), node.vote(b"b", key=stranger))
    assert node.seen.counters["evidence.of_nobody"] == 1
    assert node.seen.status()["waiting"] == 0


async def test_after_a_restart_it_still_waits_for_a_block(empty_chain: LedgerChain, autojump_clock: object) -> None:
    node = Node(empty_chain)
    node.seen.found(node.vote(b"a"), node.vote(b"b"))
    empty_chain.close()
    empty_chain.reopen()
    again = Node(empty_chain)
    assert again.seen.status()["waiting"] == 1

    async def commit() -> None:
        await again.commit()
        await again.commit()

    await running(again, commit)
    assert again.seen.status()["on_record"] == 1
    empty_chain.close()
    empty_chain.reopen()
    assert Node(empty_chain).seen.status() == again.seen.status()


@pytest.mark.parametrize("heights", [TELL_HEIGHTS * 2])
async def test_without_a_vote_it_is_told_from_time_to_time(
    empty_chain: LedgerChain, autojump_clock: object, heights: int
) -> None:
    node = Node(empty_chain, votes=False)

    async def wait() -> None:
        node.seen.found(node.vote(b"a"), node.vote(b"b"))
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(heights):
            await node.commit()

    await running(node, wait)
    assert len(node.gossip.topics) == 1 + heights // TELL_HEIGHTS
    assert node.seen.status()["waiting"] == 1

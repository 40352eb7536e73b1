from __future__ import annotations

import attrs
import pytest
from quorum_sample import A, B, W, head, vote

from agent_world.consensus.quorum_records import QuorumRefusal, QuorumRefused, QuorumSet
from agent_world.consensus.quorum_world import QuorumWorld
from agent_world.consensus.stake import PosStatus
from agent_world.wire.ids import U64
from agent_world.wire.limits import U64_MAX

MEMBERS = QuorumSet.of(1, ["a", "b"], 0)


def rejected(world: QuorumWorld, height: int) -> int:
    opened = world.propose(head(height), vote(A), MEMBERS, None)
    found = world.record_at(height)
    assert found is not None
    assert world.vote(found, head(height).block_hash, vote(B, False)).status is PosStatus.REJECTED
    return opened.attempt


def test_the_number_of_a_pruned_attempt_is_never_used_again() -> None:
    world = QuorumWorld(W, 2)
    assert [rejected(world, 1), rejected(world, 1), rejected(world, 1)] == [0, 1, 2]
    assert [rejected(world, 2), rejected(world, 3)] == [1, 2]  # attempts 0 and 1 of height 1 are pruned by now
    assert world.record_at(1) is None
    assert rejected(world, 1) == 3
    assert world.pruned == 4


def test_committing_at_one_height_leaves_another_open() -> None:
    world = QuorumWorld(W, 10)
    world.propose(head(4), vote(A), MEMBERS, None)
    world.propose(head(5), vote(A), MEMBERS, None)
    assert world.has_pending
    for height in (5, 4):
        found = world.record_at(height)
        assert found is not None
        world.vote(found, found.head.block_hash, vote(B))
    assert not world.has_pending
    assert world.committed_floor == 5


def test_the_last_attempt_that_can_be_counted() -> None:
    world = QuorumWorld(W, 10)
    rejected(world, 1)
    state = world.state()
    last = attrs.evolve(state.records[0], attempt=U64(U64_MAX - 1))
    world = QuorumWorld.restored(attrs.evolve(state, first_attempt=U64(U64_MAX), records=(last,)), 10)
    for height in (1, 2):
        with pytest.raises(QuorumRefused) as caught:
            world.propose(head(height), vote(A), MEMBERS, None)
        assert caught.value.why is QuorumRefusal.WRONG_ATTEMPT


def test_a_smaller_limit_prunes_when_it_is_restored() -> None:
    world = QuorumWorld(W, 10)
    for height in (1, 2, 3):
        rejected(world, height)
    world.propose(head(1), vote(A), MEMBERS, None)
    small = QuorumWorld.restored(world.state(), 2)
    assert [(found.head.height, found.attempt) for found in small.state().records] == [(1, 1), (3, 0)]

from __future__ import annotations

import attrs
import pytest
from quorum_sample import A, B, C, D, W, commit, head, propose, refuses, reject, say, three, vote

from agent_world.consensus.quorum import QuorumConsensus
from agent_world.consensus.quorum_change import AddValidator, RemoveValidator, ReplaceValidators
from agent_world.consensus.quorum_records import WORLDS_MAX, QuorumConfig, QuorumRefusal
from agent_world.consensus.stake import PosStatus
from agent_world.wire.ids import U64, TimeMs, ValidatorId, WorldId


def test_t_q1_the_default_threshold_of_three_is_two() -> None:
    assert three().members.quorum_threshold == 2


def test_t_q2_a_proposal_and_a_vote_commit() -> None:
    quorum = three()
    opened = propose(quorum, 1)
    assert (opened.status, opened.approvals, opened.rejections) == (PosStatus.PENDING, 1, 0)
    decided = say(quorum, 1, B)
    assert (decided.status, decided.approvals, decided.quorum_threshold) == (PosStatus.COMMITTED, 2, 2)
    assert quorum.decision(W, 1) == attrs.evolve(decided, publish=None)


def test_one_validator_decides_alone() -> None:
    quorum = QuorumConsensus(QuorumConfig(validators=("a",)))
    assert propose(quorum, 1).publish == head(1)


def test_proposing_the_same_head_is_an_approval() -> None:
    quorum = three()
    propose(quorum, 1)
    assert propose(quorum, 1, who=A).approvals == 1
    assert propose(quorum, 1, who=B).status is PosStatus.COMMITTED


def test_t_q3_two_rejections_of_three_finalise() -> None:
    quorum = three()
    propose(quorum, 1)
    assert say(quorum, 1, B, False).status is PosStatus.PENDING
    decided = say(quorum, 1, C, False)
    assert (decided.status, decided.rejections, decided.publish) == (PosStatus.REJECTED, 2, None)
    assert quorum.committed_floor(W) == 0


def test_t_q4_another_head_in_the_same_attempt_is_refused() -> None:
    quorum = three()
    propose(quorum, 1)
    with refuses(QuorumRefusal.CONFLICTING_HEAD, quorum):
        propose(quorum, 1, "y", B)
    with refuses(QuorumRefusal.CONFLICTING_HEAD, quorum):  # the same block, said to have another state
        quorum.propose_head(attrs.evolve(head(1), timestamp_ms=TimeMs(9)), B, TimeMs(1))
    with refuses(QuorumRefusal.HASH_MISMATCH, quorum):
        say(quorum, 1, B, variant="y")


def test_t_q5_a_head_is_published_only_after_its_commit() -> None:
    quorum = three()
    assert propose(quorum, 1).publish is None
    assert quorum.unpublished() == ()
    assert say(quorum, 1, B).publish == head(1)
    assert quorum.unpublished() == (head(1),)


def test_t_q6_a_proposal_at_a_committed_height_is_stale() -> None:
    quorum = three()
    commit(quorum, 2)
    for height in (0, 1, 2):
        with refuses(QuorumRefusal.STALE_HEIGHT, quorum):
            propose(quorum, height)


def test_t_q7_finalised_records_are_pruned_and_open_ones_kept() -> None:
    quorum = three(max_records=2)
    propose(quorum, 1)
    commit(quorum, 2)
    commit(quorum, 3)
    assert [quorum.decision(W, height) is None for height in (1, 2, 3)] == [False, True, False]
    assert quorum.pruned == 1
    propose(quorum, 4)
    with refuses(QuorumRefusal.TOO_MANY_RECORDS, quorum):
        propose(quorum, 5)
    assert say(quorum, 4, B).status is PosStatus.COMMITTED
    propose(quorum, 5)


def test_t_q10_a_late_vote_is_refused_and_a_repeated_one_answered() -> None:
    quorum = three()
    decided = commit(quorum, 1)
    with refuses(QuorumRefusal.RECORD_FINAL, quorum):
        say(quorum, 1, C)
    with refuses(QuorumRefusal.CHANGED_VOTE, quorum):
        say(quorum, 1, B, False)
    again = quorum.vote_head(W, 1, head(1).block_hash, vote(B, at_ms=99, reason="sent again"), attempt=0)
    assert again == attrs.evolve(decided, publish=None)  # not published a second time


def test_t_q11_a_late_commit_of_a_lower_height_is_not_published() -> None:
    quorum = three()
    propose(quorum, 5)
    assert commit(quorum, 6).publish == head(6)
    late = say(quorum, 5, B)
    assert (late.status, late.publish) == (PosStatus.COMMITTED, None)
    assert (quorum.unpublished(), quorum.committed_floor(W)) == ((head(6),), 6)


@pytest.mark.parametrize("saved", [False, True])
def test_t_q12_a_committed_height_stays_refused_after_pruning(saved: bool) -> None:
    quorum = three(max_records=1)
    commit(quorum, 5)
    reject(quorum, 6)
    assert quorum.decision(W, 5) is None
    if saved:
        quorum = QuorumConsensus.restored(quorum.state())
    assert quorum.committed_floor(W) == 5
    with refuses(QuorumRefusal.STALE_HEIGHT, quorum):
        propose(quorum, 5, "y")


def test_t_q13_a_rejected_height_can_be_proposed_again() -> None:
    quorum = three()
    assert reject(quorum, 1).attempt == 0
    assert propose(quorum, 1, "y").attempt == 1
    decided = say(quorum, 1, B, variant="y", attempt=1)
    assert (decided.status, decided.publish) == (PosStatus.COMMITTED, head(1, "y"))
    first = quorum.decision(W, 1, attempt=0)
    assert first is not None
    assert first.status is PosStatus.REJECTED


def test_a_vote_of_a_rejected_attempt_never_counts_in_the_next() -> None:
    quorum = three()
    reject(quorum, 1)
    propose(quorum, 1)
    assert say(quorum, 1, B, False, attempt=0).attempt == 0  # repeated: an answer about the old attempt
    found = quorum.decision(W, 1)
    assert found is not None
    assert (found.attempt, found.rejections) == (1, 0)


def test_a_proposal_of_a_rejected_attempt_opens_nothing() -> None:
    quorum = three()
    reject(quorum, 1)
    for attempt in (0, 2, -1):
        with refuses(QuorumRefusal.WRONG_ATTEMPT, quorum):
            quorum.propose_head(head(1), A, TimeMs(1), attempt=attempt)
    assert quorum.propose_head(head(1), A, TimeMs(1), attempt=1).attempt == 1
    assert quorum.propose_head(head(1), B, TimeMs(1), attempt=1).status is PosStatus.COMMITTED


def test_t_q14_records_keep_the_count_and_threshold_they_began_with() -> None:
    quorum = three()
    commit(quorum, 1)
    quorum.apply_change(AddValidator("d"))
    assert quorum.members.quorum_threshold == 3
    old = quorum.state().worlds[0].records[0]
    assert (old.quorum_threshold, old.validator_count, old.set_version) == (2, 3, 1)
    restored = QuorumConsensus.restored(quorum.state()).decision(W, 1)
    assert restored is not None
    assert restored.status is PosStatus.COMMITTED
    with refuses(QuorumRefusal.UNKNOWN_VALIDATOR, quorum):  # who came later has no word on it
        say(quorum, 1, D)
    quorum.apply_change(RemoveValidator("b"))
    assert say(quorum, 1, B).status is PosStatus.COMMITTED


def test_strangers_and_unknown_records_are_refused() -> None:
    quorum = three()
    with refuses(QuorumRefusal.UNKNOWN_VALIDATOR, quorum):
        propose(quorum, 1, who=D)
    with refuses(QuorumRefusal.UNKNOWN_RECORD, quorum):
        say(quorum, 1, A)
    propose(quorum, 1)
    with refuses(QuorumRefusal.UNKNOWN_VALIDATOR, quorum):
        say(quorum, 1, D)
    for height, attempt in ((2, 0), (1, 1), (1, -1)):
        with refuses(QuorumRefusal.UNKNOWN_RECORD, quorum):
            say(quorum, height, B, attempt=attempt)


def test_what_a_snapshot_could_not_hold_is_refused() -> None:
    quorum = three()
    for bad in (
        attrs.evolve(head(1), height=U64(2**64)),
        attrs.evolve(head(1), world_id=WorldId("No World")),
        attrs.evolve(head(1), block_hash=b"short"),
    ):
        with refuses(QuorumRefusal.MALFORMED, quorum):
            quorum.propose_head(bad, A, TimeMs(1))
    with refuses(QuorumRefusal.MALFORMED, quorum):
        quorum.propose_head(head(1), A, TimeMs(-1))
    propose(quorum, 1)
    with refuses(QuorumRefusal.MALFORMED, quorum):
        quorum.vote_head(W, 1, head(1).block_hash, vote(B, reason="x" * 65), attempt=0)


def test_publication_is_tried_until_it_is_confirmed() -> None:
    quorum = three()
    with refuses(QuorumRefusal.NOT_COMMITTED, quorum):
        quorum.confirm_published(head(1))
    commit(quorum, 1)
    quorum = QuorumConsensus.restored(quorum.state())  # a crash between the commit and the DHT
    assert quorum.unpublished() == (head(1),)
    for bad in (head(2), head(1, "y")):
        with refuses(QuorumRefusal.NOT_COMMITTED, quorum):
            quorum.confirm_published(bad)
    assert quorum.confirm_published(head(1)) is True
    assert quorum.confirm_published(head(1)) is False
    assert (quorum.unpublished(), quorum.published_height(W)) == ((), 1)
    assert QuorumConsensus.restored(quorum.state()).state() == quorum.state()


def test_a_newer_head_takes_the_place_of_one_that_waits() -> None:
    quorum = three()
    commit(quorum, 1)
    commit(quorum, 2)
    assert quorum.confirm_published(head(1)) is False  # it was published after all, but 2 still waits
    assert (quorum.unpublished(), quorum.published_height(W)) == ((head(2),), 1)
    assert quorum.confirm_published(head(2)) is True
    assert quorum.confirm_published(head(1)) is False  # late: the published height does not go back
    assert quorum.published_height(W) == 2


def test_worlds_are_apart_and_few() -> None:
    quorum = three()
    worlds = [WorldId(f"w{number}") for number in range(WORLDS_MAX + 1)]
    for world in worlds[:-1]:
        quorum.propose_head(head(7, world=world), A, TimeMs(1))
    with refuses(QuorumRefusal.TOO_MANY_WORLDS, quorum):
        quorum.propose_head(head(7, world=worlds[-1]), A, TimeMs(1))
    quorum.vote_head(worlds[0], 7, head(7, world=worlds[0]).block_hash, vote(B), attempt=0)
    assert [quorum.committed_floor(world) for world in worlds] == [7, 0, 0, 0, 0]


def test_members_do_not_change_while_a_record_is_open() -> None:
    quorum = three()
    propose(quorum, 1)
    for change in (AddValidator("d"), AddValidator("a"), RemoveValidator("c"), ReplaceValidators(("a",))):
        with refuses(QuorumRefusal.RECORD_PENDING, quorum):
            quorum.apply_change(change)
    say(quorum, 1, B)
    done = quorum.apply_change(AddValidator(" d "))
    assert (done.applied, done.validators, done.quorum_threshold) == (True, (A, B, C, D), 3)
    assert quorum.members.version == 2
    assert quorum.apply_change(AddValidator("d")).applied is False
    assert quorum.members.version == 2
    with refuses(QuorumRefusal.UNKNOWN_VALIDATOR, quorum):
        quorum.apply_change(RemoveValidator("e"))


def test_records_of_long_gone_members_are_pruned() -> None:
    quorum = three()
    commit(quorum, 1)
    reject(quorum, 2)
    for number in range(64):
        quorum.apply_change(ReplaceValidators(("a", "b", f"x{number}")))
    assert quorum.decision(W, 1) is None
    assert (quorum.committed_floor(W), len(quorum.state().sets)) == (1, 64)
    assert propose(quorum, 2).attempt == 1  # the number of the pruned attempt is not used again
    assert QuorumConsensus.restored(quorum.state()).state() == quorum.state()


def test_large_sets_leave_room_for_fewer_records() -> None:
    names = tuple(f"v{number:03}" for number in range(256))
    quorum = QuorumConsensus(QuorumConfig(validators=names))
    for height in range(1, 65_536 // 256 + 1):
        propose(quorum, height, who=ValidatorId("v000"))
    with refuses(QuorumRefusal.TOO_MANY_RECORDS, quorum):
        propose(quorum, 1_000, who=ValidatorId("v000"))

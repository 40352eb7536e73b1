from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from quorum_sample import A, B, C, D, W, commit, head, propose, reject, renamed, three, vote

from agent_world.consensus.quorum import QuorumConsensus
from agent_world.consensus.quorum_change import AddValidator
from agent_world.consensus.quorum_records import QuorumSet
from agent_world.consensus.quorum_state import QuorumState, WorldState, check_state
from agent_world.errors import DataError
from agent_world.wire.ids import U64, WorldId


def good() -> QuorumState:
    """Committed height 1 by three; then four members: height 2 twice rejected by C and D, height 3 open."""
    quorum = three()
    commit(quorum, 1)
    quorum.apply_change(AddValidator("d"))
    reject(quorum, 2)
    reject(quorum, 2, "y")
    propose(quorum, 3)
    return quorum.state()


GOOD = good()


def world(**changes: Any) -> QuorumState:
    return attrs.evolve(GOOD, worlds=(attrs.evolve(GOOD.worlds[0], **changes),))


def record(index: int, **changes: Any) -> QuorumState:
    records = list(GOOD.worlds[0].records)
    records[index] = attrs.evolve(records[index], **changes)
    return world(records=tuple(records))


def vote_of(index: int, place: int, **changes: Any) -> QuorumState:
    votes = list(GOOD.worlds[0].records[index].votes)
    votes[place] = attrs.evolve(votes[place], **changes)
    return record(index, votes=tuple(votes))


RECORDS = GOOD.worlds[0].records


def other(name: str) -> WorldState:
    return attrs.evolve(GOOD.worlds[0], world_id=WorldId(name), records=(), unpublished=None, published_height=U64(1))


DAMAGED: list[tuple[str, QuorumState]] = [
    ("limit 0", attrs.evolve(GOOD, max_records_per_world=0)),
    ("limit too large", attrs.evolve(GOOD, max_records_per_world=4_097)),
    ("no members", attrs.evolve(GOOD, sets=())),
    ("members of the record gone", attrs.evolve(GOOD, sets=GOOD.sets[1:])),
    ("versions with a gap", attrs.evolve(GOOD, sets=(GOOD.sets[0], attrs.evolve(GOOD.sets[1], version=U64(3))))),
    ("versions twice", attrs.evolve(GOOD, sets=(GOOD.sets[0], *GOOD.sets))),
    ("too many versions", attrs.evolve(GOOD, sets=tuple(QuorumSet.of(n, "abcd", 0) for n in range(1, 66)))),
    ("world twice", attrs.evolve(GOOD, worlds=GOOD.worlds * 2)),
    ("too many worlds", attrs.evolve(GOOD, worlds=tuple(other(f"w{n}") for n in range(5)))),
    ("record twice", world(records=(RECORDS[0], *RECORDS))),
    ("records in another order", world(records=(RECORDS[1], RECORDS[0], *RECORDS[2:]))),
    ("floor below a committed record", world(committed_floor=U64(0), unpublished=None)),
    ("published above the floor", world(published_height=U64(2))),
    ("nothing waits, nothing published", world(unpublished=None)),
    ("published, yet it waits", world(published_height=U64(1))),
    ("another head waits", world(unpublished=head(1, "y"))),
    ("a head of another height waits", world(unpublished=head(2))),
    ("a head of another world waits", world(unpublished=renamed(head(1), WorldId("w2")))),
    ("a record of another world", record(0, head=renamed(head(1), WorldId("w2")))),
    ("a record at height 0", record(0, head=head(0))),
    ("unknown members", record(0, set_version=U64(9))),
    ("another threshold", record(0, quorum_threshold=U64(3))),
    ("another count", record(0, validator_count=U64(4))),
    ("no count", record(0, validator_count=U64(0))),
    ("no threshold", record(0, quorum_threshold=U64(0))),
    ("proposer not a validator", record(0, proposer_id=D)),
    ("proposer has not voted", record(0, proposer_id=C)),
    ("proposer rejects", vote_of(3, 0, approve=False)),
    ("no votes", record(3, votes=())),
    ("T-Q9 vote of another validator than its place", vote_of(0, 0, validator_id=C)),
    ("a voter who is not a validator", vote_of(0, 1, validator_id=D)),
    ("a validator votes twice", record(0, votes=(vote(A), vote(A)))),
    ("more votes than members", record(0, votes=tuple(vote(who) for who in (A, B, C, D)))),
    ("open under members who are gone", record(0, votes=(vote(A),))),
    ("an attempt is missing", world(records=(RECORDS[0], *RECORDS[2:]))),
    ("the first attempt was never made", record(3, attempt=U64(1))),
    ("the attempt before is open", vote_of(1, 1, approve=True)),
    ("the last number of an attempt", attrs.evolve(record(3, attempt=U64(2**64 - 1)), worlds=(attrs.evolve(
        record(3, attempt=U64(2**64 - 1)).worlds[0], first_attempt=U64(2**64 - 1)),))),
]  # fmt: skip


def test_a_good_state_continues() -> None:
    check_state(GOOD)
    assert [(found.head.height, found.attempt) for found in RECORDS] == [(1, 0), (2, 0), (2, 1), (3, 0)]
    assert QuorumConsensus.restored(GOOD).state() == GOOD


@pytest.mark.parametrize("damaged", [state for _, state in DAMAGED], ids=[name for name, _ in DAMAGED])
def test_t_q9_a_damaged_state_is_refused(damaged: QuorumState) -> None:
    with pytest.raises(DataError, match="snapshot is damaged"):
        QuorumConsensus.restored(damaged)


@pytest.mark.parametrize("check", [check_state, QuorumConsensus.restored])
def test_the_state_of_nothing_is_good(check: Callable[[QuorumState], object]) -> None:
    check(three().state())


def test_worlds_without_records_are_good() -> None:
    state = attrs.evolve(GOOD, worlds=(GOOD.worlds[0], other("w2")))
    assert QuorumConsensus.restored(state).committed_floor(WorldId("w2")) == 1
    assert state.worlds[0].world_id == W

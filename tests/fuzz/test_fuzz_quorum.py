"""Whatever bytes a quorum's snapshot has: a state that encodes to the same bytes and can go on, or a DataError."""

from __future__ import annotations

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_decoders import mutated

from agent_world.consensus import quorum_snapshot
from agent_world.consensus.quorum import QuorumConsensus
from agent_world.consensus.quorum_change import AddValidator
from agent_world.consensus.quorum_records import QuorumConfig, QuorumVote
from agent_world.consensus.quorum_state import QuorumState
from agent_world.crypto.hashing import hash32
from agent_world.errors import DataError
from agent_world.testing.examples import VARIANTS, example
from agent_world.wire.head import WorldHead
from agent_world.wire.ids import U64, TimeMs, ValidatorId

FUZZ = settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
A, B, C = (ValidatorId(name) for name in "abc")


def sample() -> QuorumState:
    quorum = QuorumConsensus(QuorumConfig(validators=("a", "b", "c")))
    for height, word in ((1, True), (2, False), (3, True)):
        head = attrs.evolve(example(WorldHead, VARIANTS[0]), height=U64(height), block_hash=hash32(bytes([height])))
        quorum.propose_head(head, A, TimeMs(1))
        for who in (B, C) if not word else (B,):
            vote = QuorumVote(validator_id=who, approve=word, reason=None, voted_at_ms=TimeMs(2))
            quorum.vote_head(head.world_id, height, head.block_hash, vote, attempt=0)
    quorum.apply_change(AddValidator("d"))
    quorum.propose_head(attrs.evolve(example(WorldHead, VARIANTS[0]), height=U64(2**63)), A, TimeMs(3))
    return quorum.state()


STATE = sample()
VALID = [
    quorum_snapshot.to_bytes(STATE),
    quorum_snapshot.to_bytes(QuorumConsensus(QuorumConfig(validators=("a",))).state()),
]


def believed(data: bytes) -> bool:
    """The invariant of this file; True if the bytes were those of a state that can be."""
    try:
        state = quorum_snapshot.from_bytes(data)
    except DataError as error:
        return said_briefly(error)
    assert quorum_snapshot.to_bytes(state) == data
    return goes_on(state)


def said_briefly(error: DataError) -> bool:
    assert len(str(error)) < 500, "an error must not echo a file at length"
    return False


def goes_on(state: QuorumState) -> bool:
    try:
        quorum = QuorumConsensus.restored(state)
    except DataError as error:
        return said_briefly(error)
    again = quorum.state()
    assert QuorumConsensus.restored(again).state() == again
    return True


def test_the_originals_are_valid() -> None:
    assert all(believed(data) for data in VALID)


@FUZZ
@given(mutated(VALID) | st.binary(max_size=200))
def test_a_snapshot_is_refused_or_means_what_it_says(data: bytes) -> None:
    believed(data)


NUMBERS = st.sampled_from([0, 1, 2, 3, 4, 2**63, 2**64 - 1])


@FUZZ
@given(st.data())
def test_a_state_with_other_numbers_is_refused_or_goes_on(data: st.DataObject) -> None:
    """Well-formed but wrong, which mutated bytes seldom are."""
    world = STATE.worlds[0]
    index = data.draw(st.integers(0, len(world.records) - 1))
    field = data.draw(
        st.sampled_from(["attempt", "set_version", "quorum_threshold", "validator_count", "votes", "proposer_id"])
    )
    found = world.records[index]
    if field == "votes":
        value: object = tuple(data.draw(st.lists(st.sampled_from(found.votes), max_size=4)))
    else:
        value = data.draw(st.sampled_from([A, B, C])) if field == "proposer_id" else data.draw(NUMBERS)
    records = list(world.records)
    records[index] = attrs.evolve(found, **{field: value})
    changes = {
        name: data.draw(NUMBERS)
        for name in ("committed_floor", "published_height", "first_attempt")
        if data.draw(st.booleans())
    }
    changed = attrs.evolve(world, records=tuple(records), **changes)
    goes_on(attrs.evolve(STATE, worlds=(changed,)))

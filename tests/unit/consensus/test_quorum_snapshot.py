from __future__ import annotations

import attrs
import pytest
from quorum_sample import A, B, W, commit, head, propose, say, three, vote

from agent_world.consensus import quorum_snapshot
from agent_world.consensus.quorum import QuorumConsensus
from agent_world.consensus.quorum_change import AddValidator
from agent_world.consensus.quorum_records import QuorumConfig, QuorumSet
from agent_world.consensus.stake import PosStatus
from agent_world.errors import DataError
from agent_world.wire import cbor, record
from agent_world.wire.ids import U64, TimeMs, ValidatorId, WorldId
from agent_world.wire.limits import U64_MAX


def reloaded(quorum: QuorumConsensus) -> QuorumConsensus:
    data = quorum_snapshot.to_bytes(quorum.state())
    state = quorum_snapshot.from_bytes(data)
    assert quorum_snapshot.to_bytes(state) == data
    return QuorumConsensus.restored(state)


def test_t_q8_a_round_trip_after_a_change_of_members() -> None:
    quorum = three()
    commit(quorum, 1)
    quorum.apply_change(AddValidator("d"))
    propose(quorum, 2)
    again = reloaded(quorum)
    assert again.state() == quorum.state()
    assert say(again, 2, B).status is PosStatus.PENDING  # the new threshold is 3
    assert say(again, 2, ValidatorId("d")).status is PosStatus.COMMITTED


def test_a_status_follows_from_the_votes_and_is_not_stored() -> None:
    quorum = three()
    commit(quorum, 1)
    data = quorum_snapshot.to_bytes(quorum.state())
    assert b"status" not in data
    assert b"committed\x00" not in data


def test_the_largest_state_of_the_default_limit() -> None:
    quorum = QuorumConsensus(QuorumConfig(validators=("a",)))
    for height in range(1, 4_100):
        propose(quorum, height)
    data = quorum_snapshot.to_bytes(quorum.state())
    assert len(quorum.state().worlds[0].records) == 4_096
    assert reloaded(quorum).state() == quorum.state()
    assert len(data) < 3_000_000


def test_the_bounds_of_the_parts() -> None:
    longest = ValidatorId("v" * 64)
    world = WorldId("w" * 64)
    largest = vote(longest, at_ms=2**63 - 1, reason="\N{MATHEMATICAL BOLD CAPITAL A}" * 64)
    assert len(record.to_bytes(largest)) <= quorum_snapshot._VOTE_BYTES_MAX
    quorum = QuorumConsensus(QuorumConfig(validators=(longest,)))
    quorum.propose_head(attrs.evolve(head(U64_MAX, world=world), timestamp_ms=TimeMs(2**63 - 1)), longest, TimeMs(1))
    found = attrs.evolve(
        quorum.state().worlds[0].records[0],
        attempt=U64(U64_MAX),
        proposed_at_ms=TimeMs(2**63 - 1),
        set_version=U64(U64_MAX),
        quorum_threshold=U64(U64_MAX),
        validator_count=U64(U64_MAX),
        votes=(),
    )
    assert len(record.to_bytes(found)) <= quorum_snapshot._RECORD_FRAME_BYTES_MAX
    names = [f"{number:03}" + "v" * 61 for number in range(256)]
    assert len(record.to_bytes(QuorumSet.of(U64_MAX, names, 0))) <= quorum_snapshot._SET_BYTES_MAX


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"max_records_per_world": -1},
        {"sets": [b"\x00"]},
        {"worlds": [b""]},
        {"more": 1},
        {"sets": [cbor.encode({"version": 1, "validators": ["a", "b", "c", "d"], "quorum_threshold": 2})]},
        {"sets": [cbor.encode({"version": 1, "validators": [], "quorum_threshold": 0})]},
        {"sets": [cbor.encode({"version": 1, "validators": ["Not an id"], "quorum_threshold": 1})]},
    ],
    ids=str,
)
def test_bytes_that_are_no_snapshot_are_refused(change: dict[str, cbor.Value]) -> None:
    fields = cbor.decode(quorum_snapshot.to_bytes(three().state()), size_max=10_000)
    assert isinstance(fields, dict)
    with pytest.raises(DataError, match="snapshot is damaged"):
        quorum_snapshot.from_bytes(cbor.encode({**fields, **change}))


def test_a_snapshot_cut_anywhere_is_refused() -> None:
    quorum = three()
    commit(quorum, 1)
    propose(quorum, 2, who=A)
    assert quorum.committed_floor(W) == 1
    data = quorum_snapshot.to_bytes(quorum.state())
    for end in range(len(data)):
        with pytest.raises(DataError):
            quorum_snapshot.from_bytes(data[:end])

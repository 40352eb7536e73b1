"""All that a quorum must remember, as one value, and what such a value must satisfy to be believed."""

from __future__ import annotations

from itertools import groupby, pairwise

import attrs

from agent_world.consensus.quorum_records import (
    RECORDS_PER_WORLD_MAX,
    SETS_MAX,
    WORLDS_MAX,
    QuorumRecord,
    QuorumSet,
)
from agent_world.consensus.stake import PosStatus
from agent_world.errors import DataError
from agent_world.wire.head import WorldHead
from agent_world.wire.ids import U32, U64, WorldId
from agent_world.wire.limits import U64_MAX


@attrs.frozen(slots=True, kw_only=True)
class WorldState:
    """What is remembered of one world; the floor stands apart from the records, so that pruning cannot lose it."""

    world_id: WorldId
    committed_floor: U64
    """Highest height that was ever committed; 0 if none."""
    published_height: U64
    """Highest height whose publication was confirmed; at most the floor."""
    first_attempt: U64
    """Number of the first attempt at a height without a record: above every rejected attempt that was pruned."""
    unpublished: WorldHead | None
    """The head at the floor, as long as its publication is not confirmed."""
    records: tuple[QuorumRecord, ...]
    """Ascending by (height, attempt)."""


@attrs.frozen(slots=True, kw_only=True)
class QuorumState:
    """What is remembered of everything. Statuses are not in it: they follow from the votes."""

    max_records_per_world: U32
    sets: tuple[QuorumSet, ...]
    """The last versions without a gap; the last one is in force."""
    worlds: tuple[WorldState, ...]
    """Ascending by world_id."""


def check_state(state: QuorumState) -> None:
    """Raise DataError unless a QuorumConsensus could have come to this state."""
    limit = state.max_records_per_world
    _require(0 < limit <= RECORDS_PER_WORLD_MAX, f"max_records_per_world {limit}")
    versions = [members.version for members in state.sets]
    _require(0 < len(versions) <= SETS_MAX, f"{len(versions)} versions of the members")
    _require(all(second == first + 1 for first, second in pairwise(versions)), "the versions have a gap")
    worlds = [world.world_id for world in state.worlds]
    _require(worlds == sorted(set(worlds)) and len(worlds) <= WORLDS_MAX, "the worlds are not ascending and few")
    sets = {members.version: members for members in state.sets}
    for world in state.worlds:
        _check_heights(world)
        _check_attempts(world)
        for found in world.records:
            _check_record(world, found, sets)
            is_open = found.status is PosStatus.PENDING
            _require(not is_open or found.set_version == versions[-1], f"{_place(found)} is open under old members")


def _check_heights(world: WorldState) -> None:
    waiting, floor = world.unpublished, world.committed_floor
    _require(world.published_height <= floor, f"{world.world_id}: published above the committed floor")
    _require((waiting is None) == (world.published_height == floor), f"{world.world_id}: what waits to be published")
    if waiting is not None:
        _require(waiting.world_id == world.world_id, f"{world.world_id}: the unpublished head is of another world")
        _require(waiting.height == floor, f"{world.world_id}: the unpublished head is not at the committed floor")
    for found in world.records:
        if found.status is PosStatus.COMMITTED:
            _require(found.head.height <= floor, f"{_place(found)} is committed above the committed floor")
            at_floor = waiting is not None and found.head.height == floor
            _require(not at_floor or found.head == waiting, f"{_place(found)} differs from the unpublished head")


def _check_attempts(world: WorldState) -> None:
    keys = [(found.head.height, found.attempt) for found in world.records]
    _require(keys == sorted(set(keys)), f"{world.world_id}: records are not ascending by height and attempt")
    for _, group in groupby(world.records, key=lambda found: found.head.height):
        attempts = list(group)
        first, last = attempts[0], attempts[-1]
        _require(
            first.attempt <= world.first_attempt, f"{_place(first)}: the attempt before it is neither here nor pruned"
        )
        _require(last.attempt < U64_MAX, f"{_place(last)}: the number of the attempt")
        for earlier, later in pairwise(attempts):
            _require(later.attempt == earlier.attempt + 1, f"{_place(later)}: the attempt before it is missing")
            _require(earlier.status is PosStatus.REJECTED, f"{_place(later)}: the attempt before it was not rejected")


def _check_record(world: WorldState, found: QuorumRecord, sets: dict[U64, QuorumSet]) -> None:
    _require(found.head.world_id == world.world_id and found.head.height > 0, f"{_place(found)} is not of this world")
    members = sets.get(found.set_version)
    _require(members is not None, f"{_place(found)}: members of version {found.set_version} are not known")
    assert members is not None
    _require(found.quorum_threshold == members.quorum_threshold, f"{_place(found)}: the threshold is not its members'")
    _require(found.validator_count == len(members.validators), f"{_place(found)}: the count is not its members'")
    voters = [vote.validator_id for vote in found.votes]
    _require(voters == sorted(set(voters)), f"{_place(found)}: votes are not ascending, one a validator")
    _require(set(voters) <= set(members.validators), f"{_place(found)}: a voter is not a validator")
    own = found.vote_of(found.proposer_id)
    _require(own is not None and own.approve, f"{_place(found)}: no approval of its proposer")


def _place(found: QuorumRecord) -> str:
    return f"{found.head.world_id}: height {found.head.height}, attempt {found.attempt}"


def _require(condition: bool, detail: str) -> None:
    if not condition:
        raise DataError(f"the quorum's snapshot is damaged: {detail}")

"""Read-only views of a state for people: command line, gateway and observers."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from agent_world.sequencer.lease import is_active
from agent_world.wire.ids import U64, ActorId, Name, PublicKey, ValidatorId
from agent_world.wire.lease import LeaseState
from agent_world.world.records import (
    ACTORS,
    BALANCES,
    EQUIVOCATION_LIST,
    EQUIVOCATIONS,
    KEY_OWNERS,
    LEASE,
    OBJECTS,
    POSITIONS,
    SUPPLIES,
    VALIDATORS,
    ActorRecord,
    EquivocationRecord,
    EquivocationsRecord,
    LeaseRecord,
    ObjectRecord,
    PositionRecord,
)
from agent_world.world.state import WorldState


@attrs.frozen(slots=True)
class ActorView:
    """An actor and where it is."""

    actor_id: ActorId
    actor: ActorRecord
    position: PositionRecord | None
    """None before its first move."""

    @property
    def next_nonce(self) -> int:
        """Nonce of the next action this actor signs, as far as committed actions tell."""
        return self.actor.nonce + 1


def actor(state: WorldState, actor_id: ActorId) -> ActorView | None:
    """One actor, None if there is none of this id."""
    found = state.get(ACTORS, actor_id)
    return None if found is None else ActorView(actor_id, found, state.get(POSITIONS, actor_id))


def actors(state: WorldState) -> Iterator[ActorView]:
    """All actors, in the trie's order; walks the whole namespace."""
    for (actor_id,), found in state.rows(ACTORS, 1):
        yield ActorView(ActorId(actor_id), found, state.get(POSITIONS, actor_id))


def balance(state: WorldState, actor_id: ActorId, resource: Name) -> int:
    """Units of a resource that an actor owns."""
    found = state.get(BALANCES, actor_id, resource)
    return 0 if found is None else found.amount


def balances(state: WorldState) -> Iterator[tuple[ActorId, Name, int]]:
    """Every balance above 0, in the trie's order; walks the whole namespace."""
    for (actor_id, resource), found in state.rows(BALANCES, 2):
        yield ActorId(actor_id), Name(resource), found.amount


def supply(state: WorldState, resource: Name) -> int:
    """Units of a resource in the world."""
    found = state.get(SUPPLIES, resource)
    return 0 if found is None else found.amount


def world_object(state: WorldState, object_id: Name) -> ObjectRecord | None:
    """One object, None if there is none of this id."""
    return state.get(OBJECTS, object_id)


def objects(state: WorldState) -> Iterator[tuple[Name, ObjectRecord]]:
    """All objects, in the trie's order; walks the whole namespace."""
    for (object_id,), found in state.rows(OBJECTS, 1):
        yield Name(object_id), found


def key_owner(state: WorldState, key: PublicKey) -> ValidatorId | None:
    """Whose validator key this is or was, None if nobody's."""
    found = state.get(KEY_OWNERS, key.hex())
    return None if found is None else found.validator_id


def equivocation(state: WorldState, key: PublicKey, height: int, round: int) -> EquivocationRecord | None:
    """What is on record of a validator key for one height and round."""
    return state.get(EQUIVOCATIONS, key.hex(), str(height), str(round))


def equivocations(state: WorldState) -> EquivocationsRecord:
    """How many equivocations are on record, and the newest."""
    return state.get(EQUIVOCATION_LIST) or EquivocationsRecord(count=U64(0), newest=())


def lease(state: WorldState) -> LeaseRecord:
    """The writer's lease and the last term granted."""
    return state.get(LEASE) or LeaseRecord(term=U64(0), lease=None)


def held_lease(state: WorldState, now_ms: int) -> LeaseState | None:
    """The lease that somebody holds at this block time: active, and its holder is in the set that decides.

    A validator that lost its seat is the writer no more, and must not keep the others from it until the lease ends.
    """
    found = lease(state).lease
    if found is None or not is_active(found, now_ms):
        return None
    return found if any(entry.validator_id == found.holder_id for entry in state.need(VALIDATORS).validators) else None

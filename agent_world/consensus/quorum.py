"""Agreement on heads by counting votes: a facade of the stake kernel where everybody's stake is 1 (D4, Q-7).

It says which head a group of members agrees on; it never certifies a block, which is the round engine's work. A
count is safe while members stop or lie to nobody, not against those who tell different members different things.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from agent_world.consensus.quorum_change import ChangeResult, QuorumChange, changed_members
from agent_world.consensus.quorum_records import (
    SETS_MAX,
    WORLDS_MAX,
    QuorumConfig,
    QuorumDecision,
    QuorumRefusal,
    QuorumRefused,
    QuorumSet,
    QuorumVote,
    checked,
    demand,
)
from agent_world.consensus.quorum_state import QuorumState, check_state
from agent_world.consensus.quorum_world import QuorumWorld
from agent_world.wire.head import WorldHead
from agent_world.wire.ids import U32, Hash32, TimeMs, ValidatorId, WorldId


class QuorumConsensus:
    """Heads of up to WORLDS_MAX worlds, voted on by one set of members.

    Votes are believed: the caller has verified who sent each one (Q-4), as signed messages are the engine's. Whoever
    acts on a decision first stores ``state()``. Every method raises QuorumRefused and then has changed nothing.
    """

    def __init__(self, config: QuorumConfig) -> None:
        self._records_max = config.max_records_per_world
        self._sets = [config.first_set()]
        self._worlds: dict[WorldId, QuorumWorld] = {}
        self.refused: Counter[QuorumRefusal] = Counter()
        """How often something was refused, by reason."""

    @classmethod
    def restored(cls, state: QuorumState) -> QuorumConsensus:
        """Continue from a stored state, every status counted anew from the votes; raises DataError (Q-5)."""
        check_state(state)
        members, limit = state.sets[-1], state.max_records_per_world
        made = cls(QuorumConfig(validators=members.validators, max_records_per_world=limit))
        made._sets = list(state.sets)
        made._worlds = {world.world_id: QuorumWorld.restored(world, limit) for world in state.worlds}
        return made

    def state(self) -> QuorumState:
        """All that must be stored to continue from here."""
        return QuorumState(
            max_records_per_world=U32(self._records_max),
            sets=tuple(self._sets),
            worlds=tuple(self._worlds[world_id].state() for world_id in sorted(self._worlds)),
        )

    @property
    def members(self) -> QuorumSet:
        """Who votes now."""
        return self._sets[-1]

    @property
    def pruned(self) -> int:
        """Records dropped so far to keep within the limits."""
        return sum(world.pruned for world in self._worlds.values())

    def propose_head(
        self, head: WorldHead, proposer_id: ValidatorId, proposed_at_ms: TimeMs, *, attempt: int | None = None
    ) -> QuorumDecision:
        """Propose a head, or join who proposed the same one: either is an approval by the proposer.

        ``attempt`` None takes the one that is open at the height, which is what a member does for itself; what others
        proposed comes with the number it had there. Refusals: unknown_validator, stale_height, wrong_attempt,
        conflicting_head, changed_vote, too_many_records, too_many_worlds, malformed.
        """
        with self._counting():
            vote = checked(QuorumVote(validator_id=proposer_id, approve=True, reason=None, voted_at_ms=proposed_at_ms))
            head = checked(head)
            self._demand_member(self.members, proposer_id)
            world = self._worlds.get(head.world_id)
            if world is None:
                demand(len(self._worlds) < WORLDS_MAX, QuorumRefusal.TOO_MANY_WORLDS, f"{WORLDS_MAX} are known")
                world = QuorumWorld(head.world_id, self._records_max)
            decision = world.propose(head, vote, self.members, attempt)
            self._worlds[head.world_id] = world
            return decision

    def vote_head(
        self, world_id: WorldId, height: int, block_hash: Hash32, vote: QuorumVote, *, attempt: int
    ) -> QuorumDecision:
        """Count a vote. One that says the same again gives the decision, also on a decided record.

        The attempt must be the one that was voted on: a vote that arrives late never counts in the next. Refusals:
        unknown_record, unknown_validator, hash_mismatch, changed_vote, record_final, malformed.
        """
        with self._counting():
            vote = checked(vote)
            world = self._worlds.get(world_id)
            found = None if world is None else world.record_at(height, attempt)
            if world is None or found is None:
                raise QuorumRefused(QuorumRefusal.UNKNOWN_RECORD, f"height {height}, attempt {attempt}")
            voters = next(members for members in self._sets if members.version == found.set_version)
            self._demand_member(voters, vote.validator_id)
            return world.vote(found, block_hash, vote)

    def decision(self, world_id: WorldId, height: int, *, attempt: int | None = None) -> QuorumDecision | None:
        """Where the votes of an attempt stand, or those of the last one; None if nothing is on record."""
        world = self._worlds.get(world_id)
        found = None if world is None else world.record_at(height, attempt)
        return None if found is None else QuorumDecision.on(found)

    def committed_floor(self, world_id: WorldId) -> int:
        """Highest height that was ever committed; 0 if none. Nothing at or below it is proposed again (Q-2)."""
        return self._worlds[world_id].committed_floor if world_id in self._worlds else 0

    def published_height(self, world_id: WorldId) -> int:
        """Highest height whose publication was confirmed; 0 if none."""
        return self._worlds[world_id].published_height if world_id in self._worlds else 0

    def unpublished(self) -> tuple[WorldHead, ...]:
        """Heads whose publication was not confirmed yet, at most one a world: what a caller tries again (Q-6)."""
        heads = (self._worlds[world_id].unpublished for world_id in sorted(self._worlds))
        return tuple(head for head in heads if head is not None)

    def confirm_published(self, head: WorldHead) -> bool:
        """A head is in the DHT; whether that was still to be done. Refusals: not_committed."""
        with self._counting():
            world = self._worlds.get(head.world_id)
            if world is None:
                raise QuorumRefused(QuorumRefusal.NOT_COMMITTED, f"nothing is known of {head.world_id!r:.80}")
            return world.confirm(head)

    def apply_change(self, change: QuorumChange) -> ChangeResult:
        """Change the members; the caller has checked who asks for it.

        Records that exist keep their members' count and threshold. Refusals: record_pending, unknown_validator,
        invalid_set, malformed.
        """
        with self._counting():
            is_open = any(world.has_pending for world in self._worlds.values())
            demand(not is_open, QuorumRefusal.RECORD_PENDING, "the members cannot change while a record is open")
            made = changed_members(self.members, change)
            applied = made is not self.members
            if applied:
                self._sets = [*self._sets, made][-SETS_MAX:]
                for world in self._worlds.values():
                    world.drop_sets_before(self._sets[0].version)
            return ChangeResult(
                applied=applied, validators=made.validators, quorum_threshold=int(made.quorum_threshold)
            )

    @staticmethod
    def _demand_member(members: QuorumSet, validator_id: ValidatorId) -> None:
        known = validator_id in members.validators
        demand(known, QuorumRefusal.UNKNOWN_VALIDATOR, f"{validator_id!r:.80} is not a validator")

    @contextmanager
    def _counting(self) -> Iterator[None]:
        try:
            yield
        except QuorumRefused as refusal:
            self.refused[refusal.why] += 1
            raise

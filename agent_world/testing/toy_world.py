"""A world cheap enough for simulating consensus: real headers and signatures, a state of one hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

import attrs

from agent_world.consensus.context import HeightContext
from agent_world.consensus.messages import action_root_of
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import cid_of, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.wire import record
from agent_world.wire.block import WorldBlock
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.consensus import ValidatorEntry, ValidatorSetRecord
from agent_world.wire.ids import U32, U64, Hash32, TimeMs, ValidatorId, WorldId

GENESIS_TIME_MS: Final = 1_700_000_000_000
WORLD_ID: Final = WorldId("sim")


@attrs.frozen(slots=True, kw_only=True)
class StoredBlock:
    """One committed block as a node keeps it."""

    block: bytes
    certificate: bytes
    header: WorldBlock
    block_hash: Hash32


@attrs.frozen(slots=True, kw_only=True)
class ToyWorld:
    """Genesis, keys and validator sets of one simulated world."""

    genesis_hash: Hash32
    keys: Mapping[ValidatorId, KeyPair]
    sets: Sequence[ValidatorSet]
    """The sets take turns: each epoch boundary moves to the next one, and after the last to the first."""
    epoch_length_slots: int

    def set_by_hash(self, set_hash: Hash32) -> ValidatorSet:
        """The set that a header names; raises KeyError."""
        return {validators.hash: validators for validators in self.sets}[set_hash]

    def successor(self, validators: ValidatorSet) -> ValidatorSet:
        """The set of the epoch after one of ``validators``."""
        return self.sets[(self.sets.index(validators) + 1) % len(self.sets)]

    def context_after(self, tip: StoredBlock | None) -> HeightContext:
        """What the height above ``tip`` starts from; None is the genesis."""
        if tip is None:
            height, parent_hash, slot, time_ms, validators = 1, self.genesis_hash, 0, GENESIS_TIME_MS, self.sets[0]
        else:
            header = tip.header
            height, parent_hash, slot, time_ms = header.height + 1, tip.block_hash, header.slot, header.timestamp_ms
            validators = self.set_by_hash(header.next_validators_hash)
        return HeightContext(
            world_id=WORLD_ID,
            genesis_hash=self.genesis_hash,
            height=height,
            parent_hash=parent_hash,
            parent_slot=slot,
            parent_timestamp_ms=time_ms,
            validators=validators,
            next_validators_hash=self.successor(validators).hash,
            epoch_length_slots=self.epoch_length_slots,
        )

    def build(
        self, context: HeightContext, round_: int, wall_ms: int, actions: tuple[ContentHash, ...], *, valid: bool = True
    ) -> bytes:
        """A block with these actions; with ``valid`` False one whose state root is wrong."""
        slot = context.slot(round_)
        block = WorldBlock(
            world_id=WORLD_ID,
            height=U64(context.height),
            slot=U64(slot),
            round=U32(round_),
            epoch=U64(context.epoch),
            prev_block_hash=context.parent_hash,
            proposer_id=context.proposer(round_),
            timestamp_ms=TimeMs(max(wall_ms, context.parent_timestamp_ms + 1)),
            validators_hash=context.validators.hash,
            next_validators_hash=context.next_set_after(slot),
            action_root=action_root_of(actions),
            event_root=hash32(b"events"),
            receipts_root=cid_of(b"receipts"),
            journal_ref=cid_of(b"journal"),
            state_root=_state_root(context.parent_hash, actions) if valid else cid_of(b"wrong"),
            lease_term=U64(0),
        )
        return record.to_bytes(block)


def _state_root(parent_hash: Hash32, actions: tuple[ContentHash, ...]) -> Cid:
    return cid_of(parent_hash + b"".join(actions))


def executes(header: WorldBlock, actions: tuple[ContentHash, ...]) -> bool:
    """Whether the header states the root that execution gives."""
    return header.state_root == _state_root(header.prev_block_hash, actions)


def validator_set(stakes: Mapping[ValidatorId, int], keys: Mapping[ValidatorId, KeyPair]) -> ValidatorSet:
    """A set with supermajority 2/3."""
    entries = tuple(
        ValidatorEntry(validator_id=name, public_key=keys[name].public_key, stake=U64(stakes[name]))
        for name in sorted(stakes)
    )
    return ValidatorSet(
        ValidatorSetRecord(validators=entries, supermajority_numerator=U64(2), supermajority_denominator=U64(3))
    )


def make_world(rng: Random, count: int, faulty: int, *, change_sets: bool) -> ToyWorld:
    """Validators ``v0`` ... with drawn stakes; in every set the last ``faulty`` ones hold less than a third.

    With ``change_sets`` epochs are short, stakes differ from set to set, and one honest validator sits one set out
    where the others can bear it.
    """
    names = [ValidatorId(f"v{index}") for index in range(count)]
    keys = {name: KeyPair(rng.randbytes(32)) for name in names}
    bad = names[count - faulty :]
    sets: list[ValidatorSet] = []
    while len(sets) < (3 if change_sets else 1):
        stakes = {name: rng.randint(1, 10) for name in names}
        if len(sets) == 2 and count >= 5:
            del stakes[names[0]]
        if 3 * sum(stakes[name] for name in bad) >= sum(stakes.values()):
            stakes.update(dict.fromkeys(bad, 1))
            stakes.update({name: stake + 3 for name, stake in stakes.items() if name not in bad})
        validators = validator_set(stakes, keys)
        if validators not in sets:
            sets.append(validators)
    return ToyWorld(
        genesis_hash=hash32(rng.randbytes(16)),
        keys=keys,
        sets=sets,
        epoch_length_slots=rng.randint(3, 9) if change_sets else 1_000_000,
    )

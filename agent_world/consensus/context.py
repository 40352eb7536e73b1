"""What a height starts from: everything its proposals and votes are checked against, fixed by the parent block."""

from __future__ import annotations

import attrs

from agent_world.consensus.stake import slot_epoch
from agent_world.consensus.validators import ValidatorSet
from agent_world.wire.ids import Hash32, ValidatorId, WorldId


@attrs.frozen(slots=True, kw_only=True)
class HeightContext:
    """Constants of one height on one chain."""

    world_id: WorldId
    genesis_hash: Hash32
    height: int
    """Height to be decided; 1 for the first block."""
    parent_hash: Hash32
    """Block hash of height - 1; the genesis hash for height 1."""
    parent_slot: int
    """0 for height 1: the genesis counts as slot 0."""
    parent_timestamp_ms: int
    """Block time of the parent; the genesis time for height 1."""
    validators: ValidatorSet
    """The set that decides this height in all rounds."""
    next_validators_hash: Hash32
    """The set that takes over with the next epoch, as the parent's state fixes it; the set of this height if no
    change is pending."""
    epoch_length_slots: int

    @property
    def epoch(self) -> int:
        """Epoch of the height, the same in every round (D4)."""
        return slot_epoch(self.epoch_length_slots, self.parent_slot + 1)

    @property
    def change_pending(self) -> bool:
        """Whether another set waits for the next epoch."""
        return self.next_validators_hash != self.validators.hash

    def slot(self, round_: int) -> int:
        """Slot of a block first proposed in that round."""
        return self.parent_slot + 1 + round_

    def proposer(self, round_: int) -> ValidatorId:
        """Who may sign the proposal of that round."""
        return self.validators.proposer(self.parent_slot, round_)

    def next_set_after(self, slot: int) -> Hash32:
        """Hash of the set that decides the next height if this one's block has ``slot``.

        The next height's epoch is slot_epoch(slot + 1); a change takes effect where that is a later epoch.
        """
        same_epoch = slot_epoch(self.epoch_length_slots, slot + 1) == self.epoch
        return self.validators.hash if same_epoch else self.next_validators_hash

"""Validators that do not follow the rules. Together they hold less than a third of the stake."""

from __future__ import annotations

from enum import StrEnum

from agent_world.consensus.events import BlockBuilt, BuildBlock, JudgeBlock
from agent_world.consensus.messages import EarlyMessage, VerifiedProposal, VerifiedVote
from agent_world.crypto.signing import Domain, sign_record
from agent_world.errors import Ignored, RemoteError
from agent_world.testing.bus_messages import Consensus
from agent_world.testing.sim_node import SimNode
from agent_world.wire import record
from agent_world.wire.cid import ContentHash
from agent_world.wire.consensus import Proposal, Step, Vote
from agent_world.wire.ids import U32, U64, Hash32
from agent_world.wire.limits import PROPOSAL_BYTES_MAX
from agent_world.wire.signed import Signed


class Vice(StrEnum):
    """What a Byzantine validator does."""

    SILENT = "silent"
    TWIN = "twin"
    """Two processes with one key, each talking to a part of the others."""
    INVALID = "invalid"
    """Proposes blocks that do not execute, and finds every block valid."""
    WITHHOLD = "withhold"
    """Shows each message to some only."""
    LIAR = "liar"
    """Signs anything for anybody."""
    SCHEMER = "schemer"
    """Plays the adversary's schemes."""


class ByzantineNode(SimNode):
    """Its signatures and commits are nobody's concern."""

    is_honest = False

    def take_consensus(self, data: bytes) -> None:
        """Does not listen to its own key, or it would take itself for a second process and fall silent."""
        assert self.own is not None
        message = self.open(data)
        own = self.around.world.keys[self.own].public_key
        if isinstance(message, (VerifiedVote, VerifiedProposal)) and message.validator.public_key == own:
            return
        if isinstance(message, EarlyMessage) and message.key == own:
            return
        super().take_consensus(data)


class SilentNode(ByzantineNode):
    """Hears everything and says nothing."""

    def send(self, target: int, message: object) -> None:
        """Nothing leaves."""


class TwinNode(ByzantineNode):
    """One of two processes that share a key and do not know of each other."""

    side = 0
    """0 or 1: which half of the nodes it talks to."""

    def broadcast(self, data: bytes) -> None:
        """To one half of the nodes; the other twin talks to the rest, some hear both. Changes with the height."""
        for target in range(self.around.bus.size):
            half = int((target * 7 + self.height * 13) % 5 < 2)
            both = (target + self.height) % 4 == 0
            if target != self.number and (both or half == self.side):
                self.send(target, Consensus(data))


class InvalidNode(ByzantineNode):
    """Proposes blocks with a wrong state root."""

    def build(self, effect: BuildBlock) -> None:
        """Wrong root, wrong time, or honest."""
        context = self.engine_context()
        choice = self.around.rng.randrange(3)
        wall_ms = self.wall_ms() + (3_600_000 if choice == 1 else 0)
        block = self.around.world.build(context, effect.round, wall_ms, (), valid=choice != 0)
        self.later(1, lambda: self.feed(BlockBuilt(effect.height, effect.round, block, ())))

    def is_valid(self, effect: JudgeBlock) -> bool:
        """Everything is fine."""
        return True


class WithholdNode(ByzantineNode):
    """Each message reaches each node with a chance of one half, and is not repeated to the others."""

    def send(self, target: int, message: object) -> None:
        """Toss a coin by message and target: a repeat meets the same fate."""
        data = message.data if isinstance(message, Consensus) else b""
        if sum(data[-8:]) + target & 1 or not data:
            super().send(target, message)


class LiarNode(ByzantineNode):
    """Signs whatever may confuse: both sides of every vote, several blocks, false valid rounds, far rounds."""

    def broadcast(self, data: bytes) -> None:
        """Its own engine's messages go to a random half."""
        for target in self._some():
            self.send(target, Consensus(data))

    def take_consensus(self, data: bytes) -> None:
        """Answer each message of another with lies, then behave as if honest."""
        assert self.own is not None
        known = data in self.seen
        super().take_consensus(data)
        if known or not self.up or self.around.rng.randrange(3):
            return
        message = self.open(data)
        own = self.around.world.keys[self.own].public_key
        if isinstance(message, (RemoteError, Ignored, EarlyMessage)) or message.validator.public_key == own:
            return
        if self.engine_context().validators.by_key(own) is None:
            return
        if isinstance(message, VerifiedProposal):
            self.vote_both_ways(int(message.proposal.round), message.block_hash)
            self.repropose(message)
        elif message.vote.block_hash is not None:
            self.vote_both_ways(int(message.vote.round), message.vote.block_hash)

    def build(self, effect: BuildBlock) -> None:
        """As proposer: one block for these, another for those."""
        context = self.engine_context()
        for action in (b"\x01", b"\x02"):
            actions = (ContentHash(action * 32),)
            block = self.around.world.build(context, effect.round, self.wall_ms(), actions)
            proposal = Proposal(
                world_id=context.world_id,
                height=U64(context.height),
                round=U32(effect.round),
                valid_round=None,
                block=block,
                actions=actions,
            )
            self._tell_some(Domain.PROPOSAL, proposal)

    def vote_both_ways(self, round_: int, block_hash: Hash32) -> None:
        """For the block, for nil and for a block that does not exist; prevotes and precommits; now and far ahead."""
        context = self.engine_context()
        far = round_ + self.around.rng.choice((0, 0, 0, 1, 7, 4_000_000_000))
        nowhere = Hash32(self.around.rng.randbytes(32))
        for step in (Step.PREVOTE, Step.PRECOMMIT):
            for choice in (block_hash, None, nowhere):
                vote = Vote(
                    world_id=context.world_id,
                    height=U64(context.height),
                    round=U32(min(far, 2**32 - 1)),
                    step=step,
                    block_hash=choice,
                )
                self._tell_some(Domain.VOTE, vote)

    def repropose(self, heard: VerifiedProposal) -> None:
        """Propose a block of an earlier round as if it had been justified there."""
        context = self.engine_context()
        signed = record.from_bytes(Signed, heard.data, size_max=PROPOSAL_BYTES_MAX)
        original = record.from_bytes(Proposal, signed.body, size_max=PROPOSAL_BYTES_MAX)
        for round_ in range(original.round + 1, original.round + 4):
            if context.proposer(round_) == self.own:
                lie = Proposal(
                    world_id=context.world_id,
                    height=U64(context.height),
                    round=U32(round_),
                    valid_round=original.round,
                    block=original.block,
                    actions=original.actions,
                )
                self._tell_some(Domain.PROPOSAL, lie)

    def _tell_some(self, domain: Domain, body: Proposal | Vote) -> None:
        assert self.own is not None
        world = self.around.world
        data = sign_record(domain, world.genesis_hash, body, world.keys[self.own])
        for target in self._some():
            self.send(target, Consensus(data))

    def _some(self) -> list[int]:
        others = [target for target in range(self.around.bus.size) if target != self.number]
        return [target for target in others if self.around.rng.randrange(2)]

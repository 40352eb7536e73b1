"""A Byzantine validator that plays its part in the adversary's schemes, and is honest in between."""

from __future__ import annotations

import attrs

from agent_world.consensus.context import HeightContext
from agent_world.consensus.messages import VerifiedProposal
from agent_world.crypto.hashing import hash32
from agent_world.crypto.signing import Domain, sign_record
from agent_world.testing.adversary import Adversary, Kind, Scheme
from agent_world.testing.bus_messages import Consensus
from agent_world.testing.byzantine import ByzantineNode
from agent_world.wire import record
from agent_world.wire.cid import ContentHash
from agent_world.wire.consensus import Proposal, Step, Vote
from agent_world.wire.ids import U32, U64, Hash32
from agent_world.wire.limits import VOTE_BYTES_MAX
from agent_world.wire.signed import Signed

REPEAT_MS = 150
"""A schemer says its lies again at this interval while the scheme lasts."""


class SchemerNode(ByzantineNode):
    """Knows what its accomplices are told to do, and needs no guard for it."""

    adversary: Adversary | None = None
    """None once faults are over: then it is honest."""

    def scheme(self) -> Scheme | None:
        """The scheme that is on at the engine's height."""
        if self.adversary is None:
            return None
        scheme = self.adversary.scheme_for(self.engine_context())
        return scheme if scheme is not None and self.around.bus.now_ms < scheme.end_ms else None

    def start_height(self) -> None:
        """Where a schemer proposes first, the split begins at once."""
        super().start_height()
        scheme = self.scheme()
        if scheme is not None and scheme.kind is Kind.SPLIT:
            self.later(60, lambda: self.play_split(scheme))

    def broadcast(self, data: bytes) -> None:
        """What its own engine says is kept back while a scheme is on."""
        if self.scheme() is None:
            super().broadcast(data)

    def take_consensus(self, data: bytes) -> None:
        """The honest proposal of round 0 is what LOCK and POLC wait for."""
        known = data in self.seen
        super().take_consensus(data)
        message = self.open(data) if self.up and not known else None
        if isinstance(message, VerifiedProposal) and message.proposal.round == 0:
            scheme = self.scheme()
            if scheme is not None and scheme.kind is not Kind.SPLIT:
                self.play_lock(scheme, message.block_hash, self.engine_context())

    def send(self, target: int, message: object) -> None:
        """Those who are to be turned do not learn from a schemer what the group has committed."""
        if isinstance(message, Consensus) or self.adversary is None or not self.adversary.keeps_from(target):
            super().send(target, message)

    def _goes_on(self, scheme: Scheme) -> bool:
        """Whether to play on; with ruses also when the group has committed and taken this node along."""
        if self.adversary is not None and self.adversary.ruses:
            return self.around.bus.now_ms < scheme.end_ms
        return self.scheme() is scheme and self.engine_context().height == scheme.height

    def play_lock(self, scheme: Scheme, block_hash: Hash32, context: HeightContext) -> None:
        """Help the group to commit, let the others move on, and offer them another block in round 1."""
        if not self._goes_on(scheme):
            return
        for inside in (True, False):
            self.tell(scheme, inside, self.vote(context, 0, Step.PREVOTE, block_hash))
            self.tell(scheme, inside, self.vote(context, 0, Step.PRECOMMIT, block_hash if inside else None))
        self.forge(scheme, True, context, 0, block_hash)
        other = self.other_block(context, scheme)
        if context.proposer(1) == self.own:
            valid_round = 0 if scheme.kind is Kind.POLC else None
            self.tell(scheme, False, self.proposal(context, 1, other, valid_round))
        for step in (Step.PREVOTE, Step.PRECOMMIT):
            self.tell(scheme, False, self.vote(context, 1, step, hash32(other)))
        self.forge(scheme, False, context, 1, hash32(other))
        self.later(REPEAT_MS, lambda: self.play_lock(scheme, block_hash, context))

    def other_block(self, context: HeightContext, scheme: Scheme) -> bytes:
        """The same block from every schemer: fresh in round 1, or as if it were of round 0."""
        round_ = 0 if scheme.kind is Kind.POLC else 1
        return self.around.world.build(context, round_, context.parent_timestamp_ms + 1, _ACTIONS[1])

    def play_split(self, scheme: Scheme) -> None:
        """One block and the votes for it to the group, another to the rest."""
        context = self.engine_context()
        if self.scheme() is not scheme or context.height != scheme.height:
            return
        for inside in (True, False):
            actions = _ACTIONS[inside]
            block = self.around.world.build(context, 0, context.parent_timestamp_ms + 1, actions)
            if context.proposer(0) == self.own:
                self.tell(scheme, inside, self.proposal(context, 0, block, None, actions))
            for step in (Step.PREVOTE, Step.PRECOMMIT):
                self.tell(scheme, inside, self.vote(context, 0, step, hash32(block)))
            self.forge(scheme, inside, context, 0, hash32(block))
        self.later(REPEAT_MS, lambda: self.play_split(scheme))

    def vote(self, context: HeightContext, round_: int, step: Step, choice: Hash32 | None) -> bytes:
        """A signed vote, unguarded."""
        vote = Vote(
            world_id=context.world_id, height=U64(context.height), round=U32(round_), step=step, block_hash=choice
        )
        return self._signed(Domain.VOTE, vote)

    def forge(self, scheme: Scheme, inside: bool, context: HeightContext, round_: int, choice: Hash32) -> None:
        """Vote for a block in the name of every honest validator, signed with a key that is not theirs."""
        assert self.adversary is not None
        if not self.adversary.ruses:
            return
        for step in (Step.PREVOTE, Step.PRECOMMIT):
            own = record.from_bytes(Signed, self.vote(context, round_, step, choice), size_max=VOTE_BYTES_MAX)
            for name in sorted(self.around.honest):
                forged = attrs.evolve(own, key=self.around.world.keys[name].public_key)
                self.tell(scheme, inside, record.to_bytes(forged))

    def proposal(
        self,
        context: HeightContext,
        round_: int,
        block: bytes,
        valid_round: int | None,
        actions: tuple[ContentHash, ...] | None = None,
    ) -> bytes:
        """A signed proposal, unguarded."""
        proposal = Proposal(
            world_id=context.world_id,
            height=U64(context.height),
            round=U32(round_),
            valid_round=None if valid_round is None else U32(valid_round),
            block=block,
            actions=_ACTIONS[1] if actions is None else actions,
        )
        return self._signed(Domain.PROPOSAL, proposal)

    def tell(self, scheme: Scheme, inside: bool, data: bytes) -> None:
        """To the scheme's group, or to everybody else."""
        assert self.adversary is not None
        for node in self.adversary.nodes:
            if node is not self and (node.own in scheme.group) == inside:
                self.send(node.number, Consensus(data))

    def _signed(self, domain: Domain, body: Proposal | Vote) -> bytes:
        assert self.own is not None
        world = self.around.world
        return sign_record(domain, world.genesis_hash, body, world.keys[self.own])


_ACTIONS: tuple[tuple[ContentHash, ...], tuple[ContentHash, ...]] = (
    (ContentHash(b"\x0a" * 32),),
    (ContentHash(b"\x0b" * 32),),
)
"""What makes the schemers' two blocks differ."""

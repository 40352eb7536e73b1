"""The two-step BFT rules of one height, after arXiv:1807.04938 (numbers of lines are those of its algorithm 1).

Two rules go beyond the paper and keep its proof: the valid value is taken from any round up to the current one
(line 36 asks for the current one), which can only make more nodes propose a block that needs proposing; and a round
whose precommits for nil reach the required stake ends at once, since nothing can be decided in it any more.
"""

from __future__ import annotations

from collections.abc import Container

from agent_world.config import ConsensusConfig
from agent_world.consensus.certificate import build_certificate
from agent_world.consensus.context import HeightContext
from agent_world.consensus.events import (
    BlockBuilt,
    BlockJudged,
    Broadcast,
    BuildBlock,
    Commit,
    Drop,
    Dropped,
    Effect,
    JudgeBlock,
    NeedBlock,
    Sign,
)
from agent_world.consensus.guard_records import STEP_ORDER, Lock, SignRequest, ValidValue
from agent_world.consensus.judging import JudgeBook
from agent_world.consensus.messages import VerifiedProposal, VerifiedVote, check_proposal
from agent_world.consensus.rounds import RoundBook
from agent_world.consensus.tally import Choice, Quorum
from agent_world.consensus.timers import Timer, Timers, wait_ms
from agent_world.crypto.hashing import hash32
from agent_world.errors import RemoteError
from agent_world.wire import record
from agent_world.wire.consensus import Proposal, Step, ValidatorEntry, Vote
from agent_world.wire.ids import U32, U64, Hash32, PublicKey

_NOT_BACK: bytes = b""
"""Own message that the guard has not answered yet."""


class HeightRun:
    """One height from its start to its decision. Effects gather in ``out`` until the engine takes them."""

    def __init__(
        self,
        config: ConsensusConfig,
        context: HeightContext,
        own: ValidatorEntry | None,
        gone: Container[PublicKey] = frozenset(),
    ) -> None:
        self.config = config
        self.context = context
        self.own = own
        """This node's entry while it may sign at this height; None makes it a watcher of the same rules."""
        self.gone = gone
        """Validators whose link has ended and that were not heard since."""
        self.book = RoundBook(context.validators)
        self.judging = JudgeBook()
        self.timers = Timers()
        self.out: list[Effect] = []
        self.started = False
        self.decided = False
        self.step = Step.PROPOSE
        self.lock: Lock | None = None
        self.valid: ValidValue | None = None
        self.signed: dict[tuple[int, Step], bytes] = {}
        """Own messages by (round, step): those of this round and the one before, and the lock's."""
        self.newest_signed = (-1, 0)
        """(round, STEP_ORDER) of the last message asked to be signed."""
        self.repeats = 0
        """How often own messages were sent again in this round."""
        self.needed: NeedBlock | None = None
        """Decided for a block whose bytes are not here."""

    @property
    def round(self) -> int:
        """The round this node is in."""
        return self.book.current

    # What arrives.

    def on_vote(self, vote: VerifiedVote) -> None:
        """A verified vote of this height."""
        self.out.extend(self.book.add_vote(vote))

    def on_proposal(self, heard: VerifiedProposal) -> None:
        """A verified proposal of this height."""
        self.out.extend(self.book.add_proposal(heard, self._kept_blocks()))

    def on_judged(self, judged: BlockJudged) -> None:
        """The shell's verdict on a block."""
        if not self.judging.answer(judged.block_hash, valid=judged.valid):
            self.out.append(Dropped(Drop.LATE_BLOCK, "a verdict nobody asked for"))

    def on_built(self, built: BlockBuilt) -> None:
        """The block this node may propose in its round, if the round still waits for it."""
        if built.round != self.round or self.step is not Step.PROPOSE or not self.started or self.decided:
            self.out.append(Dropped(Drop.LATE_BLOCK, f"built for round {built.round}"))
            return
        if self.valid is not None:  # learnt while the block was being built, and it goes first
            self._propose_valid(self.valid)
            return
        proposal = Proposal(
            world_id=self.context.world_id,
            height=U64(self.context.height),
            round=U32(self.round),
            valid_round=None,
            block=built.block,
            actions=built.actions,
        )
        try:
            check_proposal(proposal, self.context)
        except RemoteError as error:
            self.out.append(Dropped(Drop.BUILT_INVALID, str(error)))
            return
        block_hash = hash32(built.block)
        self.judging.note_valid(block_hash)
        self._sign(proposal, Step.PROPOSE, block_hash)

    def on_timer(self, timer: Timer, now_ms: int) -> None:
        """A deadline of the current round has come (lines 57 to 67)."""
        if timer is Timer.PROPOSE and self.step is Step.PROPOSE:
            self._prevote(None)
        elif timer is Timer.PREVOTE and self.step is Step.PREVOTE:
            self._precommit(None)
        elif timer is Timer.PRECOMMIT:
            self.enter_round(self.round + 1, now_ms)

    def on_gone(self, now_ms: int) -> None:
        """One more validator is gone. If it is the proposer, less time is given to its proposal, from now on.

        Never more: links that come and go must not hold up a round.
        """
        self.timers.bring_forward(Timer.PROPOSE, now_ms + self._propose_wait_ms(self.round))

    def _propose_wait_ms(self, round_: int) -> int:
        proposer = self.context.validators.by_id(self.context.proposer(round_))
        is_gone = proposer is not None and proposer.public_key in self.gone
        return wait_ms(self.config, Timer.PROPOSE, round_, is_gone=is_gone)

    # The rules. Each returns whether it changed something.

    def advance(self, now_ms: int) -> None:
        """Apply the rules until none of them fires."""
        while self._decide() or self._skip(now_ms) or (self.started and not self.decided and self._vote(now_ms)):
            pass

    def _vote(self, now_ms: int) -> bool:
        return self._learn_valid() or self._prevote_proposal() or self._precommit_quorum() or self._wait(now_ms)

    def enter_round(self, round_: int, now_ms: int) -> None:
        """Line 11: start a round; its proposer proposes the valid value, or asks for a new block."""
        self.resume_round(round_, Step.PROPOSE, now_ms)
        if self.own is None or self.context.proposer(round_) != self.own.validator_id:
            return
        if self.valid is not None:
            self._propose_valid(self.valid)
        else:
            self.out.append(BuildBlock(self.context.height, round_, self.context.slot(round_)))

    def resume_round(self, round_: int, step: Step, now_ms: int) -> None:
        """Be in a round and step, with fresh deadlines and nothing proposed."""
        self.started = True
        self.step = step
        self.repeats = 0
        pinned = {point.round for point in (self.lock, self.valid) if point is not None}
        self.book.move_to(round_, pinned)
        kept = {self.lock.round if self.lock is not None else round_, round_ - 1, round_}
        self.signed = {place: data for place, data in self.signed.items() if place[0] in kept}
        self.timers.clear(Timer.START, Timer.EMPTY, Timer.PROPOSE, Timer.PREVOTE, Timer.PRECOMMIT)
        if step is Step.PROPOSE:
            self.timers.set(Timer.PROPOSE, now_ms + self._propose_wait_ms(round_))
        self.timers.set(Timer.REPEAT, now_ms + self.config.rebroadcast_ms)

    def _decide(self) -> bool:
        """Line 49: precommits of the required stake for one block in any round decide the height."""
        if self.decided:
            return False
        for round_ in sorted(self.book.rounds):
            tally = self.book.rounds[round_].precommits
            if tally.quorum is None or tally.quorum.choice is None:
                continue
            block_hash = tally.quorum.choice
            known = self.book.blocks.get(block_hash)
            if known is None and self.needed is not None:
                return False
            votes = tally.votes_for(block_hash)
            certificate = build_certificate(votes[0].body, (vote.signature for vote in votes))
            if known is None:
                self.needed = NeedBlock(self.context.height, block_hash, certificate)
                self.out.append(self.needed)
                return False
            self.decided = True
            self.needed = None
            self.timers.clear(*(timer for timer in Timer if timer is not Timer.REPEAT))
            self.out.append(Commit(self.context.height, block_hash, known.block, known.actions, certificate))
            return True
        return False

    def _skip(self, now_ms: int) -> bool:
        """Line 55: stake that cannot be all faulty is in a later round."""
        target = None if self.decided else self.book.skip_target()
        if target is None:
            return False
        self.enter_round(target, now_ms)
        return True

    def _learn_valid(self) -> bool:
        """Line 36, first half: the newest round with prevotes of the required stake for a block known as valid."""
        for round_ in sorted(self.book.rounds, reverse=True):
            if round_ > self.round:
                continue
            if self.valid is not None and round_ <= self.valid.round:
                return False
            tally = self.book.rounds[round_].prevotes
            block_hash = tally.quorum.choice if tally.quorum is not None else None
            if block_hash is None or not self._is_valid(block_hash, fresh=False):
                continue
            known = self.book.blocks[block_hash]
            self.valid = ValidValue(
                round=U32(round_),
                block_hash=block_hash,
                block=known.block,
                actions=known.actions,
                proof=tuple(vote.data for vote in tally.votes_for(block_hash)),
            )
            return True
        return False

    def _prevote_proposal(self) -> bool:
        """Lines 22 and 28: prevote the round's proposal unless the lock forbids it, else nil."""
        heard = self.book.at(self.round).proposal
        if self.step is not Step.PROPOSE or heard is None:
            return False
        valid_round = heard.proposal.valid_round
        if valid_round is None:
            allowed = self._lock_allows(heard.block_hash, None)
        else:
            tally = self.book.prevotes(valid_round)
            if tally is None or tally.quorum != Quorum(heard.block_hash):
                return False  # its prevotes may still arrive; the proposal's timeout ends the wait
            allowed = self._lock_allows(heard.block_hash, valid_round)
        if not allowed:
            self._prevote(None)
            return True
        judged = self._is_valid(heard.block_hash, fresh=valid_round is None)
        if judged is None:
            return False
        self._prevote(heard.block_hash if judged else None, valid_round)
        return True

    def _lock_allows(self, block_hash: Hash32, valid_round: int | None) -> bool:
        """A lock gives way to its own block, and to prevotes of the required stake of its round or a later one."""
        if self.lock is None or self.lock.block_hash == block_hash:
            return True
        return valid_round is not None and self.lock.round <= valid_round

    def _precommit_quorum(self) -> bool:
        """Line 36, second half, and line 44: the prevotes of this round agree, on a valid block or on nil."""
        quorum = self.book.at(self.round).prevotes.quorum
        if self.step is not Step.PREVOTE or quorum is None:
            return False
        if quorum.choice is not None:
            if not self._is_valid(quorum.choice, fresh=False):
                return False
            self.lock = Lock(round=U32(self.round), block_hash=quorum.choice)
        self._precommit(quorum.choice)
        return True

    def _wait(self, now_ms: int) -> bool:
        """Lines 34 and 47: enough votes but no agreement yet, so wait a while for the rest."""
        here = self.book.at(self.round)
        validators = self.context.validators
        if here.precommits.quorum == Quorum(None):
            self.enter_round(self.round + 1, now_ms)
            return True
        for timer, tally in ((Timer.PREVOTE, here.prevotes), (Timer.PRECOMMIT, here.precommits)):
            in_time = timer is Timer.PRECOMMIT or self.step is Step.PREVOTE
            if in_time and validators.is_quorum(tally.stake) and not self.timers.is_set(timer):
                self.timers.set(timer, now_ms + wait_ms(self.config, timer, self.round))
        return False

    def _is_valid(self, block_hash: Hash32, *, fresh: bool) -> bool | None:
        """The verdict on a known block, asking for it if need be; None while there is none."""
        known = self.book.blocks.get(block_hash)
        if known is None:
            return None
        if self.judging.ask(block_hash, fresh=fresh):
            self.out.append(JudgeBlock(self.context.height, block_hash, known.block, known.actions, fresh))
        return self.judging.opinion(block_hash, fresh=fresh)

    def _kept_blocks(self) -> set[Hash32]:
        return {point.block_hash for point in (self.lock, self.valid) if point is not None}

    # Signing.

    def _propose_valid(self, valid: ValidValue) -> None:
        """Propose the valid value again, byte for byte."""
        proposal = Proposal(
            world_id=self.context.world_id,
            height=U64(self.context.height),
            round=U32(self.round),
            valid_round=valid.round,
            block=valid.block,
            actions=valid.actions,
        )
        self._sign(proposal, Step.PROPOSE, valid.block_hash)

    def _prevote(self, choice: Choice, valid_round: int | None = None) -> None:
        self.step = Step.PREVOTE
        self._sign(self._vote_body(Step.PREVOTE, choice), Step.PREVOTE, choice, unlock_round=valid_round)

    def _precommit(self, choice: Choice) -> None:
        self.step = Step.PRECOMMIT
        self._sign(self._vote_body(Step.PRECOMMIT, choice), Step.PRECOMMIT, choice)

    def _vote_body(self, step: Step, choice: Choice) -> Vote:
        return Vote(
            world_id=self.context.world_id,
            height=U64(self.context.height),
            round=U32(self.round),
            step=step,
            block_hash=choice,
        )

    def _sign(self, body: Proposal | Vote, step: Step, choice: Choice, *, unlock_round: int | None = None) -> None:
        place = (self.round, step)
        if self.own is None or place in self.signed:
            return
        self.signed[place] = _NOT_BACK
        self.newest_signed = (self.round, STEP_ORDER[step])
        request = SignRequest(
            height=self.context.height,
            round=U32(self.round),
            step=step,
            body=record.to_bytes(body),
            block_hash=choice,
            lock=self.lock,
            valid=self.valid,
            unlock_round=unlock_round,
        )
        self.out.append(Sign(request))

    def on_signed(self, message: VerifiedVote | VerifiedProposal) -> None:
        """An own message came back from the guard: count it and send it."""
        body = message.vote if isinstance(message, VerifiedVote) else message.proposal
        step = body.step if isinstance(body, Vote) else Step.PROPOSE
        if (body.round, step) in self.signed:
            self.signed[body.round, step] = message.data
        self.out.append(Broadcast(message.data))
        if isinstance(message, VerifiedVote):
            self.on_vote(message)
            return
        self.on_proposal(message)
        if message.proposal.valid_round is not None and self.valid is not None:
            # Others accept the block again only with the prevotes that justify it, and may have missed them.
            self.out.extend(Broadcast(data) for data in self.valid.proof)

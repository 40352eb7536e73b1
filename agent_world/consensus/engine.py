"""The consensus engine: one height after the other, a pure state machine (D4, P1).

How it is driven: hand every input with the monotonic time to ``step`` and carry the effects out in order; hand in
``Wake`` when ``wake_at_ms`` has come. The engine trusts what its inputs' types say: received messages were opened by
``messages.open_message`` against ``engine.run.context``, and own ones come back from the guard. A shell that leaves
out repeats by their bytes must let those through that the engine has dropped: a vote for a block that was not known
counts when it comes again.
"""

from __future__ import annotations

from agent_world.config import ConsensusConfig
from agent_world.consensus.early import EarlyBuffer
from agent_world.consensus.events import (
    BlockBuilt,
    BlockJudged,
    Drop,
    Dropped,
    EarlyReceived,
    Effect,
    Input,
    LinkChanged,
    OwnSigned,
    ProposalReceived,
    StartHeight,
    VoteReceived,
    WorkAvailable,
)
from agent_world.consensus.guard_records import STEP_ORDER
from agent_world.consensus.height import HeightRun
from agent_world.consensus.messages import EarlyMessage, VerifiedProposal, VerifiedVote, open_message
from agent_world.consensus.repeat import repeat
from agent_world.consensus.restore import restore
from agent_world.consensus.timers import Timer
from agent_world.errors import Ignored, LocalError, RemoteError
from agent_world.wire.consensus import Step
from agent_world.wire.ids import PublicKey


class Engine:
    """Decides heights. With ``own`` None, or not in a height's set, it follows the same rules without signing.

    ``own`` is a key and no id: a validator whose key was rotated away must not sign with the old one.
    """

    def __init__(self, config: ConsensusConfig, own: PublicKey | None) -> None:
        self._config = config
        self._own = own
        self._run: HeightRun | None = None
        self._early = EarlyBuffer()
        self._gone: dict[PublicKey, int] = {}
        """Validators whose link has ended, and the height that was being decided then."""
        self._work = False
        self._now_ms = 0

    @property
    def run(self) -> HeightRun | None:
        """The height being decided, for status pages and tests; not to be changed."""
        return self._run

    @property
    def has_work(self) -> bool:
        """Whether WorkAvailable was handed in for this height: once is enough."""
        return self._work

    @property
    def wake_at_ms(self) -> int | None:
        """When to hand in Wake, in the milliseconds of ``step``'s clock; None if nothing is waited for."""
        return None if self._run is None else self._run.timers.next_ms

    def step(self, now_ms: int, event: Input) -> tuple[Effect, ...]:
        """Take one input and return what to do now.

        Raises LocalError if the clock runs backwards or a height is started twice, UsageError for a validator set
        with a supermajority below 2/3. Never raises for what a peer sent.
        """
        if now_ms < self._now_ms:
            raise LocalError(f"the monotonic clock went from {self._now_ms} to {now_ms} ms")
        self._now_ms = now_ms
        if isinstance(event, StartHeight):
            run = self._start(event, now_ms)
        elif isinstance(event, LinkChanged) and (self._run is None or event.is_linked):
            self._note_link(event)
            return ()
        elif self._run is None:
            return (Dropped(Drop.NO_HEIGHT, type(event).__name__),)
        else:
            run = self._run
            self._take(run, event, now_ms)
        run.advance(now_ms)
        while self._begin_if_due(run, now_ms) or self._fire_due(run, now_ms):
            run.advance(now_ms)
        effects = tuple(run.out)
        run.out.clear()
        return effects

    def _start(self, event: StartHeight, now_ms: int) -> HeightRun:
        context = event.context
        if self._run is not None and context.height <= self._run.context.height:
            raise LocalError(f"height {context.height} started after height {self._run.context.height}")
        context.validators.require_byzantine_safe()
        entry = None if self._own is None else context.validators.by_key(self._own)
        self._gone = {key: height for key, height in self._gone.items() if context.validators.by_key(key) is not None}
        run = self._run = HeightRun(self._config, context, entry, self._gone)
        self._work = False
        run.timers.set(Timer.START, now_ms + self._config.block_interval_ms)
        if self._config.create_empty_blocks or context.change_pending:
            run.timers.set(Timer.EMPTY, now_ms + self._config.empty_block_interval_ms)
        if event.restored is not None:
            restore(run, event.restored, now_ms)
        for early in self._early.take(context.height):
            self._take_early(run, early)
        return run

    def _note_link(self, event: LinkChanged) -> None:
        if event.is_linked:
            self._gone.pop(event.key, None)
        else:
            self._gone[event.key] = 0 if self._run is None else self._run.context.height

    def _take(self, run: HeightRun, event: Input, now_ms: int) -> None:
        if isinstance(event, WorkAvailable):
            self._work = True
        elif isinstance(event, VoteReceived):
            self._take_message(run, event.vote)
        elif isinstance(event, ProposalReceived):
            self._take_message(run, event.proposal)
        elif isinstance(event, EarlyReceived):
            self._keep_early(run, event.message)
        elif isinstance(event, OwnSigned):
            self._take_own(run, event.data)
        elif isinstance(event, LinkChanged):
            self._note_link(event)
            run.on_gone(now_ms)
        elif isinstance(event, (BlockBuilt, BlockJudged)):
            if event.height != run.context.height:
                run.out.append(Dropped(Drop.LATE_BLOCK, f"for height {event.height}"))
            elif isinstance(event, BlockBuilt):
                run.on_built(event)
            else:
                run.on_judged(event)

    def _take_message(self, run: HeightRun, message: VerifiedVote | VerifiedProposal) -> None:
        body = message.vote if isinstance(message, VerifiedVote) else message.proposal
        if body.height != run.context.height:
            run.out.append(Dropped(Drop.STALE_HEIGHT, f"for height {body.height}"))
            return
        # Others repeat what it has signed at the height in which it went; a later one shows that it is heard after all.
        if self._gone.get(message.validator.public_key, body.height) < body.height:
            del self._gone[message.validator.public_key]
        if run.own is not None and message.validator.public_key == run.own.public_key:
            step = message.vote.step if isinstance(message, VerifiedVote) else Step.PROPOSE
            if (body.round, STEP_ORDER[step]) > run.newest_signed:
                # What we sign is durable before it is sent, so a newer message is by another holder of the key.
                run.own = None
                run.out.append(Dropped(Drop.KEY_ELSEWHERE, f"{step} of round {body.round}"))
        if isinstance(message, VerifiedVote):
            run.on_vote(message)
        else:
            run.on_proposal(message)

    def _take_own(self, run: HeightRun, data: bytes) -> None:
        try:
            message = open_message(data, run.context, verified=self._own)
        except Ignored as error:
            run.out.append(Dropped(Drop.STALE_HEIGHT, error.detail))
            return
        except RemoteError as error:
            raise LocalError(f"the guard returned a message that breaks our own rules: {error}") from None
        if isinstance(message, EarlyMessage) or message.validator.public_key != self._own:
            raise LocalError("the guard returned a message that was not asked for")
        if run.own is None:
            run.out.append(Dropped(Drop.KEY_ELSEWHERE, "signed before it was noticed; not sent"))
            return
        run.on_signed(message)

    def _keep_early(self, run: HeightRun, early: EarlyMessage) -> None:
        if early.height <= run.context.height:
            self._take_early(run, early)
            return
        gone = self._early.add(early)
        run.out.extend(Dropped(Drop.EARLY_FULL) for _ in range(gone))

    def _take_early(self, run: HeightRun, early: EarlyMessage) -> None:
        try:
            message = open_message(early.data, run.context, verified=early.key)  # its signature was, when it came
        except (Ignored, RemoteError) as error:
            run.out.append(Dropped(Drop.EARLY_INVALID, str(error)))
            return
        if isinstance(message, (VerifiedVote, VerifiedProposal)):
            self._take_message(run, message)

    def _begin_if_due(self, run: HeightRun, now_ms: int) -> bool:
        """Whether round 0 was started: for work, for an empty block that is due, or because others have begun."""
        if run.started or run.decided:
            return False
        heard = run.book.stake_heard()
        first = run.book.rounds.get(0)
        # The round's own proposer or an honest validator has begun: the pause is over for everybody.
        others_begun = heard >= run.context.validators.skip_stake or (first is not None and first.proposal is not None)
        if not others_begun:
            if run.timers.is_set(Timer.START):
                return False
            # The next set must come to its turn even if nobody acts (D4).
            makes_empty = self._config.create_empty_blocks or run.context.change_pending
            empty_due = makes_empty and not run.timers.is_set(Timer.EMPTY)
            if not (self._work or empty_due or heard):
                return False
        run.enter_round(0, now_ms)
        return True

    def _fire_due(self, run: HeightRun, now_ms: int) -> bool:
        timer = run.timers.take_due(now_ms)
        if timer is None:
            return False
        if timer is Timer.REPEAT:
            run.out.extend(repeat(run, now_ms))
        else:
            run.on_timer(timer, now_ms)
        return True

"""One engine among four equal validators whose other three are played by the test."""

from __future__ import annotations

from collections import deque
from typing import Any, TypeVar

from agent_world.config import ConsensusConfig
from agent_world.consensus import guard
from agent_world.consensus.context import HeightContext
from agent_world.consensus.engine import Engine
from agent_world.consensus.events import (
    BlockJudged,
    Broadcast,
    Drop,
    Dropped,
    EarlyReceived,
    Effect,
    Input,
    JudgeBlock,
    OwnSigned,
    ProposalReceived,
    Sign,
    StartHeight,
    VoteReceived,
    Wake,
)
from agent_world.consensus.messages import EarlyMessage, VerifiedProposal, VerifiedVote, open_message
from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, sign_record
from agent_world.errors import NotSafe
from agent_world.testing.toy_world import GENESIS_TIME_MS, WORLD_ID, ToyWorld, validator_set
from agent_world.wire import record
from agent_world.wire.cid import ContentHash
from agent_world.wire.consensus import Proposal, Step, Vote
from agent_world.wire.ids import U32, U64, Hash32, ValidatorId
from agent_world.wire.signed import Signed

CONFIG = ConsensusConfig(
    block_interval_ms=50,
    create_empty_blocks=True,
    empty_block_interval_ms=200,
    propose_timeout_ms=300,
    vote_timeout_ms=150,
    timeout_delta_ms=100,
    rebroadcast_ms=1_000_000,
)
"""Re-broadcasts are out of the way unless a test wants them."""
NAMES = [ValidatorId(f"v{index}") for index in range(4)]
KEYS = {name: KeyPair(bytes([index + 1]) * 32) for index, name in enumerate(NAMES)}
WORLD = ToyWorld(
    genesis_hash=hash32(b"genesis"),
    keys=KEYS,
    sets=(validator_set(dict.fromkeys(NAMES, 1), KEYS),),
    epoch_length_slots=1_000,
)
"""Required stake 3 of 4; two validators cannot both be faulty."""
CONTEXT = WORLD.context_after(None)
E = TypeVar("E")


def proposer(round_: int) -> ValidatorId:
    return CONTEXT.proposer(round_)


def others_of(name: ValidatorId) -> list[ValidatorId]:
    return [other for other in NAMES if other != name]


def block_of(round_: int, action: int = 1, context: HeightContext = CONTEXT) -> bytes:
    return WORLD.build(context, round_, GENESIS_TIME_MS + 10, (ContentHash(bytes([action]) * 32),))


def actions_of(action: int = 1) -> tuple[ContentHash, ...]:
    return (ContentHash(bytes([action]) * 32),)


def vote_bytes(who: ValidatorId, step: Step, round_: int, choice: Hash32 | None, height: int = 1) -> bytes:
    vote = Vote(world_id=WORLD_ID, height=U64(height), round=U32(round_), step=step, block_hash=choice)
    return sign_record(Domain.VOTE, WORLD.genesis_hash, vote, KEYS[who])


def proposal_bytes(
    round_: int, block: bytes, *, action: int = 1, valid_round: int | None = None, context: HeightContext = CONTEXT
) -> bytes:
    proposal = Proposal(
        world_id=WORLD_ID,
        height=U64(context.height),
        round=U32(round_),
        valid_round=None if valid_round is None else U32(valid_round),
        block=block,
        actions=actions_of(action),
    )
    return sign_record(Domain.PROPOSAL, WORLD.genesis_hash, proposal, KEYS[context.proposer(round_)])


class OneEngine:
    """Carries out Sign with a real guard; JudgeBlock is answered with ``verdicts``, valid by default."""

    def __init__(self, own: ValidatorId | None, config: ConsensusConfig = CONFIG, context: HeightContext = CONTEXT):
        self.own = own
        self.engine = Engine(config, None if own is None else KEYS[own].public_key)
        self.context = context
        self.state = guard.GuardState()
        self.now_ms = 0
        self.effects: list[Effect] = []
        self.verdicts: dict[Hash32, bool | None] = {}
        self.answering = True
        self.not_safe = 0

    def start(self, restored: guard.GuardState | None = None) -> OneEngine:
        if restored is not None:
            self.state = restored
        return self.feed(StartHeight(self.context, restored))

    def begin(self) -> OneEngine:
        """Start, and let the empty block's interval pass, so that round 0 has begun."""
        return self.start().tick(200)

    def feed(self, event: Input) -> OneEngine:
        queue = deque(self.engine.step(self.now_ms, event))
        while queue:
            effect = queue.popleft()
            self.effects.append(effect)
            answer = self._answer(effect)
            if answer is not None:
                queue.extend(self.engine.step(self.now_ms, answer))
        return self

    def _answer(self, effect: Effect) -> Input | None:
        if isinstance(effect, Sign):
            try:
                permit = guard.check(self.state, effect.request)
            except NotSafe:
                self.not_safe += 1
                return None
            assert self.own is not None
            signed = guard.sign_with_permit(permit, WORLD.genesis_hash, KEYS[self.own])
            if permit.stored is None:
                self.state = guard.apply(self.state, guard.record_for(self.state, effect.request, signed))
            return OwnSigned(signed)
        if isinstance(effect, JudgeBlock) and self.answering:
            return BlockJudged(effect.height, effect.block_hash, self.verdicts.get(effect.block_hash, True))
        return None

    def tick(self, elapsed_ms: int) -> OneEngine:
        """Let time pass, waking whenever the engine asks for it."""
        end_ms = self.now_ms + elapsed_ms
        while (wake := self.engine.wake_at_ms) is not None and wake <= end_ms:
            self.now_ms = max(wake, self.now_ms)
            self.feed(Wake())
        self.now_ms = end_ms
        return self

    def hear(self, *data: bytes) -> OneEngine:
        """Messages from the network, opened for the engine's height."""
        for item in data:
            run = self.engine.run
            assert run is not None
            message = open_message(item, run.context)
            if isinstance(message, VerifiedVote):
                self.feed(VoteReceived(message))
            elif isinstance(message, VerifiedProposal):
                self.feed(ProposalReceived(message))
            elif isinstance(message, EarlyMessage):
                self.feed(EarlyReceived(message))
        return self

    def hear_votes(self, step: Step, round_: int, choice: Hash32 | None, who: list[ValidatorId]) -> OneEngine:
        return self.hear(*(vote_bytes(name, step, round_, choice) for name in who))

    # What it did.

    @property
    def run(self) -> Any:
        return self.engine.run

    def all(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def drops(self) -> list[Drop]:
        return [effect.reason for effect in self.all(Dropped)]

    def sent(self) -> list[bytes]:
        return [effect.data for effect in self.all(Broadcast)]

    def votes(self) -> list[tuple[Step, int, Hash32 | None]]:
        """Own votes as signed, in order."""
        requests = [effect.request for effect in self.all(Sign) if effect.request.step is not Step.PROPOSE]
        return [(request.step, int(request.round), request.block_hash) for request in requests]

    def proposals(self) -> list[Proposal]:
        return [
            record.from_bytes(Proposal, effect.request.body, size_max=1 << 17)
            for effect in self.all(Sign)
            if effect.request.step is Step.PROPOSE
        ]


def body_of(data: bytes) -> bytes:
    return record.from_bytes(Signed, data, size_max=1 << 17).body


def engine_of(round_0_proposer: bool, **how: Any) -> OneEngine:
    """An engine that is, or is not, the proposer of round 0."""
    own = proposer(0) if round_0_proposer else others_of(proposer(0))[0]
    return OneEngine(own, **how)


def others(one: OneEngine) -> list[ValidatorId]:
    assert one.own is not None
    return others_of(one.own)


def other_than_proposer_of(*rounds: int) -> ValidatorId:
    return next(name for name in NAMES if name not in {proposer(round_) for round_ in rounds})


def locked(**how: object) -> OneEngine:
    """In round 0, locked on X, its precommit given, nobody else's heard."""
    one = engine_of(False, **how).begin().hear(proposal_bytes(0, block_of(0)))
    return one.hear_votes(Step.PREVOTE, 0, hash32(block_of(0)), others(one))


def in_round(one: OneEngine, round_: int) -> OneEngine:
    """Go there by precommits for nil of the others."""
    for number in range(one.run.round, round_):
        one.hear_votes(Step.PRECOMMIT, number, None, others(one))
        one.tick(0)
    assert one.run.round == round_
    return one

"""Challenges storage nodes, answers their challenges, and looks at the own disk: draws, asks, notes what came.

Every role challenges (K-7.3): each node draws target and content by itself, so that many independent ones ask.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

import attrs
import structlog
import trio
from blake3 import blake3

from agent_world.config import ChallengeConfig
from agent_world.crypto.keys import KeyPair
from agent_world.distfs.challenge_policy import (
    StorageChallengeAdaptivePolicy,
    StorageChallengeProbeConfig,
    TargetRecord,
)
from agent_world.distfs.challenge_round import AskReveal, ChallengeRound, Effect, Outcome, OutcomeKind, RoundRules
from agent_world.distfs.challenge_stats import NodeStorageChallengeStats, proof_semantics, statistics
from agent_world.errors import ErrorCode, Refused
from agent_world.net.interface import DistributedNetwork
from agent_world.node.challenge_asking import ask_commitment
from agent_world.node.challenge_draw import ContentDraw
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.ledger import Ledger
from agent_world.node.peering import Peering
from agent_world.store.challenges import ChallengeBook
from agent_world.wire import rpc
from agent_world.wire.challenge import ChallengeQuestion, FailureReason
from agent_world.wire.cid import Cid
from agent_world.wire.hello import Role
from agent_world.wire.ids import U32, U64, Hash32, PeerId

_log = structlog.get_logger("agent_world.challenge")

LOG_MAX: Final = 512
"""Challenges that can be explained; the oldest is forgotten."""
CONTAINED_MAX: Final = 64
"""Questions that wait to be put again; the oldest is dropped and counted."""


@attrs.frozen(slots=True)
class ChallengeParts:
    """What a challenger works with."""

    config: ChallengeConfig
    network: DistributedNetwork
    ledger: Ledger
    peering: Peering
    draw: ContentDraw
    book: ChallengeBook
    clock: Clock


def rounds_of(config: ChallengeConfig) -> StorageChallengeProbeConfig:
    """The part of the settings that shapes a round."""
    return StorageChallengeProbeConfig(
        **{field.name: getattr(config, field.name) for field in attrs.fields(StorageChallengeProbeConfig)}
    )


def policy_of(config: ChallengeConfig) -> StorageChallengeAdaptivePolicy:
    """The part of the settings that says how long a failing target rests."""
    return StorageChallengeAdaptivePolicy(
        **{field.name: getattr(config, field.name) for field in attrs.fields(StorageChallengeAdaptivePolicy)}
    )


async def _keeps_all(_target: PeerId, _content: Cid) -> bool:
    return False


class Challenger:
    """Of one node; it challenges nobody until ``use`` has given it the node key."""

    def __init__(self, parts: ChallengeParts) -> None:
        self._parts = parts
        self.policy = policy_of(parts.config)
        self._rules = RoundRules(
            genesis_hash=parts.ledger.genesis_hash,
            ttl_ms=parts.config.challenge_ttl_ms,
            skew_ms=parts.config.allowed_clock_skew_ms,
            attempts_max=parts.config.contained_attempts_max,
        )
        self._key: KeyPair | None = None
        self.leaves_it: Callable[[PeerId, Cid], Awaitable[bool]] = _keeps_all
        """Whether a storage node says that it leaves this content of an object to others."""
        self._drawn = 0
        self._contained: OrderedDict[Hash32, ChallengeRound] = OrderedDict()
        self._log: OrderedDict[Hash32, dict[str, Any]] = OrderedDict()
        self.targets: dict[PeerId, TargetRecord] = parts.book.targets()
        self.last_round: dict[str, list[str]] = {"issued": [], "answered": [], "timed_out": [], "accepted": []}
        self.last_statistics: list[NodeStorageChallengeStats] = []
        """Of the last round that had an outcome, a target each."""
        self.latest_proof: dict[str, Any] | None = None
        self.counters = Counters()
        if parts.book.damaged:
            self.counters.add("challenge.state_damaged", parts.book.damaged)

    def use(self, key: KeyPair) -> None:
        """The node key, by which challenges are signed; also the source of what is drawn."""
        self._key = key

    async def run(self) -> None:
        """Until cancelled: a round every ``challenge.interval_ms``."""
        if not self._parts.config.interval_ms:
            return
        while True:
            await trio.sleep(self._parts.config.interval_ms / 1000)
            await self.round()

    def known_targets(self) -> list[PeerId]:
        """Storage nodes by their hellos, and those that were challenged before; ascending."""
        hellos = self._parts.peering.hellos
        storing = {peer for peer, hello in hellos.items() if hello.role is Role.STORAGE}
        gone = {peer for peer in self.targets if peer not in hellos}
        return sorted(storing | gone)

    async def round(self) -> None:
        """Questions that wait first, then new ones to targets that do not rest; then every target's state is noted."""
        if self._key is None:
            return
        config, now_ms = self._parts.config, self._parts.clock.wall_ms()
        self.last_round = {name: [] for name in self.last_round}
        ready = []
        for target in self.known_targets():
            known = self.targets.get(target, TargetRecord())
            if target not in self._parts.peering.hellos:
                # Not asked, so that those who are gone take no turn from those who are here.
                self.counters.add("challenge.offline")
                self.targets[target] = attrs.evolve(known, offline=known.offline + 1)
            elif known.backoff.is_waiting(now_ms):
                self.counters.add("challenge.rested")
                self._note(target, attrs.evolve(known, backoff=known.backoff.skipped()))
            else:
                ready.append(target)
        rounds = [each for each in self._contained.values() if each.target in ready]
        budget = min(config.challenges_per_tick, config.max_checks_per_round)
        rounds = rounds[:budget]
        while ready and len(rounds) < budget:
            random = self._random()
            made = self._make(target := random.choice(ready), None, random)
            if made is None:
                self.counters.add("challenge.nothing_to_ask")
                ready.remove(target)
            else:
                rounds.append(made)
        results: list[tuple[ChallengeRound, Outcome]] = []
        async with trio.open_nursery() as nursery:
            for each in rounds:
                nursery.start_soon(self._carry_out, each, results)
        self._settle(results)

    async def challenge(self, target: PeerId | None, content: Cid | None) -> dict[str, Any]:
        """One challenge now, whether or not the target rests; returns what ``explain`` tells of it. Raises Refused."""
        if self._key is None:
            raise Refused(ErrorCode.NOT_AVAILABLE, "the node has not joined its network yet")
        random = self._random()
        if target is None:
            known = [peer for peer in self.known_targets() if peer in self._parts.peering.hellos]
            if not known:
                raise Refused(ErrorCode.NOT_AVAILABLE, "no storage node is connected; name a peer with --target")
            target = random.choice(known)
        made = self._make(target, content, random)
        if made is None:
            raise Refused(
                ErrorCode.NOT_AVAILABLE, "there is no committed content to ask it for; name some with --content"
            )
        results: list[tuple[ChallengeRound, Outcome]] = []
        await self._carry_out(made, results)
        self._settle(results)
        return self._log[made.id]

    def explain(self, challenge_id: Hash32) -> dict[str, Any]:
        """What was asked, what came, why this outcome; raises Refused if it is not remembered."""
        if challenge_id not in self._log:
            raise Refused(ErrorCode.NOT_FOUND, f"challenge {challenge_id.hex()} is not among the last {LOG_MAX}")
        return self._log[challenge_id]

    def recent(self, limit: int) -> list[dict[str, Any]]:
        """The last challenges, the latest first."""
        return list(self._log.values())[: -limit - 1 : -1]

    def _random(self) -> Random:
        """Draws that nobody else can foresee, and that a run in virtual time repeats (K-7.7)."""
        assert self._key is not None
        self._drawn += 1
        head = self._parts.ledger.head.block_hash
        secret = blake3(self._key.seed, derive_key_context="agent-world challenge draws").digest()
        place = self._drawn.to_bytes(8, "big") + self._parts.clock.wall_ms().to_bytes(8, "big")
        seed = blake3(head + place, key=secret)
        return Random(seed.digest())

    def _make(self, target: PeerId, content: Cid | None, random: Random) -> ChallengeRound | None:
        """A new question; None if there is nothing to ask for."""
        ledger = self._parts.ledger
        hello = self._parts.peering.hellos.get(target)
        is_of_chain = False
        if content is None:
            suspects = self.targets.get(target, TargetRecord()).suspects
            if suspects and random.random() < 0.5:
                # What failed is asked for again, but never instead of everything else.
                content = Cid.parse(random.choice(suspects))
            elif (drawn := self._parts.draw.content(target, hello, random)) is not None:
                content, is_of_chain = drawn
        if content is None:
            return None
        height = ledger.height if hello is None else min(ledger.height, hello.head.height)
        question = ChallengeQuestion(
            world_id=ledger.world_id,
            challenger=self._parts.network.peer_id,
            target=target,
            content=content,
            max_sample_bytes=U32(self._parts.config.max_sample_bytes),
            seed_height=U64(height),
            seed_hash=self._parts.draw.block_hash(height) or ledger.genesis_hash,
            nonce=Hash32(random.randbytes(32)),
        )
        made = ChallengeRound(question, self._rules, self._parts.draw.own_copy)
        made.is_of_chain = is_of_chain
        return made

    async def _carry_out(self, made: ChallengeRound, results: list[tuple[ChallengeRound, Outcome]]) -> None:
        """One putting of a question."""
        assert self._key is not None
        parts = self._parts
        self.counters.add("challenge.asked")
        self.last_round["issued"].append(made.id.hex())
        asked_ms, started_ms = parts.clock.wall_ms(), parts.clock.now_ms()
        effect: Effect = made.give(asked_ms, self._key)
        method = rpc.CHALLENGE
        timeout_s = parts.config.challenge_ttl_ms / 1000
        while not isinstance(effect, Outcome):
            assert effect is not None, "a stream has one peer at its end"
            try:
                left_s = max(0.001, timeout_s - (parts.clock.now_ms() - started_ms) / 1000)
                if method == rpc.CHALLENGE:
                    data = await ask_commitment(parts.network, made, effect.payload, left_s)
                else:
                    data = await parts.network.request(made.target, method, effect.payload, timeout_s=left_s)
            except Refused as error:
                effect = self._no_answer(made, error)
                continue
            if method == rpc.CHALLENGE:
                self.last_round["answered"].append(made.id.hex())
                effect = made.answered(made.target, data)
            else:
                effect = made.revealed(made.target, data)
            method = rpc.CHALLENGE_REVEAL if isinstance(effect, AskReveal) else method
        may_be_left = effect.reason is FailureReason.MISSING_SAMPLE and not made.is_of_chain
        # Asked after the failure, so that what is given up between question and answer is held against nobody.
        if may_be_left and await self.leaves_it(made.target, made.question.content):
            effect = Outcome(OutcomeKind.NOT_KEPT, detail="the node has left it to others")
        self._write_log(made, effect, asked_ms, parts.clock.now_ms() - started_ms)
        results.append((made, effect))

    def _no_answer(self, made: ChallengeRound, error: Refused) -> Outcome:
        """By the error's code, never by its text: what may be retried is contained."""
        if error.code is ErrorCode.TIMEOUT:
            self.last_round["timed_out"].append(made.id.hex())
        self.counters.add(f"challenge.refused_by_target.{error.rule or error.code.value}")
        if not error.retryable:
            return made.refused(str(error))
        is_connected = any(info.peer == made.target for info in self._parts.network.peers())
        return attrs.evolve(made.silent(is_connected=is_connected), detail=str(error))

    def _write_log(self, made: ChallengeRound, outcome: Outcome, asked_ms: int, took_ms: int) -> None:
        question, receipt = made.question, made.receipt
        self._log[made.id] = {
            "challenge_id": made.id,
            "target": question.target,
            "content": str(question.content),
            "seed_height": question.seed_height,
            "seed_hash": question.seed_hash,
            "nonce": question.nonce,
            "max_sample_bytes": question.max_sample_bytes,
            "attempts": made.attempts,
            "asked_at_ms": asked_ms,
            "took_ms": took_ms,
            "receipt": None
            if receipt is None
            else {
                "size_bytes": receipt.size_bytes,
                "sample_offset": receipt.sample_offset,
                "sample_size_bytes": receipt.sample_size_bytes,
                "commitment": receipt.commitment,
                "failure_reason": None if receipt.failure_reason is None else receipt.failure_reason.value,
                "responded_at_ms": receipt.responded_at_ms,
            },
            "checked_against": "reveal" if made.was_revealed else "own copy" if receipt is not None else None,
            "outcome": outcome.kind.value,
            "reason": None if outcome.reason is None else outcome.reason.value,
            "detail": outcome.detail,
        }
        self._log.move_to_end(made.id)
        while len(self._log) > LOG_MAX:
            self._log.popitem(last=False)

    def _settle(self, results: list[tuple[ChallengeRound, Outcome]]) -> None:
        """Each target's state after its part of a round."""
        now_ms = self._parts.clock.wall_ms()
        decided = [
            (made.target, outcome.reason)
            for made, outcome in results
            if outcome.kind in (OutcomeKind.PASSED, OutcomeKind.FAILED)
        ]
        self.last_statistics = statistics(decided) or self.last_statistics
        for target in sorted({made.target for made, _outcome in results}):
            mine = [(made, outcome) for made, outcome in results if made.target == target]
            known = self.targets.get(target, TargetRecord())
            passed: list[str] = []
            failed: list[tuple[str, FailureReason]] = []
            for made, outcome in mine:
                self.counters.add(f"challenge.{outcome.kind.value}")
                self._contained.pop(made.id, None)
                if outcome.kind is OutcomeKind.PASSED and made.receipt is not None:
                    self.last_round["accepted"].append(made.id.hex())
                    self.latest_proof = attrs.asdict(proof_semantics(made.question, made.receipt))
                    passed.append(str(made.question.content))
                elif outcome.reason is not None:
                    failed.append((str(made.question.content), outcome.reason))
                    _log.warning(
                        "a storage node has failed a challenge", target=target, reason=outcome.reason.value,
                        content=str(made.question.content), challenge=made.id.hex(), detail=outcome.detail,
                    )  # fmt: skip
                elif outcome.kind is OutcomeKind.NOT_KEPT:
                    known = known.without_suspect(str(made.question.content))
                elif outcome.kind is OutcomeKind.CONTAINED:
                    known = attrs.evolve(known, contained=known.contained + 1)
                    self._contain(made)
                else:
                    known = attrs.evolve(known, offline=known.offline + 1)
            self._note(target, known.after_round(self.policy, tuple(passed), tuple(failed), now_ms))

    def _contain(self, made: ChallengeRound) -> None:
        self._contained[made.id] = made
        if len(self._contained) > CONTAINED_MAX:
            self._contained.popitem(last=False)
            self.counters.add("challenge.contained_dropped")

    def _note(self, target: PeerId, record: TargetRecord) -> None:
        self.targets[target] = record
        self._parts.book.put_target(target, record)

    @property
    def contained(self) -> int:
        """Questions that wait to be put again."""
        return len(self._contained)

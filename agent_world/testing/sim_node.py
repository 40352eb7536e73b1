"""One simulated node: a shell around the engine with a disk that survives crashes, on the seeded bus."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import Final

import attrs

from agent_world.config import ConsensusConfig
from agent_world.consensus import events, guard
from agent_world.consensus.certificate import verify_certificate
from agent_world.consensus.context import HeightContext
from agent_world.consensus.engine import Engine
from agent_world.consensus.guard_records import SignRequest
from agent_world.consensus.messages import EarlyMessage, Message, VerifiedVote
from agent_world.crypto.hashing import hash32
from agent_world.errors import DecodeError, Ignored, NotSafe, RemoteError
from agent_world.testing.bus import Bus
from agent_world.testing.bus_messages import Blocks, Consensus, Head, Submitted, Want
from agent_world.testing.checkers import ChainChecker
from agent_world.testing.opened_messages import OpenedMessages
from agent_world.testing.sim_disk import Disk
from agent_world.testing.toy_world import GENESIS_TIME_MS, WORLD_ID, StoredBlock, ToyWorld, executes
from agent_world.wire import record
from agent_world.wire.block import WorldBlock
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import PublicKey, ValidatorId
from agent_world.wire.limits import HEADER_BYTES_MAX, PROPOSAL_BYTES_MAX
from agent_world.wire.signed import Signed

HEADS_EVERY_MS: Final = 250
"""How often nodes tell each other their height."""
RANGE_MAX: Final = 16
"""Blocks in one answer."""
STEP_EFFECTS_MAX: Final = 100_000
"""More effects from one input than this is an engine that loops."""


class SimCrash(Exception):
    """The process dies here; what is on its disk stays."""


@attrs.frozen
class Surroundings:
    """What all nodes of one simulation share."""

    bus: Bus
    world: ToyWorld
    checker: ChainChecker
    config: ConsensusConfig
    rng: Random
    honest: frozenset[ValidatorId]
    crash: Callable[[SimNode, str], bool]
    """Whether the node dies at this step."""
    opened: OpenedMessages
    counters: Counter[str]


class SimNode:
    """An honest node; Byzantine ones override what they do differently."""

    is_honest = True

    def __init__(self, around: Surroundings, own: ValidatorId | None, name: str, *, drift_permille: int = 0) -> None:
        self.around = around
        self.own = own
        self.name = name
        self.number = around.bus.attach(self)
        self.disk = Disk()
        self.up = False
        self.life = 0
        """Counts starts; what an earlier life has scheduled is void."""
        self.drift_permille = drift_permille
        self.pool: dict[ContentHash, None] = {}
        self.seen: set[bytes] = set()
        self.dropped = False
        """Whether the engine dropped something of the last input; it may be needed when it comes again."""
        self.engine = Engine(around.config, self.own_key)
        self.state = guard.GuardState()
        self.wake_ms: int | None = None
        self.wanted_ms = -1_000

    # Life.

    @property
    def own_key(self) -> PublicKey | None:
        """Key of its validator; None for a watcher."""
        return None if self.own is None else self.around.world.keys[self.own].public_key

    @property
    def height(self) -> int:
        """Committed height."""
        return len(self.disk.chain)

    def local_ms(self) -> int:
        """This node's monotonic clock, which runs a little fast or slow."""
        return self.around.bus.now_ms * (1_000 + self.drift_permille) // 1_000

    def start(self) -> None:
        """Begin, or begin again from the disk."""
        self.life += 1
        self.up = True
        self.wake_ms = None
        self.engine = Engine(self.around.config, self.own_key)
        self.pool = {}
        self.state = self.disk.load_guard()
        self.around.bus.note(f"start {self.name}")
        if self.is_honest:
            self.around.checker.restarted(self.name, self.height)
        self.guarded(self.start_height)
        self.later(self.around.rng.randrange(HEADS_EVERY_MS), self.tell_head)

    def stop(self) -> None:
        """Die without a word."""
        self.up = False
        self.life += 1
        self.wake_ms = None
        self.around.bus.note(f"stop {self.name}")

    def guarded(self, action: Callable[[], None]) -> None:
        """Run an action in which the process may die."""
        try:
            action()
        except SimCrash:
            self.stop()

    def later(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Run an action later, unless this life is over by then."""
        life = self.life

        def run() -> None:
            if self.life == life and self.up:
                self.guarded(action)

        self.around.bus.after(delay_ms, run)

    def crash_point(self, step: str) -> None:
        """A place where the process may die."""
        if self.around.crash(self, step):
            self.around.counters[f"crash.{step}"] += 1
            raise SimCrash(step)

    # The engine.

    def context(self) -> HeightContext:
        """Context of the height being decided."""
        return self.around.world.context_after(self.disk.chain[-1] if self.disk.chain else None)

    def engine_context(self) -> HeightContext:
        """What the engine is at: messages are opened for it even while the next height is being prepared."""
        run = self.engine.run
        assert run is not None, "a node that is up has started a height"
        return run.context

    def start_height(self) -> None:
        """Tell the engine what is next."""
        self.seen.clear()
        self.feed(events.StartHeight(self.context(), self.state))
        if self.pool:
            self.feed(events.WorkAvailable())

    def feed(self, event: events.Input) -> None:
        """Hand in one input and carry out all effects that follow."""
        queue = deque(self.engine.step(self.local_ms(), event))
        done = 0
        while queue:
            queue.extend(self.carry_out(queue.popleft()))
            done += 1
            if done > STEP_EFFECTS_MAX:
                raise AssertionError(f"{self.name}: effects without end")
        self._set_alarm()

    def _set_alarm(self) -> None:
        wake = self.engine.wake_at_ms
        if wake is None or (self.wake_ms is not None and self.wake_ms <= wake):
            return
        self.wake_ms = wake
        rate = 1_000 + self.drift_permille
        due_ms = -(-wake * 1_000 // rate)

        def ring() -> None:
            if self.wake_ms == wake:
                self.wake_ms = None
                self.feed(events.Wake())

        self.later(due_ms - self.around.bus.now_ms, ring)

    def carry_out(self, effect: events.Effect) -> tuple[events.Effect, ...]:
        """Do one effect; returns the effects of an answer given at once."""
        if isinstance(effect, events.Sign):
            signed = self.sign(effect.request)
            return () if signed is None else self.engine.step(self.local_ms(), events.OwnSigned(signed))
        if isinstance(effect, events.Broadcast):
            self.broadcast(effect.data)
        elif isinstance(effect, events.BuildBlock):
            self.build(effect)
        elif isinstance(effect, events.JudgeBlock):
            self.judge(effect)
        elif isinstance(effect, events.Commit):
            self.commit(effect)
        elif isinstance(effect, events.NeedBlock):
            self.around.counters["need_block"] += 1
            self.send_all(Want(self.height + 1))
        elif isinstance(effect, events.EvidenceFound):
            self.accuse(effect)
        elif isinstance(effect, events.Dropped):
            self.around.counters[f"drop.{effect.reason}"] += 1
            self.dropped |= effect.reason is not events.Drop.DUPLICATE
            if self.is_honest and effect.reason in (
                events.Drop.KEY_ELSEWHERE,
                events.Drop.OWN_INVALID,
                events.Drop.BUILT_INVALID,
            ):
                self.around.checker.report("I9", self.name, f"{effect.reason}: {effect.detail}")
        return ()

    def sign(self, request: SignRequest) -> bytes | None:
        """The durable guard: check, sign, both files, and only then the bytes."""
        assert self.own is not None
        try:
            permit = guard.check(self.state, request)
        except NotSafe as error:
            self.around.counters["not_safe"] += 1
            if self.is_honest:
                self.around.checker.report("I12", self.name, str(error))
            return None
        signed = guard.sign_with_permit(permit, self.around.world.genesis_hash, self.around.world.keys[self.own])
        if permit.stored is not None:
            return signed
        made = guard.record_for(self.state, request, signed)
        after = guard.apply(self.state, made)
        self.disk.write_guard(made, after, self.crash_point)
        self.state = after
        self.crash_point("guard.after")
        if self.is_honest:
            self.around.checker.signed(self.name, signed)
        return signed

    def build(self, effect: events.BuildBlock) -> None:
        """Build a block of what is in the pool, which takes a while."""
        context = self.engine_context()

        def built() -> None:
            actions = tuple(sorted(self.pool)[: self.around.rng.randint(0, 4)])
            block = self.around.world.build(context, effect.round, self.wall_ms(), actions)
            self.feed(events.BlockBuilt(effect.height, effect.round, block, actions))

        self.later(self.around.rng.randint(1, 15), built)

    def judge(self, effect: events.JudgeBlock) -> None:
        """Execute and compare, which takes a while."""
        self.later(
            self.around.rng.randint(1, 15),
            lambda: self.feed(events.BlockJudged(effect.height, effect.block_hash, self.is_valid(effect))),
        )

    def is_valid(self, effect: events.JudgeBlock) -> bool:
        """The toy world's verdict."""
        header = record.from_bytes(WorldBlock, effect.block, size_max=HEADER_BYTES_MAX)
        too_late = header.timestamp_ms > self.wall_ms() + self.around.config.drift_max_ms
        return executes(header, effect.actions) and not (effect.fresh and too_late)

    def wall_ms(self) -> int:
        """This node's wall clock."""
        return GENESIS_TIME_MS + self.local_ms()

    def accuse(self, evidence: events.EvidenceFound) -> None:
        """Look at whom the evidence names."""
        self.around.counters["evidence"] += 1
        key = record.from_bytes(Signed, evidence.first, size_max=PROPOSAL_BYTES_MAX).key
        entry = self.engine_context().validators.by_key(key)
        if entry is not None and self.is_honest:
            honest = entry.validator_id in self.around.honest
            self.around.checker.accused(self.name, entry.validator_id, honest=honest)

    # Commits.

    def commit(self, effect: events.Commit) -> None:
        """Decided: make it durable, then go on. The process may die on either side."""
        header = record.from_bytes(WorldBlock, effect.block, size_max=HEADER_BYTES_MAX)
        if self.is_honest and not executes(header, effect.actions):
            self.around.checker.report("I7", self.name, f"height {effect.height} does not execute")
        self.crash_point("commit.before")
        self.persist(effect.block, effect.certificate)
        for action in effect.actions:
            self.pool.pop(action, None)
        self.crash_point("commit.after")
        self.later(0, self._go_on)

    def _go_on(self) -> None:
        run = self.engine.run
        if run is None or run.context.height <= self.height:
            self.start_height()

    def persist(self, block: bytes, certificate: bytes) -> None:
        """One transaction: block and certificate."""
        header = record.from_bytes(WorldBlock, block, size_max=HEADER_BYTES_MAX)
        stored = StoredBlock(block=block, certificate=certificate, header=header, block_hash=hash32(block))
        if self.is_honest:
            self.around.checker.committed(self.name, block, certificate)
        self.disk.chain.append(stored)
        self.around.bus.note(f"commit {self.name}", stored.block_hash)

    # The network.

    def send(self, target: int, message: object) -> None:
        """One message to one node."""
        data = message.data if isinstance(message, Consensus) else repr(type(message)).encode()
        self.around.bus.send(self.number, target, message, data)

    def send_all(self, message: object) -> None:
        """One message to everybody else."""
        for target in range(self.around.bus.size):
            if target != self.number:
                self.send(target, message)

    def broadcast(self, data: bytes) -> None:
        """Carry out Broadcast."""
        self.send_all(Consensus(data))

    def tell_head(self) -> None:
        """Heads are exchanged periodically (D7)."""
        self.send_all(Head(self.height))
        self.later(HEADS_EVERY_MS, self.tell_head)

    def receive(self, source: int, message: object) -> None:
        """Take one message off the bus."""
        if self.up:
            self.guarded(lambda: self.take(source, message))

    def take(self, source: int, message: object) -> None:
        """Handle one message."""
        if isinstance(message, Consensus):
            self.take_consensus(message.data)
        elif isinstance(message, Head):
            if message.height > self.height and self.local_ms() >= self.wanted_ms + 200:
                self.wanted_ms = self.local_ms()
                self.send(source, Want(self.height + 1))
        elif isinstance(message, Want):
            items = self.disk.chain[message.from_height - 1 :][:RANGE_MAX]
            if items:
                self.send(source, Blocks(tuple((item.block, item.certificate) for item in items)))
        elif isinstance(message, Blocks):
            self.take_blocks(message)
        elif isinstance(message, Submitted):
            self.pool.update(dict.fromkeys(message.actions))
            self.feed(events.WorkAvailable())

    def take_consensus(self, data: bytes) -> None:
        """Verify and hand in. Repeats are dropped by their bytes, but not of what the engine had to drop."""
        if data in self.seen:
            return
        self.dropped = False
        message = self.open(data)
        if isinstance(message, (RemoteError, Ignored)):
            self.around.counters[f"refused.{message.rule}"] += 1
            return
        if isinstance(message, EarlyMessage):
            self.feed(events.EarlyReceived(message))
        else:
            self.feed(
                events.VoteReceived(message) if isinstance(message, VerifiedVote) else events.ProposalReceived(message)
            )
        if not self.dropped:
            self.seen.add(data)

    def open(self, data: bytes) -> Message | RemoteError | Ignored:
        """Verified for the engine's height, or the rule it breaks."""
        return self.around.opened.open(data, self.engine_context())

    def take_blocks(self, message: Blocks) -> None:
        """Catch up by range: nothing counts without a certificate by the set that the parent names."""
        moved = False
        for block, certificate in message.items:
            context = self.context()
            try:
                header = record.from_bytes(WorldBlock, block, size_max=HEADER_BYTES_MAX)
                if header.height != context.height:
                    continue
                verify_certificate(
                    certificate,
                    WORLD_ID,
                    context.genesis_hash,
                    context.validators,
                    height=context.height,
                    block_hash=hash32(block),
                )
            except (RemoteError, DecodeError):
                self.around.counters["sync.refused"] += 1
                break
            self.crash_point("sync.before")
            self.persist(block, certificate)
            self.around.counters["sync.blocks"] += 1
            moved = True
        if moved:
            self.crash_point("sync.after")
            self._go_on()

"""Carries out what the round engine asks for: executes, has signed, sends, commits (D4, D5)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import attrs
import structlog
import trio

from agent_world.config import NodeConfig
from agent_world.consensus import events
from agent_world.consensus.context import HeightContext
from agent_world.consensus.engine import Engine
from agent_world.consensus.guard import GuardState
from agent_world.consensus.messages import EarlyMessage, Message, VerifiedProposal, VerifiedVote
from agent_world.consensus.repeat import own_messages
from agent_world.errors import ChainError, DataError, Refused, StoreNotWritable
from agent_world.net.interface import DistributedNetwork
from agent_world.node.action_bodies import ActionBodies
from agent_world.node.alarm import Alarm
from agent_world.node.clock import Clock
from agent_world.node.courier import Courier
from agent_world.node.disk_watch import until_written
from agent_world.node.fetch import BlobFetcher
from agent_world.node.heal import Healer
from agent_world.node.heard import Heard
from agent_world.node.ledger import Ledger
from agent_world.node.peering import Peering
from agent_world.node.pool import ActionPool
from agent_world.node.seat import Seat
from agent_world.wire.block import WorldBlock
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import PeerId, PublicKey, TimeMs
from agent_world.world.admission import SignedAction

_log = structlog.get_logger("agent_world.consensus")

INBOX_MAX: Final = 4_096
"""Inputs waiting for the engine; above it the newest is dropped and counted, and sent again by its sender."""
INPUTS_AT_ONCE: Final = 32
"""Inputs that are taken before other tasks have their turn: each costs about 0.05 ms."""
MEND_S: Final = 1.0
"""Pause between two tries to open a vote guard again that could not be written, such as on a full disk."""


@attrs.frozen(slots=True, kw_only=True)
class VotingParts:
    """What voting works with."""

    config: NodeConfig
    ledger: Ledger
    pool: ActionPool
    seat: Seat
    network: DistributedNetwork
    peering: Peering
    fetcher: BlobFetcher
    healer: Healer
    clock: Clock


class Voting:
    """Runs the engine of one validator."""

    def __init__(self, parts: VotingParts) -> None:
        self._parts = parts
        self._ledger = parts.ledger
        self._seat = parts.seat
        self._engine = self._new_engine()
        self._send, self._inbox = trio.open_memory_channel[events.Input](INBOX_MAX)
        self._pending: deque[events.Input] = deque()
        self._heard = Heard()
        self._alarm = Alarm()
        self._courier = Courier(parts.network, parts.peering, parts.ledger, parts.clock)
        self._nursery: trio.Nursery | None = None
        self._started = 0
        self.counters = self._courier.counters
        self._bodies = ActionBodies(
            parts.ledger, parts.pool, parts.peering, parts.fetcher, parts.network.peer_id, self.counters
        )
        self._is_mending = False
        self._is_away = False
        """Whether rounds are left alone while this node catches up."""
        self.committed: Callable[[], None] = lambda: None
        """Called after a height was committed here."""
        self.behind: Callable[[], None] = lambda: None
        """Called when a certificate proves that this node lacks a block."""
        self.equivocated: Callable[[bytes, bytes], None] = lambda _first, _second: None
        """Called with two different messages of one validator for one height, round and step."""
        self.last_status = "pending"

    def status(self) -> dict[str, Any]:
        """For ``node status``."""
        shown = {**self._seat.status(), "last_status": self.last_status}
        if (run := self._engine.run) is not None:
            height, round_ = run.context.height, run.round
            shown |= {"deciding_height": height, "round": round_, "expected_proposer": run.context.proposer(round_)}
        return shown

    def context(self) -> HeightContext:
        """What messages are opened against: the height that the engine decides."""
        run = self._engine.run
        return self._ledger.context() if run is None else run.context

    def knows(self, data: bytes) -> bool:
        """Whether this very message went to the engine and is held there; if so, it is counted as a repeat."""
        if data not in self._heard:
            return False
        self.counters.add("consensus.repeated")
        return True

    def take(self, message: Message) -> None:
        """A verified message of a peer."""
        if self._is_away:
            self.counters.add("consensus.away")
            return
        self._heard.add(message.data)
        match message:
            case VerifiedVote():
                self._feed(events.VoteReceived(message))
            case VerifiedProposal():
                self._feed(events.ProposalReceived(message))
            case EarlyMessage():
                self._feed(events.EarlyReceived(message))

    def met(self, peer: PeerId) -> None:
        """A validator is linked: it gets this node's messages now, not with the next repeat."""
        if (run := self._engine.run) is not None:
            self._courier.show(peer, own_messages(run))

    def linked(self, key: PublicKey, is_linked: bool) -> None:
        """A validator's link has ended, or it is linked again."""
        self._feed(events.LinkChanged(key, is_linked))

    def work_available(self) -> None:
        """Actions wait in the pool."""
        if not self._engine.has_work:
            self._feed(events.WorkAvailable())

    def height_moved(self) -> None:
        """A height was committed by catch-up."""
        if not self._is_away:
            self._feed(events.StartHeight(self._ledger.context()))

    def leave(self) -> None:
        """This node is heights behind: take no part in rounds that are over."""
        self._is_away = True

    def come_back(self) -> None:
        """This node is at the network's height again."""
        self._is_away = False
        self._feed(events.StartHeight(self._ledger.context()))

    def find_body(self, content: ContentHash) -> bytes | None:
        """An action of a block being decided here, so that others can fetch it."""
        return self._bodies.kept(content)

    def _feed(self, item: events.Input) -> None:
        try:
            self._send.send_nowait(item)
        except trio.WouldBlock:
            self.counters.add("consensus.inbox_full")

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._begin_anew()
            nursery.start_soon(self._courier.run)
            nursery.start_soon(self._alarm.run, lambda: self._feed(events.Wake()))
            self._start_height()
            while True:
                await self._settle()
                for _ in range(INPUTS_AT_ONCE):
                    try:
                        self._pending.append(self._inbox.receive_nowait())
                    except trio.WouldBlock:
                        await self._await_input()
                    await self._settle()
                await trio.lowlevel.checkpoint()

    def _begin_anew(self) -> None:
        """As after a restart: what a fault of the disk has ended is decided again from what the guard holds."""
        self._engine, self._started, self._is_mending = self._new_engine(), 0, False
        self._pending.clear()

    async def _await_input(self) -> None:
        """Take what comes next: Wake, when the engine wants to be woken."""
        if not self._is_away:
            self._alarm.set(self._engine.wake_at_ms)
        self._pending.append(await self._inbox.receive())

    async def _settle(self) -> None:
        """Step until nothing is left to answer; inputs made by effects come before those from outside."""
        while self._pending:
            item = self._pending.popleft()
            if isinstance(item, events.StartHeight):
                if item.context.height != self._ledger.height + 1 or item.context.height <= self._started:
                    continue  # a later height was committed while this waited, or it is being decided already
                self._started = item.context.height
                item = attrs.evolve(item, restored=self._begin())
            place = self._place()
            for effect in self._engine.step(self._parts.clock.now_ms(), item):
                await self._carry_out(effect)
            if self._place() != place:
                self._heard.forget()

    def _place(self) -> tuple[int, int]:
        run = self._engine.run
        return (0, 0) if run is None else (run.context.height, run.round)

    def _start_height(self) -> None:
        self._courier.new_height()
        self._bodies.clear()
        self._pending.append(events.StartHeight(self._ledger.context()))
        if self._parts.pool.mempool.has_ready:
            self._pending.append(events.WorkAvailable())

    def _begin(self) -> GuardState:
        """What the guard says at the start of a height; a key that took over gets an engine of its own."""
        key = self._seat.key
        restored = self._seat.begin()
        if self._seat.key is not key:
            self._engine = self._new_engine()
        self._mend_if_needed()
        return restored

    def _new_engine(self) -> Engine:
        return Engine(self._parts.config.consensus, self._seat.key.public_key)

    def _mend_if_needed(self) -> None:
        if self._seat.needs_mending and not self._is_mending:
            assert self._nursery is not None
            self._is_mending = True
            self._nursery.start_soon(self._mend)

    async def _mend(self) -> None:
        """Until the guard is in order; then decide the height anew from what it has stored, as a restart does."""
        while True:
            if self._seat.mend():
                break
            await trio.sleep(MEND_S)
        self._is_mending = False
        self._engine = self._new_engine()
        self._started = 0
        self.height_moved()
        if self._parts.pool.mempool.has_ready:
            self.work_available()

    async def _carry_out(self, effect: events.Effect) -> None:
        match effect:
            case events.BuildBlock():
                await self._build(effect)
            case events.JudgeBlock():
                if self._bodies.missing(effect.actions):
                    assert self._nursery is not None
                    self._nursery.start_soon(self._judge_later, effect)
                else:
                    self._pending.append(await self._judge(effect))
            case events.Sign(request=request):
                signed = self._seat.permit(request)
                if signed is not None:
                    self._pending.append(events.OwnSigned(signed))
                self._mend_if_needed()
            case events.Broadcast(data=data):
                self._courier.broadcast(data)
            case events.Commit():
                await self._commit(effect)
            case events.NeedBlock():
                self.counters.add("consensus.block_missing")
                self.behind()
            case events.EvidenceFound():
                self.counters.add("consensus.equivocation_seen")
                self.equivocated(effect.first, effect.second)
            case events.Dropped(reason=reason, detail=detail):
                self.counters.add(f"consensus.dropped.{reason}")
                if reason is events.Drop.KEY_ELSEWHERE:
                    self._seat.met_itself()
                if reason is not events.Drop.DUPLICATE:
                    self._heard.forget()
                _log.debug("dropped", reason=reason, detail=detail)

    async def _build(self, effect: events.BuildBlock) -> None:
        if effect.height != self._ledger.height + 1:
            return
        batch = self._parts.pool.batch(self._parts.config.batch)
        actions = [action for item in batch.actions if (action := self._parts.pool.get(item.action_id)) is not None]
        own = self._ledger.validators.by_key(self._seat.key.public_key)
        if own is None:
            return
        time_ms = TimeMs(self._parts.clock.wall_ms())
        try:
            built = await self._parts.healer.with_state(
                lambda: self._ledger.build(own.validator_id, effect.round, time_ms, actions)
            )
        except (ChainError, DataError) as error:
            # No block from this node in this round; the others go on.
            self.counters.add("consensus.build_failed")
            _log.error("no block could be built", height=effect.height, error=str(error))
            return
        self._bodies.keep(actions)
        ids = tuple(ContentHash(action.action_id) for action in actions)
        self._pending.append(events.BlockBuilt(effect.height, effect.round, built, ids))

    async def _judge_later(self, effect: events.JudgeBlock) -> None:
        """A block whose actions have to be fetched first."""
        # Waits rather than drops: the engine asks for a verdict once and needs it until the height moves.
        await self._send.send(await self._judge(effect))

    async def _judge(self, effect: events.JudgeBlock) -> events.BlockJudged:
        valid: bool | None = False
        try:
            valid = await self._is_valid(effect)
        except (ChainError, DataError, Refused) as error:
            self.counters.add("consensus.block_refused")
            _log.warning("a proposed block is refused", height=effect.height, error=str(error))
        return events.BlockJudged(effect.height, effect.block_hash, valid)

    async def _is_valid(self, effect: events.JudgeBlock) -> bool | None:
        """None if it cannot be judged now, for want of bodies: the engine asks again."""
        actions = await self._bodies.get(effect.actions)
        if actions is None or effect.height != self._ledger.height + 1:
            self.counters.add("consensus.bodies_missing")
            return None
        block = await self._parts.healer.with_state(lambda: self._ledger.verify(effect.block, actions))
        return not effect.fresh or self._is_timely(block)

    def _is_timely(self, block: WorldBlock) -> bool:
        # [IGNORE] P16: a fresh block's time is not too far ahead of the local clock.
        limit = self._parts.clock.wall_ms() + self._parts.config.consensus.drift_max_ms
        if block.timestamp_ms <= max(self._ledger.timestamp_ms + 1, limit):
            return True
        self.counters.add("consensus.block_from_future")
        return False

    async def _commit(self, effect: events.Commit) -> None:
        if effect.height == self._ledger.height + 1:
            actions = self._bodies.here(effect.actions)
            if actions is None:
                # Decided by the others before the bodies came here: catch-up brings the whole block.
                self.counters.add("consensus.decided_without_bodies")
                self.behind()
                return
            if await self._store(effect, actions):
                self._seat.decided(effect.height)
                self.last_status = "committed"
                self.counters.add("consensus.committed")
                self.committed()
        self._start_height()

    async def _store(self, effect: events.Commit, actions: list[SignedAction]) -> bool:
        """Commit a decided height, whenever the disk takes it; False once catch-up was first."""

        async def commit() -> None:
            await self._parts.healer.with_state(lambda: self._ledger.commit(effect.block, effect.certificate, actions))

        return await until_written(commit, lambda: self._ledger.height >= effect.height, self._wait_for_disk)

    def _wait_for_disk(self, error: StoreNotWritable) -> None:
        self.last_status = f"waiting for the disk: {error}"
        self.counters.add("consensus.not_stored")

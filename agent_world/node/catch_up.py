"""Follows the network: asks for proof of higher heads and fetches, verifies and executes what is missing (D5).

It runs on every node all the time. A validator that is one height behind is about to decide that height itself,
so it gets a moment before the block is fetched; anything more is fetched at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import attrs
import structlog
import trio

from agent_world.consensus.light import OtherSet
from agent_world.errors import Refused, RemoteError
from agent_world.handlers.head import HeadHandler
from agent_world.handlers.membership import open_boundaries
from agent_world.net.interface import DistributedNetwork
from agent_world.node.clock import Clock
from agent_world.node.heal import Healer
from agent_world.node.ledger import Ledger
from agent_world.node.range_sync import RangeSync
from agent_world.sync.heads import HeadTracker
from agent_world.wire import record, rpc
from agent_world.wire.block import BlockBundle
from agent_world.wire.head import CertifiedHead, GetWorldHeadRequest, WorldHead
from agent_world.wire.ids import U64, PeerId
from agent_world.wire.membership import GetBoundariesRequest

_log = structlog.get_logger("agent_world.catch_up")


@attrs.frozen(slots=True)
class Progress:
    """Where a catch-up began."""

    since_ms: int
    from_height: int

    def shown(self, now_ms: int, height: int, target: int) -> dict[str, Any]:
        """Heights a second so far, and seconds left at that pace; None before the first height."""
        done, passed_s = height - self.from_height, max(0.001, (now_ms - self.since_ms) / 1000)
        rate = done / passed_s if done else None
        eta_s = None if rate is None else round((target - height) / rate, 1)
        return {"heights_per_s": None if rate is None else round(rate, 1), "eta_s": eta_s}


VOTING_GRACE_MS: Final = 300
"""How long a voting validator may take to commit the very next height by itself."""


class CatchUp:
    """One node's way to the network's height."""

    def __init__(
        self, ledger: Ledger, network: DistributedNetwork, healer: Healer, clock: Clock, *, votes: bool
    ) -> None:
        self._healer = healer
        self._ledger = ledger
        self._network = network
        self._clock = clock
        self._grace_ms = VOTING_GRACE_MS if votes else 0
        self.heads = HeadTracker()
        self.handler = HeadHandler(ledger, self.learned)
        self.handler.unproved = self.ask_proof
        self.ranges = RangeSync(ledger, network, clock, sources=self._sources, apply=self._apply)
        self.counters = self.ranges.counters
        self.progress: Progress | None = None
        """Since when and from where this node catches up; None while it does not."""
        self.advanced: Callable[[], None] = lambda: None
        """Called after a height was committed here."""
        self.order: Callable[[int, Sequence[PeerId]], list[PeerId]] = self._connected
        """(height, peers that claim to have it) -> those to ask for it, in order."""
        self.away: Callable[[], None] = lambda: None
        """Called when more than the next height is missing: voting on it would be in vain."""
        self.back: Callable[[], None] = lambda: None
        """Called when that is over."""
        self._poke = trio.Event()
        self._asking: set[PeerId] = set()
        self._claims_send, self._claims = trio.open_memory_channel[PeerId](256)

    def learned(self, peer: PeerId, certified: CertifiedHead) -> None:
        """A head whose certificate verified."""
        self.heads.certify(peer, certified.head, self._clock.now_ms())
        self._poke.set()

    def proved(self, certified: CertifiedHead) -> None:
        """A head whose certificate verified, and that no peer told: whose word it was does not matter."""
        self.heads.raise_to(certified.head.height)
        self._poke.set()

    def claimed(self, peer: PeerId, head: WorldHead) -> None:
        """A peer's word; proof is asked for if it would be news."""
        if self.heads.claim(peer, head, self._clock.now_ms()) and head.height > self._ledger.height:
            self.ask_proof(peer)

    def ask_proof(self, peer: PeerId) -> None:
        """Ask this peer for its certified head, once at a time."""
        if peer in self._asking:
            return
        try:
            self._claims_send.send_nowait(peer)
        except trio.WouldBlock:
            self.counters.add("sync.claims_dropped")
        else:
            self._asking.add(peer)

    def _connected(self, _height: int, able: Sequence[PeerId]) -> list[PeerId]:
        connected = {info.peer for info in self._network.peers()}
        return [peer for peer in able if peer in connected]

    @property
    def last_error(self) -> str | None:
        """Last failure of a fetch, kept until the next success."""
        return self.ranges.plan.last_error

    def status(self) -> dict[str, Any]:
        """For ``node status``: whether this node catches up, why, how far, how fast and for how long."""
        shown: dict[str, Any] = {
            "catching_up": self.progress is not None,
            "target_height": None,
            "attempts": self.ranges.plan.attempts,
            "last_error": self.last_error,
        }
        if self.progress is not None:
            target, height = self.heads.network_committed_height, self._ledger.height
            shown["target_height"] = target
            shown["catching_up_reason"] = f"a certificate proves height {target}, this node is at {height}"
            shown.update(self.progress.shown(self._clock.now_ms(), height, target))
        return shown

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._prove)
            while True:
                await self._wait_until_behind()
                await self._close_gap()

    async def _prove(self) -> None:
        async with trio.open_nursery() as nursery:
            async for peer in self._claims:
                nursery.start_soon(self._prove_one, peer)

    async def _prove_one(self, peer: PeerId) -> None:
        try:
            certified = await self._certified_head_of(peer)
        except OtherSet:
            self.counters.add("sync.set_not_proved")
        except Refused as error:
            self.counters.add(f"sync.head_refused.{error.code}")
        except RemoteError as error:
            self.counters.add(f"sync.head_wrong.{error.rule}")
            _log.warning("peer claims a head it cannot prove", peer=peer, rule=error.rule, detail=error.detail)
        else:
            # A certificate is looked at only above the committed height: below it proves nothing that is not known.
            if certified.head.height > self._ledger.height:
                self.learned(peer, certified)
        finally:
            self._asking.discard(peer)

    async def _certified_head_of(self, peer: PeerId) -> CertifiedHead:
        """The peer's head; the sets that decided since the own one are proved first. Raises as ``open_head``."""
        request = record.to_bytes(GetWorldHeadRequest(world_id=self._ledger.world_id))
        while True:
            answer = await self._network.request(peer, rpc.GET_WORLD_HEAD, request)
            try:
                return self.handler.open_head(answer)
            except OtherSet:
                if not await self._cross_boundaries(peer):
                    raise

    async def _cross_boundaries(self, peer: PeerId) -> int:
        """Ask for the boundaries above what is proved; how many there were."""
        tip = self._ledger.light.tip(self._ledger.trusted())
        request = GetBoundariesRequest(world_id=self._ledger.world_id, from_height=U64(tip.height + 1))
        answer = await self._network.request(peer, rpc.GET_BOUNDARIES, record.to_bytes(request))
        new = self._ledger.light.cross(self._ledger.trusted(), open_boundaries(answer))
        self.counters.add("sync.boundaries", new)
        # A boundary is certified too and worth fetching: of more of them than are kept no head could be proved.
        self.heads.raise_to(self._ledger.light.tip(self._ledger.trusted()).height)
        self._poke.set()
        return new

    async def _wait_until_behind(self) -> None:
        while True:
            self._poke = trio.Event()
            gap = self.heads.network_committed_height - self._ledger.height
            if gap > 1:
                return
            if gap == 1:
                with trio.move_on_after(self._grace_ms / 1000):
                    await self._ledger.wait_above(self._ledger.height)
                if self.heads.network_committed_height > self._ledger.height:
                    return
                continue
            await self._poke.wait()

    async def _close_gap(self) -> None:
        """Fetch up to the highest proved height; while more than the next one is missing, voting is left alone."""
        self.progress = Progress(self._clock.now_ms(), self._ledger.height)
        is_away = self.heads.network_committed_height - self._ledger.height > 1
        if is_away:
            self.counters.add("sync.left_voting")
            self.away()
        try:
            await self.ranges.run(lambda: self.heads.network_committed_height)
        finally:
            self.progress = None
            if is_away:
                self.back()

    def _sources(self, height: int) -> list[PeerId]:
        return self.order(height, self.heads.sources(height))

    async def _apply(self, height: int, bundle: BlockBundle) -> None:
        await self._healer.with_state(partial(self._ledger.apply_bundle, height, bundle))
        self.advanced()
        await trio.lowlevel.checkpoint()

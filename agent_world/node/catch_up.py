"""Follows the network: asks for proof of higher heads and fetches, verifies and executes what is missing (D5).

It runs on every node all the time. A validator that is one height behind is about to decide that height itself,
so it gets a moment before the block is fetched; anything more is fetched at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import structlog
import trio

from agent_world.consensus.light import OtherSet
from agent_world.errors import DataError, ErrorCode, HomeError, Refused, RemoteError
from agent_world.handlers.head import HeadHandler
from agent_world.handlers.membership import open_boundaries
from agent_world.net.interface import DistributedNetwork
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.heal import Healer
from agent_world.node.ledger import Ledger
from agent_world.sync.gap import GapPlan
from agent_world.sync.heads import HeadTracker
from agent_world.wire import record, rpc
from agent_world.wire.block import GetBlocksRequest, GetBlocksResponse
from agent_world.wire.head import CertifiedHead, GetWorldHeadRequest, WorldHead
from agent_world.wire.ids import U64, PeerId
from agent_world.wire.limits import RANGE_BLOCKS_MAX, RPC_BODY_BYTES_MAX
from agent_world.wire.membership import GetBoundariesRequest
from agent_world.world.trie import NodeMissing

_log = structlog.get_logger("agent_world.catch_up")

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
        self.plan = GapPlan()
        self.counters = Counters()
        self.target: int | None = None
        """The height being caught up to, or None."""
        self.advanced: Callable[[], None] = lambda: None
        """Called after heights were committed here."""
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

    def status(self) -> dict[str, Any]:
        """For ``node status``."""
        return {
            "catching_up": self.target is not None,
            "target_height": self.target,
            "attempts": self.plan.attempts,
            "last_error": self.plan.last_error,
        }

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
        while (target := self.heads.network_committed_height) > self._ledger.height:
            self.target = target
            height = self._ledger.height + 1
            connected = {info.peer for info in self._network.peers()}
            able = [peer for peer in self.heads.sources(height) if peer in connected]
            peer = self.plan.choose(height, able, self._clock.now_ms())
            if peer is None:
                await self._pause(able)
                continue
            await self._fetch_from(peer, height, target)
        self.target = None

    async def _pause(self, able: list[PeerId]) -> None:
        now = self._clock.now_ms()
        seconds = max(0.01, (self.plan.wake_at_ms(able, now) - now) / 1000)
        with trio.move_on_after(min(1.0, seconds)):
            await self._ledger.wait_above(self._ledger.height)

    async def _fetch_from(self, peer: PeerId, height: int, target: int) -> None:
        last = min(target, height + RANGE_BLOCKS_MAX - 1)
        request = GetBlocksRequest(world_id=self._ledger.world_id, from_height=U64(height), to_height=U64(last))
        try:
            answer = await self._network.request(peer, rpc.GET_BLOCKS, record.to_bytes(request))
            response = record.from_bytes(GetBlocksResponse, answer, size_max=RPC_BODY_BYTES_MAX)
            if not response.bundles:
                raise RemoteError("B5", "an answer without blocks")
            await self._apply(height, response)
        except Refused as error:
            self.counters.add(f"sync.refused.{error.code}")
            if error.code is ErrorCode.NOT_FOUND:
                self.plan.missing(peer, self._clock.now_ms())
            else:
                self.plan.failed(peer, str(error), self._clock.now_ms())
        except HomeError:
            raise  # the own disk or database: no peer can help, and going on would hide it
        except NodeMissing as error:
            self.counters.add("sync.state_missing")
            self.plan.failed(peer, str(error), self._clock.now_ms())
            _log.error("the own state lacks a node that no peer has", height=height, error=str(error))
        except (RemoteError, DataError) as error:
            self.counters.add("sync.wrong_blocks")
            self.plan.failed(peer, str(error), self._clock.now_ms())
            _log.warning("peer sent blocks that do not check out", peer=peer, height=height, error=str(error))
        else:
            self.plan.succeeded(peer)

    async def _apply(self, height: int, response: GetBlocksResponse) -> None:
        for offset, bundle in enumerate(response.bundles):
            if height + offset <= self._ledger.height:
                continue  # this node decided the height itself in the meantime
            await self._healer.with_state(partial(self._ledger.apply_bundle, height + offset, bundle))
            self.counters.add("sync.heights")
            self.advanced()
            await trio.lowlevel.checkpoint()

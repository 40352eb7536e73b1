"""Fetches missing heights in ranges from several peers at once and applies them in order, in bounded memory (A2).

The lowest missing range is due: it is asked of one peer after the other by ``GapPlan``. The ranges behind it are
fetched meanwhile from peers that are free. A peer that fails is left alone for a while and never disconnected.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import attrs
import structlog
import trio

from agent_world.errors import DataError, ErrorCode, HomeError, Refused, RemoteError
from agent_world.net.interface import DistributedNetwork
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.ledger import Ledger
from agent_world.sync.gap import GapPlan
from agent_world.wire import record, rpc
from agent_world.wire.block import BlockBundle, GetBlocksRequest, GetBlocksResponse
from agent_world.wire.ids import U64, PeerId
from agent_world.wire.limits import RANGE_BLOCKS_MAX, RPC_BODY_BYTES_MAX
from agent_world.world.trie import NodeMissing

_log = structlog.get_logger("agent_world.catch_up")

RANGES_MAX: Final = 4
"""Ranges asked for or waiting at a time; an answer is about 8 MiB at most."""
LOOK_S: Final = 1.0
"""Longest pause before peers and target are looked at again."""


@attrs.define(slots=True, eq=False)
class _Range:
    """Heights ``first`` to ``last`` that one peer is asked for, or that wait for their turn."""

    first: int
    last: int
    peer: PeerId | None = None
    bundles: tuple[BlockBundle, ...] | None = None
    error: str | None = None
    is_missing: bool = False
    """The peer does not have them, which is no fault."""

    @property
    def is_asked(self) -> bool:
        return self.peer is not None and self.bundles is None and self.error is None

    def forget(self, first: int) -> None:
        """Ask anew, from ``first`` on."""
        self.first, self.peer, self.bundles, self.error, self.is_missing = first, None, None, None, False


class RangeSync:
    """One node's fetching of blocks. ``sources`` names connected peers that have a height, the best first."""

    def __init__(
        self,
        ledger: Ledger,
        network: DistributedNetwork,
        clock: Clock,
        *,
        sources: Callable[[int], Sequence[PeerId]],
        apply: Callable[[int, BlockBundle], Awaitable[None]],
    ) -> None:
        self._ledger = ledger
        self._network = network
        self._clock = clock
        self._sources = sources
        self._apply = apply
        self._ranges: deque[_Range] = deque()
        self._changed = trio.Event()
        self.plan = GapPlan()
        self.counters = Counters()

    async def run(self, target: Callable[[], int]) -> None:
        """Until the committed height has reached the target, which may rise meanwhile."""
        self._ranges.clear()
        async with trio.open_nursery() as nursery:
            while self._ledger.height < target():
                self._drop_committed()
                self._plan_ahead(target())
                self._ask(nursery)
                if not await self._apply_due():
                    await self._wait()
            nursery.cancel_scope.cancel()

    def _drop_committed(self) -> None:
        """This node may have decided heights itself in the meantime."""
        while self._ranges and self._ranges[0].last <= self._ledger.height:
            self._ranges.popleft()

    def _plan_ahead(self, target: int) -> None:
        last = self._ranges[-1].last if self._ranges else self._ledger.height
        while len(self._ranges) < RANGES_MAX and last < target:
            self._ranges.append(_Range(last + 1, min(target, last + RANGE_BLOCKS_MAX)))
            last = self._ranges[-1].last

    def _ask(self, nursery: trio.Nursery) -> None:
        now_ms = self._clock.now_ms()
        busy = {item.peer for item in self._ranges if item.peer is not None and item.is_asked}
        for place, item in enumerate(self._ranges):
            if item.peer is not None:
                continue
            able = self._sources(item.first)
            peer = self.plan.choose(item.first, able, now_ms) if place == 0 else self.plan.spare(able, busy, now_ms)
            if peer is not None:
                item.peer = peer
                busy.add(peer)
                nursery.start_soon(self._fetch, item, peer)

    async def _fetch(self, item: _Range, peer: PeerId) -> None:
        request = GetBlocksRequest(
            world_id=self._ledger.world_id, from_height=U64(item.first), to_height=U64(item.last)
        )
        try:
            answer = await self._network.request(peer, rpc.GET_BLOCKS, record.to_bytes(request))
            response = record.from_bytes(GetBlocksResponse, answer, size_max=RPC_BODY_BYTES_MAX)
            if not 1 <= len(response.bundles) <= item.last - item.first + 1:
                raise RemoteError("B5", f"an answer of {len(response.bundles)} blocks")
            item.bundles = response.bundles
        except Refused as error:
            self.counters.add(f"sync.refused.{error.code}")
            item.error, item.is_missing = str(error), error.code is ErrorCode.NOT_FOUND
        except RemoteError as error:
            self.counters.add("sync.wrong_blocks")
            item.error = str(error)
            _log.warning("peer sent no blocks", peer=peer, height=item.first, error=str(error))
        self._changed.set()

    async def _apply_due(self) -> bool:
        """Take what has come of the ranges; whether anything changed."""
        changed = False
        for item in list(self._ranges):
            if item.error is not None:
                self._failed(item, item.error)
                changed = True
        due = self._ranges[0] if self._ranges else None
        if due is None or due.bundles is None:
            return changed
        await self._apply_range(due, due.bundles)
        return True

    async def _apply_range(self, due: _Range, bundles: Sequence[BlockBundle]) -> None:
        assert due.peer is not None, "somebody has sent it"
        try:
            for height, bundle in enumerate(bundles, due.first):
                if height > self._ledger.height:
                    await self._apply(height, bundle)
                    self.counters.add("sync.heights")
        except HomeError:
            raise  # the own disk or database: no peer can help, and going on would hide it
        except NodeMissing as error:
            self.counters.add("sync.state_missing")
            _log.error("the own state lacks a node that no peer has", height=due.first, error=str(error))
            self._failed(due, str(error))
        except (RemoteError, DataError) as error:
            self.counters.add("sync.wrong_blocks")
            _log.warning("peer sent blocks that do not check out", peer=due.peer, height=due.first, error=str(error))
            self._failed(due, str(error))
        else:
            self.plan.succeeded(due.peer)
            due.forget(self._ledger.height + 1)  # what a short answer has left

    def _failed(self, item: _Range, reason: str) -> None:
        assert item.peer is not None, "somebody was asked"
        now_ms = self._clock.now_ms()
        if item.is_missing:
            self.plan.missing(item.peer, now_ms)
        elif item is self._ranges[0]:
            self.plan.failed(item.peer, reason, now_ms)
        else:
            self.plan.leave_alone(item.peer, now_ms)
        item.forget(max(item.first, self._ledger.height + 1))

    async def _wait(self) -> None:
        """Until an answer comes, a height is committed, or a peer that was left alone is ready again."""
        self._changed = trio.Event()
        now_ms = self._clock.now_ms()
        pause = LOOK_S
        if self._ranges and self._ranges[0].peer is None:
            wake_ms = self.plan.wake_at_ms(self._sources(self._ranges[0].first), now_ms)
            pause = min(LOOK_S, max(0.01, (wake_ms - now_ms) / 1000))
        with trio.move_on_after(pause):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until_committed, self._ledger.height, nursery.cancel_scope)
                await self._changed.wait()
                nursery.cancel_scope.cancel()

    async def _until_committed(self, height: int, scope: trio.CancelScope) -> None:
        await self._ledger.wait_above(height)
        scope.cancel()

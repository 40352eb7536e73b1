"""Finds in the DHT who provides content, and holds connections to them while they are asked; bounded and paced."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from agent_world.errors import ErrorCode, Refused, Unavailable
from agent_world.net.interface import DistributedDht, DistributedNetwork
from agent_world.node.counters import Counters
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import PeerId

CONTENTS_MAX: Final = 16
"""Contents looked up in one search, those first whose turn was longest ago."""
AT_ONCE: Final = 4
"""Look-ups of one search at the same time."""
SEARCH_MAX_S: Final = 15.0
"""All look-ups of one search; what is known by then is used."""
SEARCH_EVERY_S: Final = 2.0
"""Between the beginnings of two searches of this node."""
WAITING_MAX: Final = 16
"""Callers that wait for their turn; one more finds nobody."""
PROVIDERS_MAX: Final = 8
"""Providers that one search connects to."""
CONNECT_MAX_S: Final = 5.0
"""Time for them to be dialled."""
CLOSE_MAX_S: Final = 1.0
POLL_S: Final = 0.05
SEARCHED_MAX: Final = 4_096
"""Contents of which it is remembered when they were looked up; the one longest ago is forgotten."""


class ProviderSearch:
    """One node's. ``is_kept`` says whether the node keeps a link to a peer for other reasons."""

    def __init__(self, network: DistributedNetwork, is_kept: Callable[[PeerId], bool]) -> None:
        self._network = network
        self._is_kept = is_kept
        self._dht: DistributedDht | None = None
        self._turn = trio.Lock()
        self._next_s = -SEARCH_EVERY_S
        self._searched: OrderedDict[ContentHash, float] = OrderedDict()
        self._borrowed: Counter[PeerId] = Counter()
        self.counters = Counters()

    def join(self, dht: DistributedDht) -> None:
        """Search in this DHT; without one nobody is found."""
        self._dht = dht

    @asynccontextmanager
    async def providers(self, contents: Sequence[ContentHash]) -> AsyncIterator[list[PeerId]]:
        """Connected peers that provide any of ``contents``; those dialled for it are let go after the block.

        None if nobody has them, nobody in the DHT answers, or the node is searching enough already.
        """
        try:
            named = await self.named(contents) if contents else {}
        except (Refused, Unavailable):
            named = {}  # counted where it was raised
        everybody = list(dict.fromkeys(peer for peers in named.values() for peer in peers))
        async with self.linked(everybody) as usable:
            yield usable

    @asynccontextmanager
    async def linked(self, peers: Sequence[PeerId]) -> AsyncIterator[list[PeerId]]:
        """Those of ``peers`` that are connected, once the others were dialled, which are let go after the block."""
        connected = self._connected()
        # Who is borrowed is borrowed again, or the first to end would close the connection of the second.
        borrowed = [peer for peer in peers if peer not in connected or self._borrowed[peer]][:PROVIDERS_MAX]
        self._borrowed.update(borrowed)
        try:
            await self._connect(borrowed)
            usable = self._connected()
            self.counters.add("sources.unreachable", sum(peer not in usable for peer in borrowed))
            yield [peer for peer in peers if peer in usable]
        finally:
            await self._give_back(borrowed)

    async def named(self, contents: Sequence[ContentHash]) -> dict[ContentHash, list[PeerId]]:
        """Whom the DHT names for ``contents``, without this node; CONTENTS_MAX of them are looked up.

        Raises Refused: ERR_UNSUPPORTED of a node that has joined no DHT, ERR_BUSY if too many wait for their turn;
        Unavailable if nobody in the DHT answers.
        """
        dht = self._dht
        if dht is None:
            raise Refused(ErrorCode.UNSUPPORTED, "this node has joined no DHT")
        if self._turn.statistics().tasks_waiting >= WAITING_MAX:
            self.counters.add("sources.search_refused")
            raise Refused(ErrorCode.BUSY, f"{WAITING_MAX} searches for providers wait already; try again later")
        async with self._turn:
            await trio.sleep_until(self._next_s)
            self._next_s = trio.current_time() + SEARCH_EVERY_S
            found: dict[ContentHash, list[PeerId]] = {}
            limit = trio.CapacityLimiter(AT_ONCE)
            with trio.move_on_after(SEARCH_MAX_S) as scope:
                async with trio.open_nursery() as nursery:
                    for content in self._choose(contents):
                        nursery.start_soon(self._look_up, dht, content, found, limit)
            if scope.cancelled_caught:
                self.counters.add("sources.search_cut")
        self.counters.add("sources.searches")
        self.counters.add("sources.found" if any(found.values()) else "sources.nobody")
        if not found:
            raise Unavailable(f"nobody in the DHT has answered within {SEARCH_MAX_S:g} s")
        return found

    def _choose(self, contents: Sequence[ContentHash]) -> list[ContentHash]:
        never = -SEARCH_MAX_S
        chosen = sorted(contents, key=lambda content: self._searched.get(content, never))[:CONTENTS_MAX]
        for content in chosen:
            self._searched[content] = trio.current_time()
            self._searched.move_to_end(content)
        while len(self._searched) > SEARCHED_MAX:
            self._searched.popitem(last=False)
        return chosen

    async def _look_up(
        self,
        dht: DistributedDht,
        content: ContentHash,
        found: dict[ContentHash, list[PeerId]],
        limit: trio.CapacityLimiter,
    ) -> None:
        async with limit:
            try:
                # The codec is no part of the key: providers are those of the hash.
                providers = await dht.find_providers(Cid(Codec.RAW, content), timeout_s=SEARCH_MAX_S)
            except Unavailable:
                self.counters.add("dht.nobody_answered")
                return
        found[content] = [peer for peer in providers if peer != self._network.peer_id]

    async def _connect(self, peers: Sequence[PeerId]) -> None:
        assert self._dht is not None or not peers, "only a DHT names providers"
        for peer in peers:
            for address in self._dht.addresses(peer) if self._dht is not None else ():
                self._network.dial(peer, address)
        with trio.move_on_after(CONNECT_MAX_S):
            while not set(peers) <= self._connected():  # noqa: ASYNC110 - the network's events have other readers
                await trio.sleep(POLL_S)

    async def _give_back(self, peers: Sequence[PeerId]) -> None:
        """Let go whom nobody else here wants and who did not dial this node meanwhile."""
        self._borrowed.subtract(peers)
        self._borrowed += Counter()  # drops the zeros
        inbound = {info.peer for info in self._network.peers() if not info.outbound}
        with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_MAX_S):
            for peer in peers:
                if self._borrowed[peer] or self._is_kept(peer):
                    continue
                self._network.forget(peer)
                if peer not in inbound:
                    self.counters.add("sources.given_back")
                    await self._network.disconnect(peer)

    def _connected(self) -> set[PeerId]:
        return {info.peer for info in self._network.peers()}

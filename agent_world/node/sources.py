"""The one place that decides whom to ask for blocks and content, and in which order; catch-up, pull and heal use it.

Who has signed to keep something comes first, everybody else after that. What no connected peer gives is asked of
those whom the DHT names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager

from blake3 import blake3

from agent_world.net.interface import DistributedNetwork
from agent_world.node.counters import Counters
from agent_world.node.fetch import BlobFetcher
from agent_world.node.peering import Peering
from agent_world.node.provider_search import ProviderSearch
from agent_world.sync.keepers import Keepers
from agent_world.wire.cid import ContentHash
from agent_world.wire.hello import Role
from agent_world.wire.ids import PeerId


class Sources:
    """Of one node; ``keepers`` is filled by whoever reads capability records."""

    def __init__(
        self, network: DistributedNetwork, peering: Peering, fetcher: BlobFetcher, search: ProviderSearch
    ) -> None:
        self._network = network
        self._peering = peering
        self._fetcher = fetcher
        self._search = search
        self.keepers = Keepers()
        self.counters = Counters()

    def for_height(self, height: int, able: Sequence[PeerId]) -> list[PeerId]:
        """The connected ones of ``able``, which claim to have this height, the most promising first."""
        connected = {info.peer for info in self._network.peers()}
        return self.keepers.for_height([peer for peer in able if peer in connected], height)

    def for_content(self, connected: Sequence[PeerId]) -> list[PeerId]:
        """Neighbours among ``connected``, the most promising first; equal ones in an order of this node's own.

        Who is connected and has said no hello only visits, or is of another world.
        """
        neighbours = [peer for peer in connected if peer in self._peering.hellos]
        claims = {peer for peer in neighbours if self._peering.hellos[peer].role is Role.STORAGE}
        return self.keepers.for_content(sorted(neighbours, key=self._place), claims)

    def _place(self, peer: PeerId) -> bytes:
        """Another order at every node, so that not all ask the same one first."""
        return blake3(f"content {self._network.peer_id} {peer}".encode()).digest()

    async def fetch(self, wanted: Iterable[ContentHash]) -> dict[ContentHash, bytes]:
        """What could be had of ``wanted``: from neighbours, then from providers; never raises for what peers do."""
        asked = tuple(dict.fromkeys(wanted))
        found = await self._fetcher.fetch(asked, self._fetcher.peers())
        missing = [content for content in asked if content not in found]
        if missing:
            async with self.providers(missing) as providers:
                further = await self._fetcher.fetch(missing, providers)
            self.counters.add("sources.from_providers", len(further))
            found.update(further)
        return found

    def providers(self, contents: Sequence[ContentHash]) -> AbstractAsyncContextManager[list[PeerId]]:
        """Connected peers that the DHT names for any of ``contents``, as long as the block lasts; may be none."""
        return self._search.providers(contents)

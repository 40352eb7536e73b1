"""The one place that decides which neighbours to ask for blocks and content, and in which order.

Who has signed to keep something comes first, everybody else after that. Catch-up asks in this order for blocks, and
``distributed_client`` for content.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from blake3 import blake3

from agent_world.distfs.providers import ProviderRecord, score
from agent_world.net.interface import DistributedNetwork
from agent_world.node.peering import Peering
from agent_world.sync.keepers import Keepers
from agent_world.wire.hello import Role
from agent_world.wire.ids import PeerId

LATENCY_STEP_MS: Final = 50
"""Differences below it say nothing of a peer."""


class Sources:
    """Of one node; ``keepers`` is filled by whoever reads capability records."""

    def __init__(self, network: DistributedNetwork, peering: Peering) -> None:
        self._network = network
        self._peering = peering
        self.keepers = Keepers()
        self.challenge_ratio: Callable[[PeerId], int | None] = lambda _peer: None
        """Passed storage challenges of a peer per mille; None without any."""

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
        return self.keepers.for_content(self._ranked(neighbours), claims)

    def _ranked(self, peers: Sequence[PeerId]) -> list[PeerId]:
        """By what is known of them (3.7), equal ones in this node's own order. All are connected, so all are fresh."""
        latency = {info.peer: info.latency_ms for info in self._network.peers()}
        scores = {peer: score(self._record(peer, latency.get(peer)), 0) for peer in peers}
        return sorted(peers, key=lambda peer: (-scores[peer], self._place(peer)))

    def describe(self, peer: PeerId) -> ProviderRecord:
        """What is known of any peer, for the order in which providers are asked."""
        latency = {info.peer: info.latency_ms for info in self._network.peers()}
        return self._record(peer, latency.get(peer))

    def _record(self, peer: PeerId, latency_ms: float | None) -> ProviderRecord:
        """What its capability record says and what was measured here; the word of a stranger weighs little."""
        said = self.keepers.of(peer)
        return ProviderRecord(
            provider_id=peer,
            last_seen_ms=0,
            storage_total_bytes=None if said is None else said.storage_used_bytes + said.storage_free_bytes,
            storage_available_bytes=None if said is None else said.storage_free_bytes,
            challenge_pass_ratio_per_mille=self.challenge_ratio(peer),
            # In steps, so that a jitter of milliseconds does not send all nodes to the same neighbour.
            p50_read_latency_ms=None if latency_ms is None else int(latency_ms) // LATENCY_STEP_MS * LATENCY_STEP_MS,
        )

    def _place(self, peer: PeerId) -> bytes:
        """Another order at every node, so that not all ask the same one first."""
        return blake3(f"content {self._network.peer_id} {peer}".encode()).digest()

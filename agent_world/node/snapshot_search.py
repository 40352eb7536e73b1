"""Finds the snapshot of a certified state: at the neighbours, then at those who provide the state in the DHT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent_world.errors import Refused, RemoteError
from agent_world.net.interface import DistributedNetwork
from agent_world.net.reputation import Offence
from agent_world.node.counters import Counters
from agent_world.node.distributed_client import DistributedClient
from agent_world.node.sources import Sources
from agent_world.wire import record, rpc
from agent_world.wire.cid import Cid
from agent_world.wire.ids import U64, PeerId, WorldId
from agent_world.wire.limits import RPC_BODY_BYTES_MAX
from agent_world.wire.snapshot import GetSnapshotRequest, SnapshotManifest

NEIGHBOURS_ASKED_MAX: Final = 4
"""Neighbours asked before the DHT is: planning a snapshot walks a whole state, so not everybody is made to."""
ANSWER_MAX_S: Final = 30.0
"""For one manifest, which may have to be planned."""


class SnapshotSearch:
    """One node's questions for manifests."""

    def __init__(
        self, network: DistributedNetwork, sources: Sources, client: DistributedClient, world_id: WorldId
    ) -> None:
        self._network = network
        self._sources = sources
        self._client = client
        self._world_id = world_id
        self.counters = Counters()

    async def find(self, height: int, state_root: Cid, able: Sequence[PeerId]) -> SnapshotManifest | None:
        """The manifest of the state ``state_root`` after ``height``; None if nobody gives one that fits.

        ``able`` are peers that claim to be at the height. A certified block has to name the root: the manifest proves
        nothing.
        """
        neighbours = self._sources.for_height(height, able)[:NEIGHBOURS_ASKED_MAX]
        found = await self._first(neighbours, height, state_root)
        if found is None:
            async with self._client.providers([state_root.digest]) as providers:
                found = await self._first(providers, height, state_root)
        self.counters.add("snapshot.found" if found is not None else "snapshot.not_found")
        return found

    async def _first(self, peers: Sequence[PeerId], height: int, state_root: Cid) -> SnapshotManifest | None:
        request = record.to_bytes(GetSnapshotRequest(world_id=self._world_id, height=U64(height)))
        for peer in peers:
            try:
                answer = await self._network.request(peer, rpc.GET_SNAPSHOT, request, timeout_s=ANSWER_MAX_S)
                manifest = record.from_bytes(SnapshotManifest, answer, size_max=RPC_BODY_BYTES_MAX)
            except Refused as error:
                self.counters.add(f"snapshot.refused_by_peer.{error.code}")
                continue
            except RemoteError as error:
                self.counters.add(f"snapshot.broken.{error.rule}")
                self._network.gate.blame(peer, Offence.WRONG_BYTES)
                continue
            if (manifest.world_id, manifest.height, manifest.state_root) == (self._world_id, height, state_root):
                return manifest
            self.counters.add("snapshot.of_another_state")
        return None

"""What the control API and reports show of a node; read-only but for submit and put."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import trio

from agent_world import __version__
from agent_world.errors import BlobHashMismatch, ErrorCode, Refused
from agent_world.net.address import format_peer
from agent_world.node.chain_views import ChainViews
from agent_world.node.large import Stored
from agent_world.node.node import Node
from agent_world.node.validator_views import validator_status
from agent_world.wire import record
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import ActorId, Hash32, PeerId


class NodeViews(ChainViews):
    """Satisfies ``control.ControlView``."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.ledger, node.blobs)
        self._node = node
        self._started_ms = node.clock.now_ms()
        self._started_wall_ms = node.clock.wall_ms()

    def status(self) -> dict[str, Any]:
        """How the node is: heights, peers, pool, storage, counters."""
        node = self._node
        settings = node.settings
        peer_id = node.network.peer_id
        return {
            "version": __version__,
            "node_id": settings.node_id,
            "role": settings.role.value,
            "topology": settings.topology.value,
            "world_id": node.ledger.world_id,
            "genesis_hash": node.ledger.genesis_hash,
            "peer_id": peer_id,
            "multiaddrs": [format_peer(peer_id, address) for address in node.network.listen_addresses()],
            "running": True,
            "started_ms": self._started_wall_ms,
            "uptime_ms": node.clock.now_ms() - self._started_ms,
            "consensus": self._consensus(),
            "validators": validator_status(node),
            "peers": self._peers(),
            "mempool": {"actions": len(node.pool.mempool), "bytes": node.pool.mempool.size_bytes},
            "storage": self._storage(),
            "replication": node.replication.status(),
            "net": node.network.gate.shown(),
            "dht": node.discovery.status(),
            **node.challenges.status(),
            "replicas": node.replicas.status(),
            "last_error": node.catch_up.last_error,
            "counters": self._counters(),
        }

    def _consensus(self) -> dict[str, Any]:
        node = self._node
        ledger, heads = node.ledger, node.catch_up.heads
        header = ledger.header
        peer_heads = [
            {
                "peer_id": peer,
                "height": told.head.height,
                "block_hash": told.head.block_hash,
                "state_root": told.head.state_root,
                "certified_height": told.certified_height,
            }
            for peer, told in heads.heads().items()
        ]
        voting = {} if node.voting is None else node.voting.status()
        return {
            "mode": "bft",
            "validator_id": None,
            "committed_height": ledger.height,
            "network_committed_height": max(heads.network_committed_height, ledger.height),
            "last_status": "committed" if ledger.height else "pending",
            "last_block_hash": ledger.head.block_hash,
            "last_committed_at_ms": ledger.timestamp_ms if ledger.height else None,
            "last_execution_height": ledger.state.clock.height,
            "last_execution_state_root": ledger.state.root,
            "slot": 0 if header is None else header.slot,
            "epoch": 0 if header is None else header.epoch,
            "known_peer_heads": len(peer_heads),
            "peer_heads": peer_heads,
            **node.catch_up.status(),
            **voting,
        }

    def _peers(self) -> list[dict[str, Any]]:
        rows = []
        for info in self._node.network.peers():
            hello = self._node.peering.hellos.get(info.peer)
            rows.append(
                {
                    "peer_id": info.peer,
                    "address": info.address,
                    "outbound": info.outbound,
                    "role": None if hello is None else hello.role.value,
                    "validator": None if hello is None else self._node.peering.is_validator(info.peer),
                    "connected_s": round(info.connected_s, 1),
                    "latency_ms": info.latency_ms,
                }
            )
        return rows

    def _storage(self) -> dict[str, Any]:
        usage = self._node.blobs.usage()
        own = {} if self._node.puller is None else self._node.puller.status()
        node = self._node
        mine = {**node.collecting.status(), "faults": node.disk.status(), "scrub": node.scrub.status()}
        return {"blobs": usage.blobs, "bytes": usage.size_bytes, **mine, **own}

    def _counters(self) -> dict[str, int]:
        node = self._node
        merged: dict[str, int] = dict(node.counters)
        for part in (
            node.pool.counters,
            node.peering.counters,
            node.peer_control.counters,
            node.announcer.counters,
            node.repair.counters,
            node.catch_up.counters,
            node.healer.counters,
            node.client.counters,
            node.collecting.counters,
            node.scrub.counters,
            node.disk.counters,
            node.snapshots.counters,
            node.snapshot_search.counters,
            node.equivocations.counters,
        ):
            merged.update(part)
        if node.voting is not None and node.seat is not None:
            merged.update(node.voting.counters)
            merged.update(node.seat.counters)
        if node.puller is not None:
            merged.update(node.puller.counters)
        if node.filing is not None:
            merged.update(node.filing.counters)
        if node.lease is not None:
            merged.update(node.lease.counters)
        merged.update(node.unixfs.counters)
        merged.update(node.discovery.counters())
        merged.update(node.replication.counters())
        merged.update(node.challenges.all_counters())
        merged.update(node.replicas.all_counters())
        merged.update(node.reader.counters)
        merged.update({f"mempool.{name}": count for name, count in node.pool.mempool.counters().items()})
        merged.update({f"store.{name}": count for name, count in node.blobs.counters().items()})
        merged.update({f"net.{name}": count for name, count in node.network.counters().items()})
        return dict(sorted(merged.items()))

    def peers(self) -> list[dict[str, Any]]:
        """Connected, banned and refused peers."""
        return self._node.peer_control.rows()

    def ban_peer(self, peer: PeerId, ban_ms: int, reason: str) -> dict[str, Any]:
        """Ban a peer by word of the operator; raises Refused."""
        return self._node.peer_control.ban(peer, ban_ms, reason)

    def unban_peer(self, peer: PeerId) -> dict[str, Any]:
        """End a ban; raises Refused if there is none."""
        return self._node.peer_control.unban(peer)

    def actor(self, actor_id: ActorId) -> dict[str, Any]:
        """An actor with balances and how many of its actions wait; raises Refused if it is not registered."""
        return {**super().actor(actor_id), "pending": self._node.pool.pending_of(actor_id)}

    def submit(self, data: bytes) -> Hash32:
        """Admit an action handed in here; raises Refused with the rule."""
        return self._node.pool.admit(data, source=None).action_id

    async def receipt(self, action_id: Hash32, wait_ms: int) -> dict[str, Any]:
        """The receipt, waited for; raises Refused (ERR_NOT_FOUND, or ERR_TIMEOUT while the action is pending)."""
        ledger = self._node.ledger
        try:
            with trio.fail_after(wait_ms / 1000):
                while (found := ledger.receipt(action_id)) is None:
                    await ledger.wait_above(ledger.height)
        except trio.TooSlowError:
            raise self._no_receipt(action_id) from None
        return {"height": found[0], **record.unstructure(found[1])}

    def _no_receipt(self, action_id: Hash32) -> Refused:
        if self._node.pool.get(action_id) is not None:
            return Refused(ErrorCode.TIMEOUT, f"action {action_id.hex()} is pending, not committed yet", rule="S2")
        return Refused(ErrorCode.NOT_FOUND, f"action {action_id.hex()} is neither committed nor pending", rule="S2")

    async def blob(self, content: ContentHash) -> bytes:
        """A blob from here, else from any connected peer; raises Refused if nobody has it."""
        try:
            (found,) = self._node.find_blobs([content])
        except BlobHashMismatch:
            found = None  # quarantined, and on its way back from a peer; whoever asks need not wait for that
        if found is None:
            found = (await self._node.client.fetch([content])).get(content)
        if found is None:
            raise Refused(ErrorCode.NOT_FOUND, f"neither this node nor a connected peer has {content.hex()}", rule="L1")
        return found

    def put_blob(self, data: bytes) -> Cid:
        """Store a raw blob, pinned under its CID."""
        cid = Cid(Codec.RAW, self._node.blobs.put(data))
        self._node.pinning.keep(cid)
        return cid

    async def put_content(self, parts: AsyncIterator[bytes]) -> Stored:
        """Store content of any size, pinned under its CID; above one blob it becomes a file manifest."""
        with self._node.blobs.hold():  # until the pin is there
            stored = await self._node.large.store(parts)
            self._node.pinning.keep(stored.cid)
        return stored

    async def content_size(self, cid: Cid, providers: Sequence[PeerId]) -> int:
        """Bytes of a blob or file, asked of these peers only, or of whoever has it if none are named."""
        if not providers:
            return await self._node.reader.size(cid)
        return await self._node.large.size(cid, providers)

    def read_content(self, cid: Cid, start: int, end: int, providers: Sequence[PeerId]) -> AsyncIterator[bytes]:
        """The bytes ``start`` to ``end`` of a blob or file, fetched while they are read."""
        if not providers:
            return self._node.reader.read(cid, start, end)
        return self._node.large.read(cid, start, end, providers)

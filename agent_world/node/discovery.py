"""One node's part in the DHT: what it puts there, and what it looks for (D7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from agent_world.crypto.keys import KeyPair
from agent_world.errors import ErrorCode, LocalError, Refused
from agent_world.handlers.dht import DhtRecords, capability_key, sign_capability
from agent_world.net.cached_dht import CachedDht
from agent_world.net.interface import DistributedDht, DistributedNetwork
from agent_world.node.capabilities import CapabilityReader
from agent_world.node.catch_up import CatchUp
from agent_world.node.clock import Clock
from agent_world.node.ledger import Ledger
from agent_world.node.peering import Peering
from agent_world.node.provider_search import ProviderSearch
from agent_world.node.providing import Providing
from agent_world.node.publishing import RecordPublisher
from agent_world.node.seeking import Seeker
from agent_world.node.snapshot_offer import SnapshotOffer
from agent_world.node.snapshots import Snapshots
from agent_world.node.sources import Sources
from agent_world.store.blobs import LocalCasStore
from agent_world.store.dht_index import SqliteIndexStore
from agent_world.store.home import Home
from agent_world.store.provided import ProvidedRoots
from agent_world.wire.capability import CapabilityRecord
from agent_world.wire.cid import Cid
from agent_world.wire.hello import Role
from agent_world.wire.ids import U64, PeerId, TimeMs

if TYPE_CHECKING:
    from agent_world.node.node import Node

_FIRST_HEIGHT: Final = 1


@attrs.frozen(slots=True, kw_only=True)
class DiscoveryParts:
    """What of the node takes part."""

    home: Home
    role: Role
    network: DistributedNetwork
    ledger: Ledger
    blobs: LocalCasStore
    catch_up: CatchUp
    peering: Peering
    sources: Sources
    search: ProviderSearch
    snapshots: Snapshots
    snapshot_every_heights: int
    leaves_content: bool
    """Whether the node leaves some of what the world names to other storage nodes."""
    clock: Clock
    voter: Callable[[], KeyPair | None]
    """The validator key of a node with a vote, as it is now."""


class Discovery:
    """Build it, ``join`` a DHT, then ``run``. Without a DHT it does nothing."""

    def __init__(self, parts: DiscoveryParts) -> None:
        self._parts = parts
        ledger = parts.ledger
        open_head = parts.catch_up.handler.open_head
        self.records = DhtRecords(ledger.world_id, ledger.genesis_hash, open_head, ledger.term)
        self._node_key: KeyPair | None = None
        self._dht: CachedDht | None = None
        self._publisher: RecordPublisher | None = None
        self._providing: Providing | None = None
        self._seeker: Seeker | None = None
        self._reader: CapabilityReader | None = None
        self._offer: SnapshotOffer | None = None

    def join(self, dht: DistributedDht, node_key: KeyPair) -> None:
        """Use ``dht``, which judges records by ``self.records.rules``; once, before ``run``."""
        if self._dht is not None:
            raise LocalError("a node joins one DHT")
        parts = self._parts
        own_id = parts.network.peer_id
        self._node_key = node_key
        self._dht = CachedDht(dht, SqliteIndexStore(parts.home), self.records.rules, own_id, parts.clock.wall_ms)
        self._publisher = RecordPublisher(self._dht, parts.ledger, parts.clock, parts.voter)
        self._publisher.describe = self._describe
        self._seeker = Seeker(self._dht, parts.network, parts.ledger, parts.catch_up, parts.peering, self.records)
        self._reader = CapabilityReader(
            self._dht, self.records, parts.peering, parts.sources.keepers, parts.ledger.world_id
        )
        self._reader.seeks_keepers = parts.role is Role.STORAGE and parts.leaves_content
        parts.search.join(self._dht)
        if parts.role is not Role.OBSERVER:
            roots = ProvidedRoots(parts.home)
            self._providing = Providing(
                self._dht, parts.ledger, roots, lambda cid: parts.blobs.has(cid.digest), parts.clock, own_id
            )
            # Who leaves content to others announces what it keeps, and not what it might keep.
            self._providing.walks = parts.role is Role.STORAGE and not parts.leaves_content
        if parts.role is Role.STORAGE and parts.snapshot_every_heights:
            self._offer = SnapshotOffer(
                self._dht, parts.ledger, parts.snapshots, parts.clock, parts.snapshot_every_heights
            )

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for part in (self._publisher, self._providing, self._seeker, self._reader, self._offer):
                if part is not None:
                    nursery.start_soon(part.run)

    def met(self, peer: PeerId, address: str | None) -> None:
        """A peer of this world has said hello; where it listens is handed on by the DHT."""
        if self._dht is not None and address is not None:
            self._dht.learned(peer, address)

    async def provide_now(self, cids: Iterable[Cid]) -> dict[str, Any]:
        """Announce these, if this node has them, and then what is due; a batch at most.

        Raises Refused: ERR_UNSUPPORTED of an observer, which provides nothing, ERR_NOT_FOUND for what is not here.
        """
        if self._providing is None:
            raise Refused(ErrorCode.UNSUPPORTED, "this node announces nothing: it is an observer, or has joined no DHT")
        wanted = list(cids)
        here = self._parts.blobs.has_many([cid.digest for cid in wanted])
        for cid in wanted:
            if cid.digest not in here:
                raise Refused(ErrorCode.NOT_FOUND, f"{cid} is not stored here")
        now_ms = self._parts.clock.wall_ms()
        new = self._providing.cache.register_local_content(wanted, now_ms)
        return {"new": new, "announced": await self._providing.cache.republish_local(now_ms)}

    def register(self, cids: Iterable[Cid]) -> None:
        """Announce these from now on, at the next turn; without a DHT nothing is announced."""
        if self._providing is not None:
            self._providing.cache.register_local_content(cids, self._parts.clock.wall_ms())

    def withdraw(self, cid: Cid) -> None:
        """Announce it no more, and stop saying that it is served here."""
        if self._providing is not None:
            self._providing.cache.withdraw(cid)

    def status(self) -> dict[str, Any]:
        """For ``node status``."""
        if self._dht is None:
            return {"joined": False}
        providing = {} if self._providing is None else self._providing.status()
        membership = None if self._seeker is None else self._seeker.membership_status()
        offered = 0 if self._offer is None else self._offer.height
        return {
            "joined": True,
            "peers": self._dht.peers(),
            "membership": membership,
            "snapshot_offered": offered,
            **providing,
        }

    def counters(self) -> Mapping[str, int]:
        """Counters of all parts and of the DHT itself."""
        merged: Counter[str] = Counter()
        if self._dht is not None:
            merged.update({f"net.{name}": count for name, count in self._dht.counters().items()})
        if self._providing is not None:
            merged.update(self._providing.cache.counters)
        # More than one part counts that nobody has answered it.
        parts = self._parts
        for part in (self._publisher, self._seeker, self._reader, self._offer, parts.search):
            if part is not None:
                merged.update(part.counters)
        return merged

    def _describe(self, now_ms: TimeMs) -> tuple[str, CapabilityRecord, bytes]:
        assert self._node_key is not None, "join() comes before run()"
        parts = self._parts
        height = parts.ledger.height
        said = CapabilityRecord(
            world_id=parts.ledger.world_id,
            peer_id=parts.network.peer_id,
            from_height=U64(min(_FIRST_HEIGHT, height)),
            to_height=U64(height),
            role=parts.role,
            storage_used_bytes=U64(parts.blobs.usage().size_bytes),
            storage_free_bytes=U64(parts.blobs.free_bytes() if parts.role is Role.STORAGE else 0),
            issued_at_ms=now_ms,
            # The wall clock rises over restarts, and needs nothing to be stored.
            sequence=U64(now_ms),
        )
        return (
            capability_key(said.world_id, said.peer_id),
            said,
            sign_capability(said, parts.ledger.genesis_hash, self._node_key),
        )


def discovery_of(node: Node, home: Home, search: ProviderSearch) -> Discovery:
    """The discovery of a node whose ledger, peering and catch-up are built."""
    config = node.settings.config
    return Discovery(
        DiscoveryParts(
            home=home,
            role=node.settings.role,
            network=node.network,
            ledger=node.ledger,
            blobs=node.blobs,
            catch_up=node.catch_up,
            peering=node.peering,
            sources=node.sources,
            search=search,
            snapshots=node.snapshots,
            snapshot_every_heights=config.storage.snapshot_every_heights,
            leaves_content=config.replicas.target_replicas_per_blob > 0,
            clock=node.clock,
            voter=lambda: None if node.seat is None else node.seat.key,
        )
    )

"""A running node: which handler is plugged where, and which tasks run (floor 4: composition)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial

import structlog
import trio

from agent_world.crypto.keys import KeyPair
from agent_world.errors import BlobHashMismatch, BlobNotFound
from agent_world.handlers.action import ActionHandler, PendingHandler
from agent_world.handlers.blob import BlobHandler
from agent_world.handlers.block import BlockHandler
from agent_world.handlers.consensus import CHANNEL, ConsensusHandler
from agent_world.handlers.event import EventHandler
from agent_world.handlers.evidence import EvidenceHandler
from agent_world.handlers.hello import HelloHandler, sign_validator_claim
from agent_world.handlers.membership import MembershipHandler
from agent_world.handlers.module import ModuleHandler
from agent_world.handlers.state import StateHandler
from agent_world.handlers.submit import Admitted, SubmitHandler
from agent_world.net.interface import DistributedNetwork, Subscription, Validator
from agent_world.node.announce import Announcer
from agent_world.node.catch_up import CatchUp
from agent_world.node.challenges import challenges_of
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.discovery import discovery_of
from agent_world.node.distributed_client import DistributedClient
from agent_world.node.equivocations import Equivocations
from agent_world.node.fetch import BlobFetcher
from agent_world.node.filing import Filing
from agent_world.node.heal import Healer
from agent_world.node.keeping import keep_content
from agent_world.node.large import LargeContent
from agent_world.node.lease_keeper import LeaseKeeper
from agent_world.node.ledger import Ledger
from agent_world.node.modules import NoModules
from agent_world.node.peer_control import PeerControl
from agent_world.node.peering import Peering
from agent_world.node.pool import ActionPool
from agent_world.node.provider_search import ProviderSearch
from agent_world.node.pull import puller_of
from agent_world.node.reading import ContentReader
from agent_world.node.repair import PendingRepair
from agent_world.node.replicas import replicas_of
from agent_world.node.replication import replication_of
from agent_world.node.seat import Seat
from agent_world.node.settings import NodeSettings
from agent_world.node.snapshot_search import SnapshotSearch
from agent_world.node.snapshots import Snapshots
from agent_world.node.sources import Sources
from agent_world.node.task_status import TaskStatus
from agent_world.node.transfer import BlobTransfer
from agent_world.node.voting import Voting, VotingParts
from agent_world.store.bans import BanBook
from agent_world.store.blobs import LocalCasStore
from agent_world.store.chain import ChainStore
from agent_world.store.content import ContentTable
from agent_world.store.evidence import EvidenceBook
from agent_world.store.home import Home
from agent_world.store.peers import PeerBook
from agent_world.wire import rpc
from agent_world.wire.cid import ContentHash
from agent_world.wire.genesis import Genesis
from agent_world.wire.hello import PROTOCOL_VERSIONS, Hello, Role, ValidatorClaim
from agent_world.wire.ids import PeerId, TimeMs
from agent_world.wire.signed import Signed
from agent_world.world.admission import SignedAction

_log = structlog.get_logger("agent_world.node")


class Node:
    """One node over an open home and a network. Build it, then ``run`` it once."""

    _proof: Signed | None = None
    """That this peer speaks for the validator key; None without one."""

    def __init__(
        self,
        settings: NodeSettings,
        genesis: Genesis,
        home: Home,
        network: DistributedNetwork,
        *,
        validator_key: KeyPair | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self.network = network
        self._stack = ExitStack()
        config = settings.config
        self.blobs = LocalCasStore(home, config.storage)
        self.ledger = Ledger(genesis, ChainStore(home, self.blobs), self.blobs)
        self.pool = ActionPool(self.ledger, config.mempool, self.clock)
        self.counters = Counters()
        self.fetcher = BlobFetcher(network, self.counters)
        self.large = LargeContent(self.blobs, BlobTransfer(network, self.counters))
        self.snapshots = Snapshots(self.ledger, self.blobs)
        self.peer_book = PeerBook(home, peers_max=config.net.peers_known_max, ttl_ms=int(config.net.peer_ttl_s * 1000))
        self.peering = Peering(network, self.peer_book, config.net, self.clock)
        self.peer_control = PeerControl(network, self.peering, BanBook(home), config.net, self.clock)
        self.announcer = Announcer(network, self.ledger, self.pool)
        self.repair = PendingRepair(network, self.ledger, self.pool, self.fetcher, self.clock)
        self.content = ContentTable(home, config.storage)
        self.sources = Sources(network, self.peering)
        search = ProviderSearch(network, self.peering.links.is_own)
        self.client = DistributedClient(network, search, self.fetcher, self.sources.describe)
        self.healer = Healer(self.client, self.blobs)
        self.reader = ContentReader(self.large, self.client, self.fetcher.peers)
        kept = keep_content(self, home)
        self.disk, self.scrub, self.collecting, self.pinning = kept.disk, kept.scrub, kept.collecting, kept.pinning
        self.files, self.unixfs, self.archives = kept.files, kept.unixfs, kept.archives
        self.puller = puller_of(self) if settings.role is Role.STORAGE else None
        self.equivocations = Equivocations(self.ledger, EvidenceBook(home), network)
        self.seat = None if validator_key is None else self._seat(home, validator_key)
        self.filing = None if self.seat is None else Filing(self.ledger, self.pool, self.clock, self.seat.key)
        self.lease = None if self.filing is None else LeaseKeeper(self.ledger, self.filing, self.clock, config.lease)
        self.voting = None if self.seat is None else self._voting(self.seat)
        self.catch_up = CatchUp(self.ledger, network, self.healer, self.clock, votes=self.voting is not None)
        self.discovery = discovery_of(self, home, search)
        self.challenges = challenges_of(self, home)
        self.replicas = replicas_of(self, home)
        self.replication = replication_of(self, home)
        self.snapshot_search = SnapshotSearch(network, self.sources, self.client, self.ledger.world_id)
        self._wire_up()

    def _seat(self, home: Home, key: KeyPair) -> Seat:
        seat = Seat(home, key, self.ledger, self.clock, drift_max_ms=self.settings.config.consensus.drift_max_ms)
        self._stack.callback(seat.close)
        return seat

    def _voting(self, seat: Seat) -> Voting:
        return Voting(
            VotingParts(
                config=self.settings.config,
                ledger=self.ledger,
                pool=self.pool,
                seat=seat,
                network=self.network,
                peering=self.peering,
                fetcher=self.fetcher,
                healer=self.healer,
                clock=self.clock,
            )
        )

    def _use_validator_key(self, key: KeyPair) -> None:
        """File actions with it, and say in hellos that the validator with this key is found at this peer."""
        if self.filing is not None:
            self.filing.use(key)
        claim = ValidatorClaim(peer_id=self.network.peer_id, issued_at_ms=TimeMs(self.clock.wall_ms()))
        self._proof = sign_validator_claim(claim, self.ledger.genesis_hash, key)

    def _wire_up(self) -> None:
        """Everything that one part tells another."""
        self.blobs.wall_ms = self.clock.wall_ms
        self.files.index.written = self.replication.file_written
        self.files.index.removed = self.replication.file_removed
        self.files.index.check_writer = self.replication.check_writer
        self.sources.challenge_ratio = self.challenges.pass_ratio
        self.fetcher.order = self.sources.for_content
        self.catch_up.order = self.sources.for_height
        self.pool.arrived = self._action_arrived
        self.catch_up.advanced = self._advanced_by_sync
        self.peering.came = self._peer_came
        self.peering.gone = self._peer_gone
        self.peering.is_validator_key = lambda key: self.ledger.validators.by_key(key) is not None
        self.announcer.announce_heads = self.voting is not None
        self.equivocations.filing = self.filing
        if self.seat is not None:
            self.seat.rotated = self._use_validator_key
            self._use_validator_key(self.seat.key)
        if self.filing is not None:
            self.filing.admitted = self.announcer.add
        if self.voting is not None:
            self.voting.committed = self._after_height
            self.voting.behind = self._seek_block
            self.catch_up.away, self.catch_up.back = self.voting.leave, self.voting.come_back
            self.peering.linked = self.voting.linked
            self.voting.equivocated = self.equivocations.found

    def _peer_came(self, peer: PeerId) -> None:
        self.repair.came(peer)
        if self.voting is not None and self.peering.hellos[peer].validator:
            self.voting.met(peer)
        if self.puller is not None:
            self.puller.peer_came()

    def _peer_gone(self, peer: PeerId) -> None:
        self.repair.gone(peer)
        self.catch_up.heads.forget(peer)

    def _action_arrived(self, action: SignedAction, source: PeerId | None) -> None:
        if source is None:
            self.announcer.add(action.action_id)
        if self.voting is not None and self.pool.mempool.has_ready:
            self.voting.work_available()

    def _advanced_by_sync(self) -> None:
        self._after_height()
        if self.voting is not None:
            self.voting.height_moved()

    def _after_height(self) -> None:
        self.catch_up.heads.raise_to(self.ledger.height)
        self.pool.committed(self.ledger.last_actions)
        self.replication.chain_moved()

    def _seek_block(self) -> None:
        for peer in self.peering.validators():
            self.catch_up.ask_proof(peer)

    def hello(self) -> Hello:
        """What this node says of itself."""
        return Hello(
            versions=PROTOCOL_VERSIONS,
            world_id=self.ledger.world_id,
            genesis_hash=self.ledger.genesis_hash,
            role=self.settings.role,
            validator=self._proof,
            listen=self.network.listen_addresses(),
            head=self.ledger.head,
            peers=self.peering.known_addresses(),
        )

    def _greeted(self, peer: PeerId, hello: Hello) -> None:
        self.peering.greeted(peer, hello)
        self.discovery.met(peer, self.peering.address_of(peer))
        self.catch_up.claimed(peer, hello.head)

    def find_blobs(self, hashes: Sequence[ContentHash]) -> list[bytes | None]:
        """Content this node can serve: stored blobs, and actions that wait or are being decided."""
        return [self._find_blob(item) for item in hashes]

    def _find_blob(self, content: ContentHash) -> bytes | None:
        body = self.pool.find_body(content)
        if body is None and self.voting is not None:
            body = self.voting.find_body(content)
        if body is not None:
            return body
        try:
            return self.blobs.get(content)
        except BlobNotFound:
            return self.snapshots.find(content)
        except BlobHashMismatch:
            self.healer.lost(content)
            raise

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. The network must be running already."""
        with self._stack:
            self.catch_up.heads.raise_to(self.ledger.height)
            self.peer_control.load()
            subscriptions = await self._plug_in()
            async with trio.open_nursery() as nursery:
                for subscription in subscriptions:
                    nursery.start_soon(_drain, subscription)
                nursery.start_soon(self.disk.run)
                for name, part in self._enduring().items():
                    nursery.start_soon(self.disk.endure, name, part)
                self.peering.dial_known()
                _log.info(
                    "node is up",
                    node=self.settings.node_id,
                    role=self.settings.role.value,
                    peer_id=self.network.peer_id,
                    height=self.ledger.height,
                )
                task_status.started(None)

    def _enduring(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """The parts that read and write the store, by their names in counters and logs."""
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "peering": self.peering.run,
            "peer_control": self.peer_control.run,
            "catch_up": self.catch_up.run,
            "announcer": self.announcer.run,
            "repair": partial(self.repair.run, self.settings.config.net.heartbeat_s),
            "healer": self.healer.run,
            "collecting": self.collecting.run,
            "scrub": self.scrub.run,
            "discovery": self.discovery.run,
            "equivocations": self.equivocations.run,
            "replication": self.replication.run,
            "challenges": self.challenges.run,
            "replicas": self.replicas.run,
        }
        optional = {"lease": self.lease, "puller": self.puller, "voting": self.voting}
        return parts | {name: part.run for name, part in optional.items() if part is not None}

    async def _plug_in(self) -> list[Subscription]:
        """Handlers onto methods, channels and topics."""
        network, world = self.network, self.ledger.world_id
        self.peering.use(HelloHandler(self.hello, self._greeted))
        block = BlockHandler(self.ledger, lambda peer, _height: self.catch_up.ask_proof(peer))
        blob = BlobHandler(self)
        submit = SubmitHandler(self.ledger, self._submitted_by_peer, self.pool.pending_of)
        network.serve(rpc.GET_WORLD_HEAD, self.catch_up.handler.serve_head)
        network.serve(rpc.GET_BLOCK, block.serve_block)
        network.serve(rpc.GET_BLOCKS, block.serve_blocks)
        network.serve(rpc.FETCH_BLOB, blob.serve_blob)
        network.serve(rpc.FETCH_BLOBS, blob.serve_blobs)
        network.serve_body(rpc.STREAM_BLOBS, blob.stream_blobs)
        event, module = EventHandler(self.ledger), ModuleHandler(NoModules())
        network.serve(rpc.GET_JOURNAL_SEGMENT, event.serve_journal_segment)
        network.serve(rpc.GET_RECEIPT_SEGMENT, event.serve_receipt_segment)
        network.serve(rpc.GET_SNAPSHOT, StateHandler(world, self.snapshots).serve_snapshot)
        network.serve(rpc.GET_MODULE_MANIFEST, module.serve_manifest)
        network.serve(rpc.GET_MODULE_ARTIFACT, module.serve_artifact)
        network.serve(rpc.SUBMIT_ACTION, submit.serve_submit)
        network.serve(rpc.GET_RECEIPT, submit.serve_receipt)
        network.serve(rpc.GET_ACTOR, submit.serve_actor)
        network.serve(rpc.GET_PENDING, PendingHandler(world, self.pool.pending_ids).serve)
        network.serve(rpc.GET_BOUNDARIES, MembershipHandler(world, self.ledger.boundaries).serve_boundaries)
        self.replication.serve()
        topics: dict[str, Validator] = {
            "action": ActionHandler(self.pool.admit).validate,
            "head": self.catch_up.handler.validate,
            "block": block.validate,
            "replication": self.replication.handler.validate,
        }
        consensus = self._consensus_handler()
        network.on_message(CHANNEL, consensus.on_message)
        topics["consensus.proposal"] = consensus.validate
        topics["consensus.attestation"] = consensus.validate
        topics["consensus.evidence"] = EvidenceHandler(self.equivocations, self.equivocations.take).validate
        return [await network.subscribe(rpc.topic(world, kind), validator) for kind, validator in topics.items()]

    def _consensus_handler(self) -> ConsensusHandler:
        # A node without a vote checks and forwards consensus gossip too, so that the mesh stays whole.
        take = self.voting.take if self.voting is not None else (lambda _message: None)
        context = self.voting.context if self.voting is not None else self.ledger.context
        handler = ConsensusHandler(context, take)
        if self.voting is not None:
            handler.is_known = self.voting.knows
        handler.refused = lambda rule: self.counters.add(f"consensus.refused.{rule}")
        handler.left_behind = self.catch_up.ask_proof
        return handler

    def _submitted_by_peer(self, data: bytes, *, source: PeerId | None) -> Admitted:
        """A peer handed the action to this node: gossip it on as if it had been handed in here."""
        admitted = self.pool.admit(data, source=source)
        if admitted.is_new:
            self.announcer.add(admitted.action_id)
        return admitted


async def _drain(subscription: Subscription) -> None:
    """Validators have done the work already; the queue only must not fill."""
    async for _message in subscription:
        pass

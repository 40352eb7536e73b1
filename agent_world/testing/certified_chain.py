"""A chain of certified blocks that nobody executes, with another validator set in every epoch; peers that serve it.

For what follows a chain by its certificates alone: it can be continued twice from one height, or be forged by sets
that have no say any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs

from agent_world.consensus.certificate import build_certificate
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import cid_of, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, sign
from agent_world.errors import ErrorCode, Refused
from agent_world.handlers.hello import HelloHandler
from agent_world.handlers.membership import MembershipHandler
from agent_world.net.interface import DistributedNetwork
from agent_world.testing.node_swarm import make_genesis, make_key
from agent_world.wire import record, rpc
from agent_world.wire.blob import FetchBlobRequest, FetchBlobResponse
from agent_world.wire.block import BlockBundle, GetBlockRequest, WorldBlock
from agent_world.wire.cid import ContentHash
from agent_world.wire.consensus import Step, ValidatorEntry, ValidatorSetRecord, Vote, VoteSignature
from agent_world.wire.genesis import Genesis
from agent_world.wire.head import CertifiedHead
from agent_world.wire.hello import PROTOCOL_VERSIONS, Hello, Role
from agent_world.wire.ids import U32, U64, Hash32, PeerId, TimeMs, ValidatorId
from agent_world.wire.limits import HEADER_BYTES_MAX
from agent_world.wire.membership import EpochBoundary
from agent_world.world.block import head_of
from agent_world.world.genesis import genesis_hash, genesis_head, initial_state

EPOCH_HEIGHTS: Final = 3
VALIDATORS: Final = 4
"""Members of every set; three of them decide."""


def voter(name: str) -> KeyPair:
    """The key of a validator of this name."""
    return make_key("certified chain", name)


def set_of(names: Sequence[str]) -> ValidatorSetRecord:
    """Equal validators."""
    entries = tuple(
        ValidatorEntry(validator_id=ValidatorId(name), public_key=voter(name).public_key, stake=U64(100))
        for name in sorted(names)
    )
    return ValidatorSetRecord(validators=entries, supermajority_numerator=U64(2), supermajority_denominator=U64(3))


def set_of_epoch(epoch: int) -> ValidatorSetRecord:
    """Every epoch one leaves and one joins."""
    return set_of([f"v{epoch + number}" for number in range(VALIDATORS)])


def make_certificate(world: Genesis, block: bytes, height: int, signers: Sequence[str]) -> bytes:
    """Precommits of these validators for a block."""
    vote = Vote(
        world_id=world.world_id, height=U64(height), round=U32(0), step=Step.PRECOMMIT, block_hash=hash32(block)
    )
    body = record.to_bytes(vote)
    signed = [sign(Domain.VOTE, genesis_hash(world), body, voter(name)) for name in signers]
    return build_certificate(body, [VoteSignature(key=one.key, sig=one.sig) for one in signed])


@attrs.frozen(slots=True)
class Link:
    """One height of the chain."""

    header: WorldBlock
    data: bytes
    certificate: bytes
    coming: ValidatorSetRecord

    @property
    def boundary(self) -> EpochBoundary:
        """The block with the set that decides after it."""
        validators = record.to_bytes(self.coming)
        return EpochBoundary(block=self.data, certificate=self.certificate, validators=validators)

    @property
    def certified(self) -> CertifiedHead:
        """The block as a head."""
        return CertifiedHead(
            head=head_of(self.header, hash32(self.data)), block=self.data, certificate=self.certificate
        )


class CertifiedChain:
    """The links from height 1 on. ``sets`` gives the set of an epoch, ``mark`` makes blocks of two chains differ."""

    def __init__(self, heights: int = 0, *, sets: Callable[[int], ValidatorSetRecord] = set_of_epoch) -> None:
        self._sets = sets
        self.genesis = attrs.evolve(make_genesis(make_key("authority"), {}), validators=sets(0))
        self.state_root, self.blobs = initial_state(self.genesis)
        self.links: list[Link] = []
        self.grow(heights)

    def grow(self, heights: int, mark: bytes = b"") -> None:
        """Add so many heights, each decided by three of the four of its set."""
        for _ in range(heights):
            height = len(self.links) + 1
            self.links.append(self.make_link(height, self.set_at(height), self.set_at(height + 1), mark))

    def set_at(self, height: int) -> ValidatorSetRecord:
        """Who decides a height."""
        return self._sets((height - 1) // EPOCH_HEIGHTS)

    def make_link(
        self, height: int, current: ValidatorSetRecord, coming: ValidatorSetRecord, mark: bytes = b""
    ) -> Link:
        """A block on the links below, certified by ``current``, whoever should decide there."""
        below = self.links[height - 2].data if 2 <= height <= len(self.links) + 1 else b""
        header = WorldBlock(
            world_id=self.genesis.world_id, height=U64(height), slot=U64(height), round=U32(0),
            epoch=U64(height // EPOCH_HEIGHTS), prev_block_hash=hash32(below) if below else self.genesis_hash,
            proposer_id=current.validators[0].validator_id, timestamp_ms=TimeMs(self.genesis.genesis_time_ms + height),
            validators_hash=ValidatorSet(current).hash, next_validators_hash=ValidatorSet(coming).hash,
            action_root=cid_of(mark), event_root=hash32(mark), receipts_root=cid_of(b""), journal_ref=cid_of(b""),
            state_root=self.state_root, lease_term=U64(0),
        )  # fmt: skip
        data = record.to_bytes(header)
        signers = [entry.validator_id for entry in current.validators][1:] or [current.validators[0].validator_id]
        return Link(header, data, make_certificate(self.genesis, data, height, signers), coming)

    def branch(self, height: int, heights: int, mark: bytes) -> CertifiedChain:
        """Another chain that shares the heights up to and with ``height`` and then has so many of its own."""
        other = CertifiedChain(sets=self._sets)
        other.links = self.links[:height]
        other.grow(heights, mark)
        return other

    @property
    def genesis_hash(self) -> Hash32:
        """Hash of the world's genesis."""
        return genesis_hash(self.genesis)

    @property
    def tip(self) -> Link:
        """The last link."""
        return self.links[-1]

    def boundaries(self, from_height: int, count_max: int) -> list[EpochBoundary]:
        """As ``Ledger.boundaries``."""
        found = [link for link in self.links if link.header.height >= from_height]
        changing = [link for link in found if link.header.next_validators_hash != link.header.validators_hash]
        return [link.boundary for link in changing[:count_max]]


class ChainPeer:
    """A peer that serves a chain as nodes do; its attributes can be set to lies."""

    def __init__(self, chain: CertifiedChain) -> None:
        self.chain = chain
        self.asked: list[str] = []
        """Methods in the order of the requests."""
        self.head: Callable[[], CertifiedHead] = self._head
        self.block: Callable[[int], Link | None] = self._link
        self.boundaries: Callable[[int, int], Sequence[EpochBoundary]] = lambda *asked: self.chain.boundaries(*asked)
        self.blob: Callable[[ContentHash], bytes | None] = lambda content: self.chain.blobs.get(content)

    def _head(self) -> CertifiedHead:
        if not self.chain.links:
            return CertifiedHead(head=genesis_head(self.chain.genesis), block=b"", certificate=b"")
        return self.chain.tip.certified

    def _link(self, height: int) -> Link | None:
        return self.chain.links[height - 1] if 1 <= height <= len(self.chain.links) else None

    def hello(self) -> Hello:
        """What it says of itself."""
        genesis = self.chain.genesis
        return Hello(
            versions=PROTOCOL_VERSIONS, world_id=genesis.world_id, genesis_hash=self.chain.genesis_hash,
            role=Role.OBSERVER, validator=None, listen=(), head=genesis_head(genesis), peers=(),
        )  # fmt: skip

    def serve(self, network: DistributedNetwork) -> None:
        """Answer requests on this network."""
        world_id = self.chain.genesis.world_id
        hello = HelloHandler(self.hello, lambda _peer, _hello: None)
        membership = MembershipHandler(world_id, lambda *asked: self.boundaries(*asked))
        methods = {
            rpc.HELLO: hello.serve,
            rpc.GET_WORLD_HEAD: self._serve_head,
            rpc.GET_BLOCK: self._serve_block,
            rpc.GET_BOUNDARIES: membership.serve_boundaries,
            rpc.FETCH_BLOB: self._serve_blob,
        }
        for method, handler in methods.items():
            network.serve(method, handler)

    async def _serve_head(self, _peer: PeerId, _data: bytes) -> bytes:
        self.asked.append(rpc.GET_WORLD_HEAD)
        return record.to_bytes(self.head())

    async def _serve_block(self, _peer: PeerId, data: bytes) -> bytes:
        self.asked.append(rpc.GET_BLOCK)
        found = self.block(record.from_bytes(GetBlockRequest, data, size_max=HEADER_BYTES_MAX).height)
        if found is None:
            raise Refused(ErrorCode.NOT_FOUND, "not committed here", rule="B5")
        return record.to_bytes(BlockBundle(block=found.data, certificate=found.certificate, actions=()))

    async def _serve_blob(self, _peer: PeerId, data: bytes) -> bytes:
        content = record.from_bytes(FetchBlobRequest, data, size_max=HEADER_BYTES_MAX).content_hash
        found = self.blob(content)
        if found is None:
            raise Refused(ErrorCode.NOT_FOUND, "not here", rule="L1")
        return record.to_bytes(FetchBlobResponse(content_hash=content, blob=found))

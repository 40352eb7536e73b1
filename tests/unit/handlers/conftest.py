from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from agent_world.consensus.light import OtherSet
from agent_world.crypto.hashing import cid_of, hash32
from agent_world.errors import BlobHashMismatch, RemoteError
from agent_world.wire import record
from agent_world.wire.block import BlockBundle, Outcome, Receipt, WorldBlock
from agent_world.wire.cid import ContentHash
from agent_world.wire.head import CertifiedHead, WorldHead
from agent_world.wire.ids import (
    U32,
    U64,
    ActorId,
    Hash32,
    Label,
    PeerId,
    PublicKey,
    TimeMs,
    ValidatorId,
    WorldId,
    peer_id_of,
)

WORLD = WorldId("w")
GENESIS = hash32(b"genesis")
CERTIFICATE = b"good certificate"
OTHER_SET_FROM = 90
"""Above this height a set decides that is not proved here."""
PEER = peer_id_of(PublicKey(bytes([7]) * 32))
ACTOR = ActorId("a" * 32)
ACTION_ID = hash32(b"an action")


def block(height: int, *, world: WorldId = WORLD) -> WorldBlock:
    link = cid_of(b"link %d" % height)
    return WorldBlock(
        world_id=world, height=U64(height), slot=U64(height), round=U32(0), epoch=U64(0),
        prev_block_hash=hash32(b"parent"), proposer_id=ValidatorId("v1"), timestamp_ms=TimeMs(height * 1000),
        validators_hash=hash32(b"set"), next_validators_hash=hash32(b"set"), action_root=link,
        event_root=hash32(b"events"), receipts_root=link, journal_ref=link, state_root=link,
        lease_term=U64(0),
    )  # fmt: skip


def head(height: int, *, certificate: bytes = CERTIFICATE, world: WorldId = WORLD) -> CertifiedHead:
    data = record.to_bytes(block(height, world=world))
    return CertifiedHead(
        head=WorldHead(
            world_id=world, height=U64(height), block_hash=hash32(data), state_root=block(height).state_root,
            timestamp_ms=TimeMs(height * 1000),
        ),
        block=data,
        certificate=certificate,
    )  # fmt: skip


@attrs.define
class FakeChain:
    """A chain of made up blocks; only CERTIFICATE certifies anything."""

    height: int = 3
    world_id: WorldId = WORLD
    genesis_hash: Hash32 = GENESIS
    body_bytes: int = 10
    certified: list[int] = attrs.Factory(list)

    def certified_head(self) -> CertifiedHead:
        return head(self.height)

    def bundle(self, height: int) -> BlockBundle | None:
        if not 1 <= height <= self.height:
            return None
        return BlockBundle(
            block=record.to_bytes(block(height)), certificate=CERTIFICATE, actions=(bytes(self.body_bytes),)
        )

    def receipt(self, action_id: Hash32) -> tuple[U64, Receipt] | None:
        if action_id != ACTION_ID:
            return None
        receipt = Receipt(
            action_id=action_id, outcome=Outcome.APPLIED, code=Label("ok"), from_event_id=U64(1), event_count=U32(1)
        )
        return U64(2), receipt

    def next_nonce(self, actor_id: ActorId) -> int | None:
        return 5 if actor_id == ACTOR else None

    def check_head(self, block: bytes, certificate: bytes, height: int) -> None:
        self.certified.append(height)
        if height > OTHER_SET_FROM:
            raise OtherSet("G4", "another set")
        if certificate != CERTIFICATE:
            raise RemoteError("C1", "no certificate")


@attrs.define
class FakeBlobs:
    """Blobs by hash; those in ``damaged`` do not verify."""

    held: dict[ContentHash, bytes] = attrs.Factory(dict)
    damaged: set[ContentHash] = attrs.Factory(set)

    def find_blobs(self, hashes: Sequence[ContentHash]) -> list[bytes | None]:
        for item in hashes:
            if item in self.damaged:
                raise BlobHashMismatch(item.hex())
        return [self.held.get(item) for item in hashes]


@pytest.fixture
def chain() -> FakeChain:
    return FakeChain()


@pytest.fixture
def blobs() -> FakeBlobs:
    return FakeBlobs()


@pytest.fixture
def peer() -> PeerId:
    return PEER


@pytest.fixture(name="head")
def head_fixture() -> object:
    return head

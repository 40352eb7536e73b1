"""A world without consensus for the tests of this folder: genesis, signed actions, committed blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from agent_world.crypto.hashing import actor_id_of
from agent_world.crypto.keys import KeyPair
from agent_world.errors import BlobNotFound
from agent_world.wire.action import GrantResource, RegisterAgent
from agent_world.wire.cid import ContentHash
from agent_world.wire.consensus import ValidatorEntry, ValidatorSetRecord
from agent_world.wire.genesis import Genesis, WorldParams
from agent_world.wire.head import WorldHead
from agent_world.wire.ids import U32, U64, ActorId, Hash32, Name, TimeMs, ValidatorId, WorldId
from agent_world.world.admission import SignedAction, build_action, open_action
from agent_world.world.block import SealedBlock, Seat, assemble_block
from agent_world.world.genesis import genesis_hash, genesis_head, initial_state
from agent_world.world.kernel import BlockContext, Execution, execute_block
from agent_world.world.records import ACTORS
from agent_world.world.state import WorldState

WORLD_ID = WorldId("w.test")
GENESIS_TIME = TimeMs(1_000_000)
SPEED_CM_PER_S = 500
STORAGE_QUOTA = 10_000


def key(number: int) -> KeyPair:
    return KeyPair(number.to_bytes(32, "big"))


AUTHORITY = key(1)


def validator_key(number: int) -> KeyPair:
    """Key of validator ``v<number>``, whose stake is 10 times its number."""
    return key(900 + number)


def small_genesis(*, epoch_length_slots: int = 32, slash_equivocation: bool = True) -> Genesis:
    members = tuple(
        ValidatorEntry(
            validator_id=ValidatorId(f"v{number}"),
            public_key=validator_key(number).public_key,
            stake=U64(10 * number),
        )
        for number in range(1, 5)
    )
    return Genesis(
        world_id=WORLD_ID,
        genesis_time_ms=GENESIS_TIME,
        authority=AUTHORITY.public_key,
        epoch_length_slots=U64(epoch_length_slots),
        slash_equivocation=slash_equivocation,
        validators=ValidatorSetRecord(
            validators=members, supermajority_numerator=U64(2), supermajority_denominator=U64(3)
        ),
        params=WorldParams(move_speed_max_cm_per_s=U64(SPEED_CM_PER_S), actor_storage_quota_bytes=U64(STORAGE_QUOTA)),
    )


class Blobs(dict[ContentHash, bytes]):
    """A blob store in memory that counts what is read."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.reads: list[ContentHash] = []

    def __call__(self, content_hash: ContentHash) -> bytes:
        self.reads.append(content_hash)
        if content_hash not in self:
            raise BlobNotFound(content_hash.hex())
        return self[content_hash]


@attrs.define
class SmallWorld:
    """A world without consensus: signs actions with the right nonces and commits blocks of them."""

    genesis: Genesis
    blobs: Blobs
    head: WorldHead
    nonces: dict[bytes, int] = attrs.field(factory=dict)
    sealed: list[SealedBlock] = attrs.field(factory=list)

    @property
    def genesis_hash(self) -> Hash32:
        return genesis_hash(self.genesis)

    @property
    def state(self) -> WorldState:
        return WorldState(self.head.state_root, self.blobs)

    def sign(self, signer: KeyPair, payload: object, *, nonce: int | None = None) -> SignedAction:
        """An action with the signer's next nonce; ``commit`` is what advances the nonces of the world."""
        if nonce is None:
            nonce = self.nonces.get(signer.public_key, 0) + 1
            self.nonces[signer.public_key] = nonce
        data = build_action(signer, self.genesis_hash, WORLD_ID, payload, nonce=nonce, timestamp_ms=5)
        return open_action(data, WORLD_ID, self.genesis_hash)

    def context(self, *, after_ms: int = 1_000) -> BlockContext:
        return BlockContext(
            world_id=WORLD_ID,
            height=U64(self.head.height + 1),
            slot=U64(self.head.height + 1),
            timestamp_ms=TimeMs(self.head.timestamp_ms + after_ms),
        )

    def execute(self, actions: Sequence[SignedAction], *, after_ms: int = 1_000) -> Execution:
        return execute_block(self.state, self.context(after_ms=after_ms), actions)

    def seal(self, actions: Sequence[SignedAction], *, after_ms: int = 1_000) -> SealedBlock:
        seat = Seat(round=U32(0), epoch=U64(0), proposer_id=ValidatorId("v1"))
        return assemble_block(self.head, seat, actions, self.execute(actions, after_ms=after_ms))

    def commit(self, *actions: SignedAction, after_ms: int = 1_000) -> SealedBlock:
        sealed = self.seal(actions, after_ms=after_ms)
        self.blobs.update(sealed.blobs)
        self.head = sealed.head
        self.sealed.append(sealed)
        return sealed

    def do(self, signer: KeyPair, payload: object, *, after_ms: int = 1_000) -> str:
        """Commit one action and return the code of its receipt."""
        return self.commit(self.sign(signer, payload), after_ms=after_ms).execution.receipts[0].code

    def join(self, newcomer: KeyPair, *, quota: int = 0, gold: int = 0) -> ActorId:
        """Register an agent through the authority, with some gold."""
        actor_id = actor_id_of(newcomer.public_key)
        register = RegisterAgent(name=Name("agent"), public_key=newcomer.public_key, registration_quota=U64(quota))
        assert self.do(AUTHORITY, register) == "ok"
        if gold:
            grant = GrantResource(resource=Name("gold"), to_actor_id=actor_id, amount=U64(gold))
            assert self.do(AUTHORITY, grant) == "ok"
        return actor_id

    def nonce_of(self, signer: KeyPair) -> int:
        found = self.state.get(ACTORS, actor_id_of(signer.public_key))
        assert found is not None
        return found.nonce


def open_world(genesis: Genesis) -> SmallWorld:
    """A world at its genesis."""
    return SmallWorld(genesis, Blobs(initial_state(genesis)[1]), genesis_head(genesis))

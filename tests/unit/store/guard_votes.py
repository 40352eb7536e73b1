"""Votes for the guard's tests, and guards opened as a node opens them."""

from __future__ import annotations

from agent_world.consensus.guard import GuardState
from agent_world.consensus.guard_records import Lock, SignRequest
from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.store.guard import GuardStore
from agent_world.store.home import Home
from agent_world.wire import record
from agent_world.wire.consensus import Step, Vote
from agent_world.wire.ids import U32, U64, WorldId

GENESIS = hash32(b"genesis")
KEY = KeyPair(bytes(range(32, 64)))
BLOCK, OTHER = hash32(b"block"), hash32(b"other block")


def vote(height: int, round_: int = 0, step: Step = Step.PREVOTE, block: bytes | None = BLOCK) -> SignRequest:
    """A request for a vote; a precommit for a block locks it."""
    body = Vote(world_id=WorldId("w"), height=U64(height), round=U32(round_), step=step, block_hash=block)  # type: ignore[arg-type]
    lock = Lock(round=U32(round_), block_hash=block) if step is Step.PRECOMMIT and block is not None else None  # type: ignore[arg-type]
    return SignRequest(
        height=height, round=U32(round_), step=step, body=record.to_bytes(body), block_hash=block, lock=lock, valid=None  # type: ignore[arg-type]
    )  # fmt: skip


def opened(home: Home, **options: object) -> GuardStore:
    return GuardStore.open(home, KEY, **{"committed_height": 0, **options})  # type: ignore[arg-type]


def reopened(home: Home, *requests: SignRequest, **options: object) -> GuardState:
    """The state after a restart; ``requests`` are signed before it."""
    with opened(home, **options) as store:
        for request in requests:
            store.permit(request)
    with opened(home, **options) as store:
        return store.load()

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_engine import NAMES, actions_of, block_of, vote_bytes

from agent_world.consensus.guard_records import GUARD_RECORD_BYTES_MAX, GuardEntry, GuardRecord, Lock, ValidValue
from agent_world.crypto.hashing import hash32
from agent_world.errors import DataError
from agent_world.wire.cid import ContentHash
from agent_world.wire.consensus import Step
from agent_world.wire.ids import U32, U64
from agent_world.wire.limits import (
    BLOCK_ACTIONS_MAX,
    HEADER_BYTES_MAX,
    PROPOSAL_BYTES_MAX,
    VALIDATORS_MAX,
    VOTE_BYTES_MAX,
)

BLOCK = block_of(0)
RECORD = GuardRecord(
    sequence=U64(7),
    sign_floor=U64(0),
    entry=GuardEntry(height=U64(1), round=U32(2), step=Step.PRECOMMIT, signed=b"signed"),
    lock=Lock(round=U32(2), block_hash=hash32(BLOCK)),
    valid=ValidValue(
        round=U32(2),
        block_hash=hash32(BLOCK),
        block=BLOCK,
        actions=actions_of(),
        proof=(vote_bytes(NAMES[0], Step.PREVOTE, 2, hash32(BLOCK)),),
    ),
)


def test_round_trip() -> None:
    assert GuardRecord.from_bytes(RECORD.to_bytes()) == RECORD
    bare = GuardRecord(sequence=U64(1), sign_floor=U64(4), entry=None, lock=None, valid=None)
    assert GuardRecord.from_bytes(bare.to_bytes()) == bare


@settings(deadline=None, max_examples=100)
@given(st.integers(0, len(RECORD.to_bytes()) - 1))
def test_a_record_cut_short_is_damage(length: int) -> None:
    with pytest.raises(DataError):
        GuardRecord.from_bytes(RECORD.to_bytes()[:length])


def test_the_largest_record_fits() -> None:
    largest = GuardRecord(
        sequence=U64(2**64 - 1),
        sign_floor=U64(2**64 - 1),
        entry=GuardEntry(
            height=U64(2**64 - 1), round=U32(2**32 - 1), step=Step.PRECOMMIT, signed=bytes(PROPOSAL_BYTES_MAX)
        ),
        lock=Lock(round=U32(2**32 - 1), block_hash=hash32(b"")),
        valid=ValidValue(
            round=U32(2**32 - 1),
            block_hash=hash32(b""),
            block=bytes(HEADER_BYTES_MAX),
            actions=tuple(ContentHash(hash32(bytes([n % 256, n // 256]))) for n in range(BLOCK_ACTIONS_MAX)),
            proof=tuple(bytes(VOTE_BYTES_MAX) for _ in range(VALIDATORS_MAX)),
        ),
    )
    data = largest.to_bytes()
    assert len(data) <= GUARD_RECORD_BYTES_MAX
    assert GuardRecord.from_bytes(data) == largest

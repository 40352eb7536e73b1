"""Ten epochs with another set in each, followed by certificates alone; and what a liar could hand over."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import pytest

from agent_world.consensus.certificate import build_certificate
from agent_world.consensus.light import OtherSet, TrustedHead, check_head, cross, follow, start_of, trust_block
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import cid_of, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, sign
from agent_world.errors import RemoteError
from agent_world.wire import record
from agent_world.wire.block import WorldBlock
from agent_world.wire.consensus import Step, ValidatorEntry, ValidatorSetRecord, Vote, VoteSignature
from agent_world.wire.ids import U32, U64, TimeMs, ValidatorId, WorldId
from agent_world.wire.membership import EpochBoundary

WORLD = WorldId("w")
GENESIS = hash32(b"genesis")
EPOCH = 3
"""Heights of one epoch."""


def key(name: str) -> KeyPair:
    return KeyPair(hash32(name.encode()))


def set_of(*names: str, numerator: int = 2) -> ValidatorSetRecord:
    entries = tuple(
        ValidatorEntry(validator_id=ValidatorId(name), public_key=key(name).public_key, stake=U64(10))
        for name in sorted(names)
    )
    return ValidatorSetRecord(
        validators=entries, supermajority_numerator=U64(numerator), supermajority_denominator=U64(3)
    )


SETS = [set_of(*(f"v{number + index}" for index in range(4))) for number in range(12)]
"""Every epoch one leaves and one joins."""


def certificate(block: bytes, height: int, signers: Sequence[str]) -> bytes:
    vote = Vote(world_id=WORLD, height=U64(height), round=U32(0), step=Step.PRECOMMIT, block_hash=hash32(block))
    body = record.to_bytes(vote)
    signed = [sign(Domain.VOTE, GENESIS, body, key(name)) for name in signers]
    return build_certificate(body, [VoteSignature(key=one.key, sig=one.sig) for one in signed])


@attrs.frozen
class Height:
    block: bytes
    certificate: bytes
    coming: ValidatorSetRecord
    changes: bool


def chain(heights: int) -> list[Height]:
    made = []
    parent = GENESIS
    for height in range(1, heights + 1):
        current, coming = SETS[(height - 1) // EPOCH], SETS[height // EPOCH]
        block = record.to_bytes(
            WorldBlock(
                world_id=WORLD, height=U64(height), slot=U64(height), round=U32(0), epoch=U64(height // EPOCH),
                prev_block_hash=parent, proposer_id=ValidatorId("v1"), timestamp_ms=TimeMs(height),
                validators_hash=ValidatorSet(current).hash, next_validators_hash=ValidatorSet(coming).hash,
                action_root=cid_of(b""), event_root=hash32(b""), receipts_root=cid_of(b""), journal_ref=cid_of(b""),
                state_root=cid_of(b""), lease_term=U64(0),
            )
        )  # fmt: skip
        signers = [entry.validator_id for entry in current.validators][1:]
        made.append(Height(block, certificate(block, height, signers), coming, current != coming))
        parent = hash32(block)
    return made


CHAIN = chain(10 * EPOCH + 2)


def boundary(height: int) -> EpochBoundary:
    found = CHAIN[height - 1]
    return EpochBoundary(block=found.block, certificate=found.certificate, validators=record.to_bytes(found.coming))


def start() -> TrustedHead:
    return start_of(WORLD, GENESIS, ValidatorSet(SETS[0]))


def test_height_by_height_from_genesis_to_the_tip_through_ten_epochs() -> None:
    trusted = start()
    for number, found in enumerate(CHAIN, 1):
        step = cross(trusted, boundary(number)) if found.changes else follow(trusted, found.block, found.certificate)
        assert (step.height, step.block_hash) == (number, hash32(found.block))
        trusted = step
    assert trusted.height == 10 * EPOCH + 2


def test_from_boundary_to_boundary_and_then_the_tip() -> None:
    trusted = start()
    for height in range(EPOCH, 10 * EPOCH + 1, EPOCH):
        trusted = cross(trusted, boundary(height))
    tip = CHAIN[-1]
    assert check_head(trusted, tip.block, tip.certificate).height == len(CHAIN)


def test_from_a_block_that_somebody_vouched_for() -> None:
    trusted = trust_block(WORLD, GENESIS, boundary(5), hash32(CHAIN[4].block))
    assert (trusted.height, trusted.validators.record) == (5, SETS[1])
    assert cross(trusted, boundary(6)).validators.record == SETS[2]
    with pytest.raises(RemoteError) as caught:
        trust_block(WORLD, GENESIS, boundary(5), hash32(b"another"))
    assert caught.value.rule == "G3"


def test_a_head_of_a_later_set_needs_the_boundary_first() -> None:
    later = CHAIN[EPOCH]
    with pytest.raises(OtherSet):
        check_head(start(), later.block, later.certificate)
    with pytest.raises(OtherSet):
        follow(start(), CHAIN[EPOCH - 1].block, CHAIN[EPOCH - 1].certificate)
    assert check_head(cross(start(), boundary(EPOCH)), later.block, later.certificate).height == EPOCH + 1


def changed(height: int, **fields: object) -> bytes:
    found = record.from_bytes(WorldBlock, CHAIN[height - 1].block, size_max=9_999)
    return record.to_bytes(attrs.evolve(found, **fields))


FORGED = changed(2, prev_block_hash=hash32(b"x"))
OTHER_PARENT = changed(1, prev_block_hash=hash32(b"x"))
OTHER_NEXT = changed(2, next_validators_hash=ValidatorSet(set_of("evil")).hash)


@pytest.mark.parametrize(("rule", "attempt"), [
    ("G2", lambda: check_head(start(), b"\xa0", b"")),
    ("G2", lambda: cross(start(), attrs.evolve(boundary(EPOCH), validators=b"\xa0"))),
    ("G3", lambda: check_head(attrs.evolve(start(), world_id=WorldId("w2")), CHAIN[0].block, CHAIN[0].certificate)),
    ("G3", lambda: check_head(attrs.evolve(start(), height=1), CHAIN[0].block, CHAIN[0].certificate)),
    ("G3", lambda: check_head(attrs.evolve(start(), slot=9), CHAIN[0].block, CHAIN[0].certificate)),
    ("G6", lambda: check_head(start(), OTHER_PARENT, certificate(OTHER_PARENT, 1, ["v0", "v1", "v2"]))),
    ("C5", lambda: check_head(start(), FORGED, CHAIN[1].certificate)),
    ("C9", lambda: check_head(start(), FORGED, certificate(FORGED, 2, ["v0", "v1"]))),
    ("C7", lambda: check_head(start(), FORGED, certificate(FORGED, 2, ["v0", "v1", "v4"]))),
    ("G5", lambda: cross(start(), attrs.evolve(boundary(EPOCH), validators=record.to_bytes(SETS[3])))),
    ("G5", lambda: cross(start(), EpochBoundary(
        block=OTHER_NEXT, certificate=certificate(OTHER_NEXT, 2, ["v0", "v1", "v2"]),
        validators=record.to_bytes(SETS[1])))),
    ("G5", lambda: cross(start(), attrs.evolve(
        boundary(EPOCH), validators=record.to_bytes(set_of("v1", numerator=1))))),
    ("G7", lambda: cross(start(), boundary(1))),
])  # fmt: skip
def test_what_a_liar_hands_over_is_refused(rule: str, attempt: Callable[[], object]) -> None:
    with pytest.raises(RemoteError) as caught:
        attempt()
    assert caught.value.rule == rule

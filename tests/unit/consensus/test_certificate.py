from __future__ import annotations

import attrs
import pytest
from one_engine import KEYS, NAMES, WORLD, block_of, vote_bytes

from agent_world.consensus.certificate import build_certificate, verify_certificate
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import hash32
from agent_world.errors import RemoteError
from agent_world.testing.toy_world import WORLD_ID, validator_set
from agent_world.wire import record
from agent_world.wire.consensus import CommitCertificate, Step, VoteSignature
from agent_world.wire.ids import Hash32, ValidatorId, WorldId
from agent_world.wire.limits import CERTIFICATE_BYTES_MAX
from agent_world.wire.signed import Signed

BLOCK_HASH = hash32(block_of(0))
SET = WORLD.sets[0]


def signed(who: ValidatorId, step: Step = Step.PRECOMMIT, choice: Hash32 | None = BLOCK_HASH) -> Signed:
    return record.from_bytes(Signed, vote_bytes(who, step, 2, choice, height=5), size_max=1_024)


def certificate(names: list[ValidatorId], step: Step = Step.PRECOMMIT, choice: Hash32 | None = BLOCK_HASH) -> bytes:
    votes = [signed(name, step, choice) for name in names]
    return build_certificate(votes[0].body, [VoteSignature(key=vote.key, sig=vote.sig) for vote in votes])


def verify(data: bytes, validators: ValidatorSet = SET, **other: object) -> None:
    told = {"world_id": WORLD_ID, "genesis_hash": WORLD.genesis_hash, "height": 5, "block_hash": BLOCK_HASH, **other}
    verify_certificate(
        data,
        told["world_id"],  # type: ignore[arg-type]
        told["genesis_hash"],  # type: ignore[arg-type]
        validators,
        height=told["height"],  # type: ignore[arg-type]
        block_hash=told["block_hash"],  # type: ignore[arg-type]
    )


def refused(data: bytes, validators: ValidatorSet = SET, **other: object) -> str:
    with pytest.raises(RemoteError) as error:
        verify(data, validators, **other)
    return error.value.rule


def changed(data: bytes, **fields: object) -> bytes:
    decoded = record.from_bytes(CommitCertificate, data, size_max=CERTIFICATE_BYTES_MAX)
    return record.to_bytes(attrs.evolve(decoded, **fields))  # type: ignore[arg-type]


def test_it_proves_the_block() -> None:
    for names in (NAMES, NAMES[:3], [NAMES[3], NAMES[0], NAMES[2]]):
        verify(certificate(names))


def test_the_order_of_the_votes_and_repeats_do_not_matter() -> None:
    assert certificate(NAMES[:3]) == certificate([NAMES[2], NAMES[0], NAMES[1], NAMES[0]])


def test_each_rule() -> None:
    good = certificate(NAMES)
    decoded = record.from_bytes(CommitCertificate, good, size_max=CERTIFICATE_BYTES_MAX)
    assert refused(good + b"\x00") == "C1"
    assert refused(bytes(CERTIFICATE_BYTES_MAX + 1)) == "C1"
    assert refused(changed(good, body=b"\xa0")) == "C1"
    assert refused(certificate(NAMES, Step.PREVOTE)) == "C2"
    assert refused(good, world_id=WorldId("other")) == "C3"
    assert refused(good, height=6) == "C4"
    assert refused(good, block_hash=hash32(b"other")) == "C5"
    assert refused(certificate(NAMES, choice=None)) == "C5"
    assert refused(changed(good, signatures=decoded.signatures[::-1])) == "C6"
    twice = tuple(sorted((*decoded.signatures[:2], *decoded.signatures[:2]), key=lambda item: item.key))
    assert refused(changed(good, signatures=twice)) == "C6"
    without_last = validator_set(dict.fromkeys(NAMES[:3], 1), KEYS)
    assert refused(good, without_last) == "C7"
    forged = attrs.evolve(decoded.signatures[0], sig=decoded.signatures[1].sig)
    assert refused(changed(good, signatures=(forged, *decoded.signatures[1:]))) == "C8"
    assert refused(good, genesis_hash=hash32(b"another world of this name")) == "C8"
    assert refused(certificate(NAMES[:2])) == "C9"
    assert refused(changed(good, signatures=())) == "C9"


def test_stake_counts_and_not_heads() -> None:
    rich = validator_set(dict(zip(NAMES, (7, 1, 1, 1), strict=True)), KEYS)
    verify(certificate([NAMES[0]]), rich)
    assert refused(certificate(NAMES[1:]), rich) == "C9"

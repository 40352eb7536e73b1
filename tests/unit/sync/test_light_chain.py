from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from agent_world.consensus.certificate import build_certificate
from agent_world.consensus.light import OtherSet, TrustedHead
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import cid_of, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, sign
from agent_world.errors import RemoteError
from agent_world.sync.light_chain import CROSSED_MAX, LightChain
from agent_world.wire import record
from agent_world.wire.block import WorldBlock
from agent_world.wire.consensus import Step, ValidatorEntry, ValidatorSetRecord, Vote, VoteSignature
from agent_world.wire.ids import U32, U64, TimeMs, ValidatorId, WorldId
from agent_world.wire.membership import EpochBoundary

WORLD = WorldId("w")
GENESIS = hash32(b"genesis")


def key(number: int) -> KeyPair:
    return KeyPair(hash32(b"validator %d" % number))


def only(number: int) -> ValidatorSetRecord:
    """The set of epoch ``number``: one validator."""
    entry = ValidatorEntry(validator_id=ValidatorId(f"v{number}"), public_key=key(number).public_key, stake=U64(1))
    return ValidatorSetRecord(validators=(entry,), supermajority_numerator=U64(2), supermajority_denominator=U64(3))


def block(height: int, current: int, coming: int) -> bytes:
    link = cid_of(b"")
    return record.to_bytes(
        WorldBlock(
            world_id=WORLD, height=U64(height), slot=U64(height), round=U32(0), epoch=U64(current),
            prev_block_hash=hash32(b"%d" % height), proposer_id=ValidatorId("v1"), timestamp_ms=TimeMs(height),
            validators_hash=ValidatorSet(only(current)).hash, next_validators_hash=ValidatorSet(only(coming)).hash,
            action_root=link, event_root=hash32(b""), receipts_root=link, journal_ref=link, state_root=link,
            lease_term=U64(0),
        )
    )  # fmt: skip


def certificate(data: bytes, height: int, signer: int) -> bytes:
    vote = Vote(world_id=WORLD, height=U64(height), round=U32(0), step=Step.PRECOMMIT, block_hash=hash32(data))
    signed = sign(Domain.VOTE, GENESIS, record.to_bytes(vote), key(signer))
    return build_certificate(signed.body, [VoteSignature(key=signed.key, sig=signed.sig)])


def boundary(number: int) -> EpochBoundary:
    """Epoch ``number`` ends with height 10 * (number + 1)."""
    height = 10 * (number + 1)
    data = block(height, number, number + 1)
    return EpochBoundary(
        block=data, certificate=certificate(data, height, number), validators=record.to_bytes(only(number + 1))
    )


def own(height: int = 0, epoch: int = 0) -> TrustedHead:
    return TrustedHead(
        world_id=WORLD, genesis_hash=GENESIS, height=height, block_hash=GENESIS, slot=height,
        validators=ValidatorSet(only(epoch)),
    )  # fmt: skip


def check(chain: LightChain, height: int, epoch: int, at: TrustedHead | None = None) -> int:
    data = block(height, epoch, epoch)
    return chain.check_head(at or own(), data, certificate(data, height, epoch), height).height


def crossed(count: int) -> LightChain:
    chain = LightChain()
    assert chain.cross(own(), [boundary(number) for number in range(count)]) == count
    return chain


def test_a_head_of_the_own_set_needs_no_boundary() -> None:
    chain = LightChain()
    assert check(chain, 7, 0) == 7
    assert chain.tip(own()) == own()
    with pytest.raises(OtherSet):
        check(chain, 17, 1)


def test_heads_between_the_boundaries_are_checked_with_the_set_of_their_epoch() -> None:
    chain = crossed(3)
    assert chain.tip(own()).height == 30
    for height, epoch in ((7, 0), (17, 1), (29, 2), (32, 3)):
        assert check(chain, height, epoch) == height
    for height, epoch in ((17, 0), (32, 2), (7, 1)):
        with pytest.raises(OtherSet):
            check(chain, height, epoch)


def test_what_the_own_chain_has_passed_is_forgotten() -> None:
    chain = crossed(3)
    later = own(25, 2)
    assert chain.tip(later).height == 30
    assert check(chain, 29, 2, later) == 29
    assert chain.tip(own(40, 4)) == own(40, 4)


def test_the_first_wrong_boundary_ends_it_and_the_ones_before_stay() -> None:
    chain = LightChain()
    forged = attrs.evolve(boundary(1), validators=record.to_bytes(only(9)))
    offered: Sequence[EpochBoundary] = [boundary(0), forged, boundary(2)]
    with pytest.raises(RemoteError):
        chain.cross(own(), offered)
    assert chain.tip(own()).height == 10
    with pytest.raises(OtherSet):
        chain.cross(own(), [boundary(2)])


def test_the_number_of_boundaries_is_bounded() -> None:
    assert crossed(5).cross(own(), []) == 0
    chain = LightChain()
    assert chain.cross(own(), [boundary(number) for number in range(CROSSED_MAX + 5)]) == CROSSED_MAX


def test_boundaries_that_the_own_chain_has_passed_are_passed_over() -> None:
    chain = LightChain()
    assert chain.cross(own(20, 2), [boundary(0), boundary(1), boundary(2)]) == 1
    assert chain.tip(own(20, 2)).height == 30


def test_at_the_height_of_a_proved_boundary_no_other_block_is_a_head() -> None:
    chain = crossed(2)
    assert chain.check_head(own(), boundary(0).block, boundary(0).certificate, 10).height == 10
    for epoch, height in ((0, 10), (1, 20)):
        other = block(height, epoch, epoch)
        with pytest.raises(RemoteError) as caught:
            chain.check_head(own(), other, certificate(other, height, epoch), height)
        assert caught.value.rule == "G8"


def test_ordinary_blocks_do_not_use_up_the_room_for_boundaries() -> None:
    chain = LightChain()
    data = block(5, 0, 0)
    plain = EpochBoundary(block=data, certificate=certificate(data, 5, 0), validators=record.to_bytes(only(0)))
    with pytest.raises(RemoteError) as caught:
        chain.cross(own(), [plain])
    assert caught.value.rule == "G7"
    assert chain.tip(own()) == own()


def test_where_the_own_chain_has_gone_another_way_the_boundaries_above_are_dropped() -> None:
    same = attrs.evolve(own(10, 1), block_hash=hash32(boundary(0).block))
    assert crossed(3).tip(same).height == 30
    other_block = attrs.evolve(same, block_hash=hash32(b"another block of height 10"))
    assert crossed(3).tip(other_block) == other_block
    assert crossed(3).tip(own(12, 7)) == own(12, 7)

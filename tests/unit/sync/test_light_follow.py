"""Several peers, a path each: what is proved is the chain, whoever lies; two proved blocks of a height are a fork."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.consensus.light import OtherSet, start_of
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import hash32
from agent_world.errors import Ignored, RemoteError
from agent_world.sync import light_follow
from agent_world.sync.light_follow import Fork, LightFollower
from agent_world.testing.certified_chain import (
    EPOCH_HEIGHTS,
    CertifiedChain,
    Link,
    make_certificate,
    set_of,
    set_of_epoch,
)
from agent_world.wire.ids import PeerId
from agent_world.wire.membership import EpochBoundary

A, B = PeerId("a"), PeerId("b")
CHAIN = CertifiedChain(5 * EPOCH_HEIGHTS + 1)
OTHER = CHAIN.branch(EPOCH_HEIGHTS + 1, 4 * EPOCH_HEIGHTS, b"other")
"""Shares the first epoch and a height; its blocks are certified by the right sets too."""
HASHES = {hash32(link.data) for link in CHAIN.links}


def follower(chain: CertifiedChain = CHAIN) -> LightFollower:
    genesis = chain.genesis
    return LightFollower(start_of(genesis.world_id, chain.genesis_hash, ValidatorSet(genesis.validators)))


def link(height: int) -> Link:
    return CHAIN.links[height - 1]


def cross_all(verifier: LightFollower, peer: PeerId, chain: CertifiedChain = CHAIN, below: int = 10**6) -> int:
    found = [made for made in chain.boundaries(1, 100) if light_follow.open_block(made.block).height < below]
    return verifier.cross(peer, found)


def test_five_epochs_and_the_head_above_them() -> None:
    verifier = follower()
    with pytest.raises(OtherSet):
        verifier.prove_head(A, CHAIN.tip.certified)
    assert cross_all(verifier, A) == verifier.sets_crossed(A) == 5
    assert verifier.tip(A).height == 5 * EPOCH_HEIGHTS
    proved = verifier.prove_head(A, CHAIN.tip.certified)
    assert proved is not None
    assert (proved.block, proved.validators.record) == (CHAIN.tip.header, set_of_epoch(5))
    assert (proved.signed_stake, proved.signers) == (300, ("v6", "v7", "v8"))
    assert not proved.is_boundary
    assert verifier.accept(proved)
    assert not verifier.accept(proved)
    assert verifier.head == proved


def test_heights_between_the_boundaries_are_proved_by_the_set_of_their_epoch() -> None:
    verifier = follower()
    cross_all(verifier, A)
    for made in CHAIN.links:
        assert verifier.prove(A, made.data, made.certificate).block == made.header


def test_one_peers_path_says_nothing_of_another_peers() -> None:
    verifier = follower()
    cross_all(verifier, A)
    assert verifier.tip(B) == verifier.start
    with pytest.raises(OtherSet):
        verifier.prove_head(B, CHAIN.tip.certified)


def test_a_removed_set_proves_nothing_once_its_successor_is_known() -> None:
    verifier = follower()
    cross_all(verifier, A)
    height = len(CHAIN.links) + 9
    forged = CHAIN.make_link(height, set_of_epoch(0), set_of_epoch(0), b"forged")
    with pytest.raises(OtherSet):
        verifier.prove_head(A, forged.certified)


def test_a_removed_set_is_found_out_by_comparing() -> None:
    """Keys of a set that has left can certify whatever they like to who does not know that it has left."""
    verifier = follower()
    forged = CHAIN.make_link(900, set_of_epoch(0), set_of_epoch(0), b"forged")
    assert verifier.prove_head(B, forged.certified) is not None
    cross_all(verifier, A)
    assert verifier.prove_head(A, CHAIN.tip.certified) is not None
    # Asked for the block of the other's head it has the true one, which another set has decided, or a forged one.
    with pytest.raises(OtherSet):
        verifier.prove(B, CHAIN.tip.data, CHAIN.tip.certificate)
    lower = CHAIN.make_link(len(CHAIN.links), set_of_epoch(0), set_of_epoch(0), b"forged")
    with pytest.raises(Fork):
        verifier.prove(B, lower.data, lower.certificate)


def test_two_peers_with_certified_heads_of_one_height() -> None:
    verifier = follower()
    cross_all(verifier, A)
    assert verifier.prove_head(A, CHAIN.tip.certified) is not None
    with pytest.raises(Fork) as caught:
        cross_all(verifier, B, OTHER)
    fork = caught.value
    assert (fork.exit_code, fork.height, fork.first.peer, fork.second.peer) == (79, 2 * EPOCH_HEIGHTS, A, B)
    assert fork.first.block_hash != fork.second.block_hash
    assert "signed by both: v2, v3, v4" in str(fork)
    assert verifier.sets_crossed(B) == 1, "what contradicts is not crossed"


def test_one_peer_that_shows_two_blocks_of_one_height() -> None:
    verifier = follower()
    cross_all(verifier, A, below=2 * EPOCH_HEIGHTS)
    verifier.prove(A, link(5).data, link(5).certificate)
    with pytest.raises(Fork):
        verifier.prove(A, OTHER.links[4].data, OTHER.links[4].certificate)


def test_a_head_at_a_boundary_that_is_another_block() -> None:
    verifier = follower()
    cross_all(verifier, A)
    with pytest.raises(Fork):
        verifier.prove(A, OTHER.links[2 * EPOCH_HEIGHTS - 1].data, OTHER.links[2 * EPOCH_HEIGHTS - 1].certificate)


def test_a_head_that_ends_an_epoch_has_a_successor_once_its_boundary_is_crossed() -> None:
    verifier = follower()
    proved = verifier.prove_head(A, link(EPOCH_HEIGHTS).certified)
    assert proved is not None
    assert proved.is_boundary
    assert verifier.successor(proved) is None
    verifier.cross(A, [link(EPOCH_HEIGHTS).boundary])
    successor = verifier.successor(proved)
    assert successor is not None
    assert successor.record == set_of_epoch(1)
    plain = verifier.prove_head(A, link(EPOCH_HEIGHTS + 1).certified)
    assert plain is not None
    assert verifier.successor(plain) == successor


def test_a_lower_head_than_before_is_ignored_and_moves_nothing() -> None:
    verifier = follower()
    second = verifier.prove_head(A, link(2).certified)
    assert second is not None
    verifier.accept(second)
    with pytest.raises(Ignored) as caught:
        verifier.prove_head(A, link(1).certified)
    assert caught.value.rule == "H4"
    first = verifier.prove_head(B, link(1).certified)
    assert first is not None
    assert not verifier.accept(first)
    assert verifier.head == second


def test_what_is_not_above_the_trusted_head_proves_nothing() -> None:
    verifier = follower()
    cross_all(verifier, A)
    proved = verifier.prove(A, link(5).data, link(5).certificate)
    later = LightFollower(attrs.evolve(verifier.start, height=5, slot=5, block_hash=proved.block_hash))
    assert later.prove_head(A, link(4).certified) is None
    assert later.prove_head(A, link(5).certified) is None
    with pytest.raises(RemoteError) as caught:
        later.prove_head(B, OTHER.links[4].certified)
    assert caught.value.rule == "G3"
    with pytest.raises(RemoteError):
        later.prove(A, link(5).data, link(5).certificate)
    assert not later.can_judge(A, 5)
    assert later.can_judge(A, 6)


def test_paths_and_proved_blocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(light_follow, "PATH_HEADS_MAX", 2)
    monkeypatch.setattr(light_follow, "PROVED_MAX", 2)
    verifier = follower()
    assert cross_all(verifier, A) == 5
    assert verifier.prove_head(A, CHAIN.tip.certified) is not None
    assert not verifier.can_judge(A, 4 * EPOCH_HEIGHTS)
    assert verifier.can_judge(A, 4 * EPOCH_HEIGHTS + 1)
    with pytest.raises(RemoteError) as caught:
        verifier.prove(A, link(2).data, link(2).certificate)
    assert caught.value.rule == "G3"


def forged(height: int, change: Callable[[Link], Link]) -> Link:
    return change(link(height))


def few_signers(of: Link) -> Link:
    names = [entry.validator_id for entry in CHAIN.set_at(int(of.header.height)).validators][:2]
    other = CHAIN.make_link(
        int(of.header.height), CHAIN.set_at(int(of.header.height)), CHAIN.set_at(int(of.header.height) + 1), b"few"
    )
    return attrs.evolve(other, certificate=make_certificate(CHAIN.genesis, other.data, int(of.header.height), names))


def strangers(of: Link) -> Link:
    height = int(of.header.height)
    return CHAIN.make_link(height, set_of(["x1", "x2", "x3"]), set_of(["x1", "x2", "x3"]), b"strangers")


def other_certificate(of: Link) -> Link:
    height = int(of.header.height)
    other = CHAIN.make_link(height, CHAIN.set_at(height), CHAIN.set_at(height + 1), b"other block")
    return attrs.evolve(other, certificate=of.certificate)


def other_coming(of: Link) -> Link:
    return attrs.evolve(of, coming=set_of(["x1", "x2", "x3"]))


def honest(of: Link) -> Link:
    return of


SHOWN = st.tuples(
    st.sampled_from((A, B)),
    st.sampled_from(("boundary", "head", "block")),
    st.integers(1, len(CHAIN.links)),
    st.sampled_from((honest, honest, honest, few_signers, strangers, other_certificate, other_coming)),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(SHOWN, max_size=30))
def test_whatever_is_shown_only_the_chain_is_proved(
    shown: list[tuple[PeerId, str, int, Callable[[Link], Link]]],
) -> None:
    verifier = follower()
    for peer, how, height, change in shown:
        made = forged(height, change)
        try:
            if how == "boundary":
                verifier.cross(peer, [made.boundary])
            elif how == "head":
                verifier.prove_head(peer, made.certified)
            else:
                verifier.prove(peer, made.data, made.certificate)
        except (RemoteError, Ignored):
            continue
    tips = [verifier.tip(peer) for peer in (A, B)]
    assert all(tip.block_hash in {*HASHES, CHAIN.genesis_hash} for tip in tips)
    assert all(tip.validators.record == CHAIN.set_at(tip.height + 1) for tip in tips)
    assert all(proved.block_hash in HASHES for proved in verifier._proved.values())


def test_a_boundary_where_no_other_set_takes_over_is_refused() -> None:
    verifier = follower()
    plain = link(1)
    with pytest.raises(RemoteError) as caught:
        verifier.cross(A, [EpochBoundary(block=plain.data, certificate=plain.certificate, validators=b"")])
    assert caught.value.rule == "G7"

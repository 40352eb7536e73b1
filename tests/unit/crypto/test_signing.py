"""crypto/signing.py: a signature holds for one body, one purpose, one world and one key."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, is_valid, require_valid, sign, sign_record
from agent_world.errors import RemoteError
from agent_world.testing.examples import example, key_of
from agent_world.wire import record
from agent_world.wire.consensus import Vote
from agent_world.wire.ids import Hash32, PublicKey, Signature
from agent_world.wire.signed import Signed

GENESIS = hash32(b"genesis")
KEY = key_of("signer")
BODIES = st.binary(max_size=100)
DOMAINS = st.sampled_from(Domain)


@settings(deadline=None, max_examples=50)
@given(BODIES, DOMAINS)
def test_what_was_signed_holds(body: bytes, domain: Domain) -> None:
    signed = sign(domain, GENESIS, body, KEY)
    assert (signed.body, signed.key) == (body, KEY.public_key)
    assert is_valid(domain, GENESIS, signed.body, signed.key, signed.sig)
    require_valid(domain, GENESIS, signed, "A6")


@settings(deadline=None, max_examples=50)
@given(BODIES, DOMAINS, DOMAINS)
def test_it_holds_for_no_other_purpose(body: bytes, domain: Domain, other: Domain) -> None:
    signed = sign(domain, GENESIS, body, KEY)
    assert is_valid(other, GENESIS, body, signed.key, signed.sig) is (domain is other)


@settings(deadline=None, max_examples=50)
@given(BODIES, st.binary(min_size=32, max_size=32))
def test_it_holds_in_no_other_world(body: bytes, other: bytes) -> None:
    signed = sign(Domain.VOTE, GENESIS, body, KEY)
    assert is_valid(Domain.VOTE, Hash32(other), body, signed.key, signed.sig) is (other == GENESIS)


@settings(deadline=None, max_examples=50)
@given(BODIES, BODIES)
def test_it_holds_for_no_other_body(body: bytes, other: bytes) -> None:
    signed = sign(Domain.VOTE, GENESIS, body, KEY)
    assert is_valid(Domain.VOTE, GENESIS, other, signed.key, signed.sig) is (body == other)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 511))
def test_no_bit_of_a_signature_may_change(bit: int) -> None:
    sig = bytearray(sign(Domain.VOTE, GENESIS, b"body", KEY).sig)
    sig[bit // 8] ^= 1 << bit % 8
    assert not is_valid(Domain.VOTE, GENESIS, b"body", KEY.public_key, Signature(bytes(sig)))


@settings(deadline=None, max_examples=200)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_any_key_and_signature_get_an_answer(key: bytes, sig: bytes) -> None:
    """Most such keys are no point of the curve; that is a False, not an exception."""
    assert not is_valid(Domain.VOTE, GENESIS, b"body", PublicKey(key), Signature(sig))


@pytest.mark.parametrize("low", [bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"])
def test_keys_of_small_order_hold_for_nothing(low: bytes) -> None:
    """With such a key one signature would hold for any body."""
    for sig in (bytes(64), b"\x01" + bytes(63), low + bytes(32)):
        assert not is_valid(Domain.VOTE, GENESIS, b"body", PublicKey(low), Signature(sig))


def test_the_signed_bytes_are_tag_genesis_body() -> None:
    signed = sign(Domain.ACTION, GENESIS, b"body", KEY)
    assert signed.sig == KEY.sign(b"aw/action/1\x00" + GENESIS + b"body")


def test_no_tag_is_the_beginning_of_another() -> None:
    tags = [domain.value for domain in Domain]
    assert not [(a, b) for a in tags for b in tags if a is not b and b.startswith(a)]


def test_sign_record_encodes_the_body_once() -> None:
    vote = example(Vote, "typical")
    signed = record.from_bytes(Signed, sign_record(Domain.VOTE, GENESIS, vote, KEY), size_max=1024)
    assert signed.body == record.to_bytes(vote)
    require_valid(Domain.VOTE, GENESIS, signed, "V6")


def test_what_does_not_hold_is_raised_under_the_rule() -> None:
    signed = sign(Domain.VOTE, GENESIS, b"body", KeyPair(bytes(32)))
    with pytest.raises(RemoteError) as refused:
        require_valid(Domain.PROPOSAL, GENESIS, signed, "P5")
    assert refused.value.rule == "P5"

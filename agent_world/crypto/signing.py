"""Signatures with a domain tag and the world's genesis hash, so that none can be replayed elsewhere (D1)."""

from __future__ import annotations

from enum import Enum

from nacl.bindings import crypto_sign_open
from nacl.exceptions import CryptoError

from agent_world.crypto.keys import KeyPair
from agent_world.errors import RemoteError
from agent_world.wire import record
from agent_world.wire.ids import Hash32, PublicKey, Signature
from agent_world.wire.signed import Signed


class Domain(Enum):
    """What a signature is for; the tag is the first thing signed."""

    ACTION = b"aw/action/1\x00"
    PROPOSAL = b"aw/proposal/1\x00"
    VOTE = b"aw/vote/1\x00"
    CAPABILITY = b"aw/capability/1\x00"
    MEMBERSHIP = b"aw/membership/1\x00"
    HELLO_VALIDATOR = b"aw/hello-validator/1\x00"
    REPLICATION = b"aw/replication/1\x00"
    CHALLENGE = b"aw/challenge/1\x00"
    CHALLENGE_RECEIPT = b"aw/challenge-receipt/1\x00"


def sign(domain: Domain, genesis_hash: Hash32, body: bytes, key: KeyPair) -> Signed:
    """Sign ``body`` for one purpose in one world."""
    return Signed(body=body, key=key.public_key, sig=key.sign(domain.value + genesis_hash + body))


def sign_record(domain: Domain, genesis_hash: Hash32, body: object, key: KeyPair) -> bytes:
    """Encode and sign a record; returns the encoded ``Signed``."""
    return record.to_bytes(sign(domain, genesis_hash, record.to_bytes(body), key))


def is_valid(domain: Domain, genesis_hash: Hash32, body: bytes, key: PublicKey, sig: Signature) -> bool:
    """Whether ``sig`` is ``key``'s over this body, purpose and world."""
    try:
        crypto_sign_open(sig + domain.value + genesis_hash + body, key)
    except CryptoError:
        return False
    return True


def require_valid(domain: Domain, genesis_hash: Hash32, signed: Signed, rule: str) -> None:
    """Raise RemoteError under ``rule`` unless the signature holds."""
    if not is_valid(domain, genesis_hash, signed.body, signed.key, signed.sig):
        raise RemoteError(rule, "the signature does not verify for this key, purpose and world")

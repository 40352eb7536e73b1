"""protocols/hello: refuse foreigners with a reason that both sides can read."""

from __future__ import annotations

from collections.abc import Callable

from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, is_valid, sign
from agent_world.errors import DecodeError, ErrorCode, Refused, UsageError
from agent_world.net.address import parse_address
from agent_world.wire import record
from agent_world.wire.hello import PROTOCOL_VERSIONS, Hello, ValidatorClaim
from agent_world.wire.ids import Hash32, PeerId, WorldId
from agent_world.wire.limits import (
    ADDRESS_CHARS_MAX,
    HEADER_BYTES_MAX,
    HELLO_PEERS_MAX,
    HELLO_VERSIONS_MAX,
    NAME_CHARS_MAX,
    RPC_INLINE_BYTES_MAX,
)
from agent_world.wire.signed import Signed


def sign_validator_claim(claim: ValidatorClaim, genesis_hash: Hash32, key: KeyPair) -> Signed:
    """Proof for the hellos of ``claim.peer_id`` that the validator with this key is found there."""
    return sign(Domain.HELLO_VALIDATOR, genesis_hash, record.to_bytes(claim), key)


def claim_in(proof: Signed) -> ValidatorClaim:
    """What a proof claims, unchecked; raises DecodeError."""
    return record.from_bytes(ValidatorClaim, proof.body, size_max=HEADER_BYTES_MAX)


def check_hello(hello: Hello, peer: PeerId, world_id: WorldId, genesis_hash: Hash32) -> None:
    """Raise Refused under the first rule broken; ``peer`` is the authenticated other end."""
    _check_versions(hello)
    # [REJECT] N1: the peer is of this world.
    if hello.world_id != world_id:
        raise Refused(ErrorCode.UNAUTHORIZED, f"this node is of world {world_id!r}, not {hello.world_id!r}", rule="N1")
    # [REJECT] N2: the peer started from the same genesis.
    if hello.genesis_hash != genesis_hash:
        raise Refused(
            ErrorCode.UNAUTHORIZED,
            f"genesis {hello.genesis_hash.hex()[:16]} is not this world's {genesis_hash.hex()[:16]}",
            rule="N2",
        )
    # [REJECT] N3: few peers, and addresses that can be dialled.
    if len(hello.peers) > HELLO_PEERS_MAX or len(hello.listen) > HELLO_PEERS_MAX:
        raise Refused(ErrorCode.BAD_REQUEST, f"more than {HELLO_PEERS_MAX} addresses", rule="N3")
    for address in (*hello.listen, *(friend.address for friend in hello.peers)):
        if len(address) > ADDRESS_CHARS_MAX:
            raise Refused(ErrorCode.BAD_REQUEST, "an address is too long", rule="N3")
        try:
            parse_address(address)
        except (UsageError, DecodeError) as error:
            raise Refused(ErrorCode.BAD_REQUEST, str(error), rule="N3") from None
    # An own listen address may be a wildcard, whose host is then the one the connection came from.
    for friend in hello.peers:
        if not parse_address(friend.address).is_dialable:
            raise Refused(ErrorCode.BAD_REQUEST, f"nobody can dial {friend.address}", rule="N3")
    if hello.validator is not None:
        _check_validator(hello.validator, peer, genesis_hash)


def _check_validator(proof: Signed, peer: PeerId, genesis_hash: Hash32) -> None:
    # [REJECT] N5: the proof is a ValidatorClaim signed for this purpose in this world by the key that it names.
    try:
        claim = claim_in(proof)
    except DecodeError as error:
        raise Refused(ErrorCode.UNAUTHORIZED, f"no claim to be a validator: {error}", rule="N5") from None
    # [REJECT] N6: the proof is that of the peer which says the hello.
    if claim.peer_id != peer:
        raise Refused(ErrorCode.UNAUTHORIZED, "the proof to be a validator is for another peer", rule="N6")
    if not is_valid(Domain.HELLO_VALIDATOR, genesis_hash, proof.body, proof.key, proof.sig):
        raise Refused(ErrorCode.UNAUTHORIZED, "the proof to be a validator does not verify", rule="N5")


def _check_versions(hello: Hello) -> None:
    # [REJECT] N4: the peer speaks a version of the protocols that this node speaks.
    fitting = len(hello.versions) <= HELLO_VERSIONS_MAX and all(len(text) <= NAME_CHARS_MAX for text in hello.versions)
    if not fitting or not set(hello.versions) & set(PROTOCOL_VERSIONS):
        named = ", ".join(repr(text[:NAME_CHARS_MAX]) for text in hello.versions[:HELLO_VERSIONS_MAX]) or "none"
        own = ", ".join(PROTOCOL_VERSIONS)
        raise Refused(ErrorCode.UNSUPPORTED, f"this node speaks {own}; the peer names {named}", rule="N4")


class HelloHandler:
    """Serves ``hello`` and judges answers to our own."""

    def __init__(self, own: Callable[[], Hello], greeted: Callable[[PeerId, Hello], None]) -> None:
        self.own = own
        self._greeted = greeted
        self.refused: Callable[[PeerId, Refused], None] = lambda _peer, _error: None
        """Told whose hello this node refuses, and why; the peer is told the same."""

    async def serve(self, peer: PeerId, data: bytes) -> bytes:
        """Answer a peer's hello with ours, after its own has passed."""
        self.judge(peer, data)
        return record.to_bytes(self.own())

    def judge(self, peer: PeerId, data: bytes) -> Hello:
        """Decode and check a hello, tell the node; raises Refused or DecodeError."""
        hello = record.from_bytes(Hello, data, size_max=RPC_INLINE_BYTES_MAX)
        own = self.own()
        try:
            check_hello(hello, peer, own.world_id, own.genesis_hash)
        except Refused as error:
            self.refused(peer, error)
            raise
        self._greeted(peer, hello)
        return hello

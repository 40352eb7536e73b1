"""Vectors of protocols/hello: hellos that pass, and ones that break exactly one of N1 to N6."""

from __future__ import annotations

from typing import Any, Final

import attrs

from agent_world.crypto.hashing import hash32
from agent_world.crypto.signing import Domain, sign
from agent_world.handlers.hello import sign_validator_claim
from agent_world.testing.examples import key_of
from agent_world.wire import record
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.head import WorldHead
from agent_world.wire.hello import Hello, PeerAddress, Role, ValidatorClaim
from agent_world.wire.ids import U64, Hash32, PeerId, TimeMs, WorldId, peer_id_of
from agent_world.wire.limits import HELLO_PEERS_MAX
from agent_world.wire.signed import Signed

_WORLD: Final = WorldId("w1")
_GENESIS: Final = hash32(b"genesis")
_PEER: Final = peer_id_of(key_of("node").public_key)
_OTHER: Final = peer_id_of(key_of("other node").public_key)
_ADDRESS: Final = "/ip4/10.0.0.1/tcp/4001"
_CLAIM: Final = ValidatorClaim(peer_id=_PEER, issued_at_ms=TimeMs(1_700_000_000_000))
_GOOD: Final = Hello(
    versions=("aw/1",),
    world_id=_WORLD,
    genesis_hash=_GENESIS,
    role=Role.SEQUENCER,
    validator=None,
    listen=("/ip4/0.0.0.0/tcp/4001",),
    head=WorldHead(
        world_id=_WORLD,
        height=U64(0),
        block_hash=_GENESIS,
        state_root=Cid(Codec.DAG_CBOR, ContentHash(bytes(32))),
        timestamp_ms=TimeMs(1_700_000_000_000),
    ),
    peers=(PeerAddress(peer_id=_OTHER, address=_ADDRESS, validator=True),),
)


def hello_vectors() -> dict[str, Any]:
    """The file ``hello/vectors/hellos.json``."""
    proven = _with(_proof(_CLAIM))
    good = (
        ("without a vote", _GOOD),
        ("of a validator", proven),
        ("of nobody's friend", attrs.evolve(proven, peers=(), listen=())),
        ("of a later version", attrs.evolve(_GOOD, versions=("aw/2", "aw/1"))),
    )
    cases = [{"id": what, "peer_id": _PEER, "hello": record.to_bytes(hello).hex()} for what, hello in good]
    cases += [
        {"id": what, "peer_id": peer, "hello": record.to_bytes(hello).hex(), "rule": rule}
        for what, peer, hello, rule in (*_foreign(), *_false(proven))
    ]
    return {
        "about": "Whether a node of world `world_id` and `genesis_hash` takes `hello` from `peer_id`: yes, or no by "
        "exactly the rule `rule`.",
        "world_id": _WORLD,
        "genesis_hash": _GENESIS.hex(),
        "cases": cases,
    }


def _proof(claim: ValidatorClaim, *, genesis_hash: Hash32 = _GENESIS) -> Signed:
    return sign_validator_claim(claim, genesis_hash, key_of("validator"))


def _with(proof: Signed) -> Hello:
    return attrs.evolve(_GOOD, validator=proof)


def _foreign() -> list[tuple[str, PeerId, Hello, str]]:
    wildcard = PeerAddress(peer_id=_OTHER, address="/ip4/0.0.0.0/tcp/4001", validator=False)
    return [
        ("of another world", _PEER, attrs.evolve(_GOOD, world_id=WorldId("w2")), "N1"),
        ("of another genesis", _PEER, attrs.evolve(_GOOD, genesis_hash=hash32(b"other")), "N2"),
        ("with an address that is none", _PEER, attrs.evolve(_GOOD, listen=("/ip4/10.0.0.1/udp/1",)), "N3"),
        ("with a friend nobody can dial", _PEER, attrs.evolve(_GOOD, peers=(wildcard,)), "N3"),
        ("with too many addresses", _PEER, attrs.evolve(_GOOD, listen=(_ADDRESS,) * (HELLO_PEERS_MAX + 1)), "N3"),
        ("of no version", _PEER, attrs.evolve(_GOOD, versions=()), "N4"),
        ("of a later version only", _PEER, attrs.evolve(_GOOD, versions=("aw/2",)), "N4"),
    ]


def _false(proven: Hello) -> list[tuple[str, PeerId, Hello, str]]:
    good = _proof(_CLAIM)
    purpose = sign(Domain.VOTE, _GENESIS, good.body, key_of("validator"))
    moved = attrs.evolve(_CLAIM, peer_id=_OTHER)
    bad = [
        ("a proof with another key", attrs.evolve(good, key=key_of("other validator").public_key)),
        ("a proof for another purpose", purpose),
        ("a proof of another world", _proof(_CLAIM, genesis_hash=hash32(b"other"))),
        ("a proof signed for another peer", attrs.evolve(_proof(moved), body=good.body)),
        ("a proof of nothing", sign(Domain.HELLO_VALIDATOR, _GENESIS, b"", key_of("validator"))),
        ("a proof with a trailing byte", _padded(good)),
    ]
    return [(what, _PEER, _with(proof), "N5") for what, proof in bad] + [
        ("a proof copied from another peer", _OTHER, proven, "N6"),
        ("a proof for another peer", _PEER, _with(_proof(moved)), "N6"),
    ]


def _padded(proof: Signed) -> Signed:
    return sign(Domain.HELLO_VALIDATOR, _GENESIS, proof.body + b"\x00", key_of("validator"))

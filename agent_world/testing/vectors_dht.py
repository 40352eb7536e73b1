"""Vectors of protocols/dht: records that a holder keeps, and ones that break exactly one of K1 to K12."""

from __future__ import annotations

from typing import Any, Final

import attrs

from agent_world.consensus.terms import genesis_term
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import hash32
from agent_world.crypto.signing import Domain, sign_record
from agent_world.handlers.dht import capability_key
from agent_world.testing.examples import key_of
from agent_world.testing.vectors_action import example_genesis
from agent_world.wire import record, rpc
from agent_world.wire.capability import CapabilityRecord
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.directory import MembershipDirectorySnapshot
from agent_world.wire.head import CertifiedHead, WorldHead
from agent_world.wire.hello import Role
from agent_world.wire.ids import U64, TimeMs, ValidatorId, WorldId, peer_id_of
from agent_world.world.genesis import genesis_hash

_NODE: Final = key_of("node")
_WORLD: Final = WorldId("w1")
_GOOD: Final = CapabilityRecord(
    world_id=_WORLD,
    peer_id=peer_id_of(_NODE.public_key),
    from_height=U64(1),
    to_height=U64(900),
    role=Role.STORAGE,
    storage_used_bytes=U64(1 << 30),
    storage_free_bytes=U64(1 << 33),
    issued_at_ms=TimeMs(1_700_000_001_000),
    sequence=U64(4),
)
_KEY: Final = capability_key(_WORLD, _GOOD.peer_id)
_MEMBERSHIP_KEY: Final = rpc.dht_membership_key(_WORLD)


def dht_record_vectors() -> dict[str, Any]:
    """The file ``dht/vectors/dht_records.json``."""
    good = (
        ("a capability record", _GOOD),
        ("of a new world", attrs.evolve(_GOOD, from_height=U64(0), to_height=U64(0))),
    )
    cases = [{"id": what, "key": _KEY, "value": _signed(said).hex()} for what, said in good]
    cases.append({"id": "a directory", "key": _MEMBERSHIP_KEY, "value": _directory().hex()})
    bad = [*_bad(), *_bad_directories()]
    cases += [{"id": what, "key": key, "value": value.hex(), "rule": rule} for what, key, value, rule in bad]
    return {
        "about": "Whether a holder in the world of `genesis`, which has only its genesis, keeps `value` under "
        "`key`: yes, or no by exactly the rule `rule`.",
        "genesis": record.to_bytes(example_genesis()).hex(),
        "genesis_hash": genesis_hash(example_genesis()).hex(),
        "cases": cases,
    }


def _signed(said: CapabilityRecord, *, domain: Domain = Domain.CAPABILITY, signer: str = "node") -> bytes:
    return sign_record(domain, genesis_hash(example_genesis()), said, key_of(signer))


def _bad() -> list[tuple[str, str, bytes, str]]:
    good = _signed(_GOOD)
    other = peer_id_of(key_of("other node").public_key)
    foreign = sign_record(Domain.CAPABILITY, hash32(b"other"), _GOOD, _NODE)
    return [
        ("a key of another world", capability_key(WorldId("w2"), _GOOD.peer_id), good, "K1"),
        ("a capability record as directory", _MEMBERSHIP_KEY, good, "K8"),
        ("a reserved key", f"{_MEMBERSHIP_KEY}.revoked", good, "K1"),
        ("a key of nothing", "/aw/x", good, "K1"),
        ("a head of height 0", rpc.dht_head_key(_WORLD), _genesis_head(), "K2"),
        ("nothing", _KEY, b"", "K3"),
        ("a trailing byte", _KEY, good + b"\x00", "K3"),
        ("a record of another world", _KEY, _signed(attrs.evolve(_GOOD, world_id=WorldId("w2"))), "K4"),
        ("the record of another node", _KEY, _signed(attrs.evolve(_GOOD, peer_id=other), signer="other node"), "K5"),
        ("a node at a key that is too long", _KEY + "00", good, "K5"),
        ("signed by another node", _KEY, _signed(_GOOD, signer="other node"), "K6"),
        ("signed for another purpose", _KEY, _signed(_GOOD, domain=Domain.VOTE), "K6"),
        ("signed for another world of that name", _KEY, foreign, "K6"),
        ("heights that descend", _KEY, _signed(attrs.evolve(_GOOD, from_height=U64(901))), "K7"),
    ]


def _directory(signer: str = "validator a", domain: Domain = Domain.MEMBERSHIP, **changes: Any) -> bytes:
    term = genesis_term(ValidatorSet(example_genesis().validators))
    said = MembershipDirectorySnapshot(
        world_id=_WORLD,
        version=term.version,
        from_height=term.from_height,
        prev_hash=term.prev_hash,
        validators=term.validators.record,
        requester_id=ValidatorId("a"),
        requested_at_ms=TimeMs(1_700_000_001_000),
    )
    return sign_record(domain, genesis_hash(example_genesis()), attrs.evolve(said, **changes), key_of(signer))


def _bad_directories() -> list[tuple[str, str, bytes, str]]:
    validators = example_genesis().validators
    alone = attrs.evolve(validators, validators=validators.validators[:1])
    bad = (
        ("a directory with a trailing byte", _directory() + b"\x00", "K8"),
        ("a directory of another world", _directory(world_id=WorldId("w2")), "K9"),
        ("a version that the chain has not reached", _directory(version=U64(1)), "K10"),
        ("a set that the chain has not decided", _directory(validators=alone), "K11"),
        ("a set from another height on", _directory(from_height=U64(2)), "K11"),
        ("a set before that of the genesis", _directory(prev_hash=hash32(b"before")), "K11"),
        ("a directory signed by another member", _directory("validator b"), "K12"),
        ("a directory signed by nobody of the set", _directory("stranger"), "K12"),
        ("a directory in the name of nobody", _directory(requester_id=ValidatorId("e")), "K12"),
        ("a directory signed for another purpose", _directory(domain=Domain.CAPABILITY), "K12"),
    )
    return [(what, _MEMBERSHIP_KEY, value, rule) for what, value, rule in bad]


def _genesis_head() -> bytes:
    head = WorldHead(
        world_id=_WORLD,
        height=U64(0),
        block_hash=genesis_hash(example_genesis()),
        state_root=Cid(Codec.DAG_CBOR, ContentHash(bytes(32))),
        timestamp_ms=TimeMs(1_700_000_000_000),
    )
    return record.to_bytes(CertifiedHead(head=head, block=b"", certificate=b""))

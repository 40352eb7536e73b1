import attrs
import pytest

from agent_world.consensus.terms import MembershipTerm, genesis_term
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, sign_record
from agent_world.errors import RemoteError
from agent_world.handlers.dht import DhtRecords, capability_key, sign_capability, sign_membership
from agent_world.testing.examples import key_of
from agent_world.testing.vectors_action import example_genesis
from agent_world.wire import record, rpc
from agent_world.wire.capability import CapabilityRecord
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.directory import MembershipDirectorySnapshot
from agent_world.wire.head import CertifiedHead, WorldHead
from agent_world.wire.hello import Role
from agent_world.wire.ids import U64, Hash32, TimeMs, ValidatorId, WorldId, peer_id_of
from agent_world.wire.limits import MEMBERSHIP_BYTES_MAX
from agent_world.wire.signed import Signed

WORLD = WorldId("w" * 64)
GENESIS = hash32(b"genesis")
KEY = KeyPair(bytes(32))
SAID = CapabilityRecord(
    world_id=WORLD, peer_id=peer_id_of(KEY.public_key), from_height=U64(1), to_height=U64(9), role=Role.STORAGE,
    storage_used_bytes=U64(1), storage_free_bytes=U64(2), issued_at_ms=TimeMs(3), sequence=U64(4),
)  # fmt: skip
OWN = capability_key(WORLD, SAID.peer_id)


def head(height: int, certificate: bytes = b"proof") -> bytes:
    said = WorldHead(
        world_id=WORLD, height=U64(height), block_hash=GENESIS, timestamp_ms=TimeMs(1),
        state_root=Cid(Codec.DAG_CBOR, ContentHash(bytes(32))),
    )  # fmt: skip
    return record.to_bytes(CertifiedHead(head=said, block=b"", certificate=certificate))


def open_head(value: bytes) -> CertifiedHead:
    certified = record.from_bytes(CertifiedHead, value, size_max=1 << 16)
    if certified.certificate != b"proof":
        raise RemoteError("H3", "no proof")
    return certified


SET = example_genesis().validators
FIRST = genesis_term(ValidatorSet(SET))
SECOND = FIRST.successor(U64(33), ValidatorSet(attrs.evolve(SET, validators=SET.validators[:3])))
TERMS = {0: FIRST, 1: SECOND}
RECORDS = DhtRecords(WORLD, GENESIS, open_head, TERMS.get)
MEMBERSHIP = rpc.dht_membership_key(WORLD)


def test_a_key_fits_into_the_dht_even_in_the_longest_world() -> None:
    assert len(OWN) <= 128


def test_what_a_node_signs_is_read_by_others() -> None:
    assert RECORDS.open_capability(OWN, sign_capability(SAID, GENESIS, KEY)) == SAID
    RECORDS.rules.check(OWN, sign_capability(SAID, GENESIS, KEY))


def test_a_head_is_proved_or_refused() -> None:
    key = rpc.dht_head_key(WORLD)
    RECORDS.rules.check(key, head(1))
    for value, rule in ((head(0), "K2"), (head(1, b"forged"), "H3")):
        with pytest.raises(RemoteError) as caught:
            RECORDS.rules.check(key, value)
        assert caught.value.rule == rule


def test_the_higher_wins_and_of_equals_the_last() -> None:
    key = rpc.dht_head_key(WORLD)
    assert RECORDS.rules.best(key, [head(2), head(3), head(1)]) == head(3)
    assert RECORDS.select(key, [head(3), head(3), head(2)]) == 1
    newer = sign_capability(attrs.evolve(SAID, sequence=U64(5)), GENESIS, KEY)
    older = sign_capability(SAID, GENESIS, KEY)
    assert RECORDS.rules.best(OWN, [newer, older]) == newer
    assert RECORDS.select(OWN, [older, older]) == 1


def directory(term: MembershipTerm = FIRST, signer: str = "a", at_ms: int = 5) -> bytes:
    return sign_membership(term, WORLD, GENESIS, key_of(f"validator {signer}"), TimeMs(at_ms))


def rule_of(value: bytes, records: DhtRecords = RECORDS) -> str:
    with pytest.raises(RemoteError) as caught:
        records.rules.check(MEMBERSHIP, value)
    return caught.value.rule


def said_by(signer: KeyPair, **changes: object) -> bytes:
    said = record.from_bytes(
        MembershipDirectorySnapshot,
        record.from_bytes(Signed, directory(), size_max=MEMBERSHIP_BYTES_MAX).body,
        size_max=MEMBERSHIP_BYTES_MAX,
    )
    return sign_record(Domain.MEMBERSHIP, GENESIS, attrs.evolve(said, **changes), signer)


def test_a_directory_that_a_member_signs_is_read_by_others() -> None:
    RECORDS.rules.check(MEMBERSHIP, directory())
    said = RECORDS.open_membership(directory(SECOND, "b"))
    assert (said.version, said.from_height, said.requester_id) == (1, 33, "b")
    assert said.validators == SECOND.validators.record
    assert said.prev_hash == FIRST.validators.hash


def test_directories_of_others_are_refused() -> None:
    member, stranger = key_of("validator a"), key_of("stranger")
    assert rule_of(said_by(stranger)) == "K12"
    assert rule_of(said_by(key_of("validator b"))) == "K12"  # b speaks in the name of a
    assert rule_of(said_by(member, requester_id=ValidatorId("nobody"))) == "K12"
    assert rule_of(said_by(member, world_id=WorldId("other"))) == "K9"
    elsewhere = DhtRecords(WORLD, Hash32(bytes(32)), open_head, TERMS.get)
    assert rule_of(directory(), elsewhere) == "K12"  # a world of the same name and validators
    # T-M15: whom a change has removed does not speak for the set without it.
    assert rule_of(said_by(key_of("validator d"), **term_fields(SECOND), requester_id=ValidatorId("d"))) == "K12"


def term_fields(term: MembershipTerm) -> dict[str, object]:
    return {
        "version": term.version,
        "from_height": term.from_height,
        "prev_hash": term.prev_hash,
        "validators": term.validators.record,
    }


def test_no_validator_decides_the_set_alone() -> None:  # M-7
    member = key_of("validator a")
    alone = attrs.evolve(SET, validators=SET.validators[:1])
    assert rule_of(said_by(member, validators=alone)) == "K11"
    assert rule_of(said_by(member, from_height=U64(2))) == "K11"
    assert rule_of(said_by(member, prev_hash=GENESIS)) == "K11"
    assert rule_of(said_by(member, version=U64(2), validators=alone)) == "K10"


def test_an_oversized_directory_is_not_looked_at() -> None:
    assert rule_of(directory() + bytes(MEMBERSHIP_BYTES_MAX)) == "K8"
    signed = record.from_bytes(Signed, directory(), size_max=MEMBERSHIP_BYTES_MAX)
    assert rule_of(record.to_bytes(attrs.evolve(signed, body=signed.body + b"\x00"))) == "K8"


def test_the_higher_version_wins_and_of_equals_the_last() -> None:  # T-M13, M-2
    old, new = directory(FIRST, at_ms=9), directory(SECOND, at_ms=1)
    assert RECORDS.rules.best(MEMBERSHIP, [new, old]) == new
    assert RECORDS.rules.best(MEMBERSHIP, [old, new, old]) == new
    assert RECORDS.select(MEMBERSHIP, [directory(signer="a"), directory(signer="b")]) == 1

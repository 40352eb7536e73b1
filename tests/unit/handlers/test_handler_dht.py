import attrs
import pytest

from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import RemoteError
from agent_world.handlers.dht import DhtRecords, capability_key, sign_capability
from agent_world.wire import record, rpc
from agent_world.wire.capability import CapabilityRecord
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.head import CertifiedHead, WorldHead
from agent_world.wire.hello import Role
from agent_world.wire.ids import U64, TimeMs, WorldId, peer_id_of

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


RECORDS = DhtRecords(WORLD, GENESIS, open_head)


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

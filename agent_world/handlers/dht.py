"""protocols/dht: which records a holder keeps and a reader believes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from agent_world.consensus.light import OtherSet
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, require_valid, sign_record
from agent_world.errors import DecodeError, RemoteError
from agent_world.net.dht_records import RECORD_BYTES_MAX, RecordRules
from agent_world.wire import record, rpc
from agent_world.wire.capability import CapabilityRecord
from agent_world.wire.head import CertifiedHead
from agent_world.wire.ids import Hash32, PeerId, WorldId, node_key_of, peer_id_of
from agent_world.wire.limits import CAPABILITY_BYTES_MAX
from agent_world.wire.signed import Signed

_CAPABILITY_KEY_OCTETS: Final = 16
"""So much of the node's public key names its record: a DHT key has at most 128 characters."""


def capability_key(world_id: WorldId, peer: PeerId) -> str:
    """DHT key of a node's capability record; raises DecodeError for what is no peer id."""
    return rpc.dht_capability_key(world_id, node_key_of(peer)[:_CAPABILITY_KEY_OCTETS].hex())


def sign_capability(capability: CapabilityRecord, genesis_hash: Hash32, node_key: KeyPair) -> bytes:
    """The record as it is put; the key must be that of ``capability.peer_id``."""
    return sign_record(Domain.CAPABILITY, genesis_hash, capability, node_key)


class DhtRecords:
    """Judges records of one world. ``open_head`` checks a head by H1 to H3; it knows the validator sets."""

    def __init__(self, world_id: WorldId, genesis_hash: Hash32, open_head: Callable[[bytes], CertifiedHead]) -> None:
        self._world_id = world_id
        self._genesis_hash = genesis_hash
        self._open_head = open_head
        self._head_key = rpc.dht_head_key(world_id)
        self.rules = RecordRules(self.validate, self.select)

    def validate(self, key: str, value: bytes) -> None:
        """Raise RemoteError under the first rule broken."""
        if key == self._head_key:
            self.open_head(value)
        elif key.startswith(rpc.dht_capability_key(self._world_id, "")):
            self.open_capability(key, value)
        else:
            # [REJECT] K1: the key is that of a head or of a capability record of this world.
            raise RemoteError("K1", f"no record of this world has the key {key[:80]!r}")

    def open_head(self, value: bytes) -> CertifiedHead:
        """The head of a head record; raises RemoteError."""
        try:
            certified = self._open_head(value)
        except OtherSet as error:
            # Whoever cannot check a head must not hand it on: the higher one wins, so a forged one would stay.
            raise RemoteError("H5", error.detail) from None
        # [REJECT] K2: the head is above the genesis, which everybody has.
        if certified.head.height == 0:
            raise RemoteError("K2", "a head record of height 0")
        return certified

    def open_capability(self, key: str, value: bytes) -> CapabilityRecord:
        """What a capability record says; raises RemoteError."""
        # [REJECT] K3: strict Signed of at most CAPABILITY_BYTES_MAX around a strict CapabilityRecord.
        try:
            signed = record.from_bytes(Signed, value, size_max=CAPABILITY_BYTES_MAX)
            said = record.from_bytes(CapabilityRecord, signed.body, size_max=CAPABILITY_BYTES_MAX)
        except DecodeError as error:
            raise DecodeError("K3", f"{error.rule}: {error.detail}") from None
        # [REJECT] K4: it is of this world.
        if said.world_id != self._world_id:
            raise RemoteError("K4", f"a capability record of world {said.world_id!r}")
        # [REJECT] K5: its key names the node that it speaks of.
        if key != capability_key(self._world_id, said.peer_id):
            raise RemoteError("K5", f"the record of {said.peer_id} does not belong under {key[:160]!r}")
        # [REJECT] K6: that node has signed it.
        if peer_id_of(signed.key) != said.peer_id:
            raise RemoteError("K6", f"the record of {said.peer_id} is signed with another key")
        require_valid(Domain.CAPABILITY, self._genesis_hash, signed, "K6")
        # [REJECT] K7: the heights are a range.
        if said.from_height > said.to_height:
            raise RemoteError("K7", f"heights {said.from_height} to {said.to_height}")
        return said

    def select(self, key: str, values: Sequence[bytes]) -> int:
        """Index of the best of valid records: the higher head, the higher sequence, of equals the last."""
        worth = _head_height if key == self._head_key else _sequence
        return max(range(len(values)), key=lambda index: (worth(values[index]), index))


def _head_height(value: bytes) -> int:
    return record.from_bytes(CertifiedHead, value, size_max=RECORD_BYTES_MAX).head.height


def _sequence(value: bytes) -> int:
    signed = record.from_bytes(Signed, value, size_max=CAPABILITY_BYTES_MAX)
    return record.from_bytes(CapabilityRecord, signed.body, size_max=CAPABILITY_BYTES_MAX).sequence

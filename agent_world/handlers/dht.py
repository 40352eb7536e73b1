"""protocols/dht: which records a holder keeps and a reader believes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from agent_world.consensus.light import OtherSet
from agent_world.consensus.terms import MembershipTerm, TermOf
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, require_valid, sign_record
from agent_world.errors import DecodeError, RemoteError
from agent_world.net.dht_records import RECORD_BYTES_MAX, RecordRules
from agent_world.wire import record, rpc
from agent_world.wire.capability import CapabilityRecord
from agent_world.wire.directory import MembershipDirectorySnapshot
from agent_world.wire.head import CertifiedHead
from agent_world.wire.ids import Hash32, PeerId, TimeMs, WorldId, node_key_of, peer_id_of
from agent_world.wire.limits import CAPABILITY_BYTES_MAX, MEMBERSHIP_BYTES_MAX
from agent_world.wire.signed import Signed

_CAPABILITY_KEY_OCTETS: Final = 16
"""So much of the node's public key names its record: a DHT key has at most 128 characters."""


def capability_key(world_id: WorldId, peer: PeerId) -> str:
    """DHT key of a node's capability record; raises DecodeError for what is no peer id."""
    return rpc.dht_capability_key(world_id, node_key_of(peer)[:_CAPABILITY_KEY_OCTETS].hex())


def sign_capability(capability: CapabilityRecord, genesis_hash: Hash32, node_key: KeyPair) -> bytes:
    """The record as it is put; the key must be that of ``capability.peer_id``."""
    return sign_record(Domain.CAPABILITY, genesis_hash, capability, node_key)


def sign_membership(
    term: MembershipTerm, world_id: WorldId, genesis_hash: Hash32, validator_key: KeyPair, now_ms: TimeMs
) -> bytes:
    """The directory of a term as a validator puts it; the key must be that of a member."""
    member = term.validators.by_key(validator_key.public_key)
    assert member is not None, "only a member of the set speaks for it"
    snapshot = MembershipDirectorySnapshot(
        world_id=world_id,
        version=term.version,
        from_height=term.from_height,
        prev_hash=term.prev_hash,
        validators=term.validators.record,
        requester_id=member.validator_id,
        requested_at_ms=now_ms,
    )
    return sign_record(Domain.MEMBERSHIP, genesis_hash, snapshot, validator_key)


class DhtRecords:
    """Judges records of one world.

    ``open_head`` checks a head by H1 to H3, ``term_of`` tells the validator sets that the chain has decided.
    """

    def __init__(
        self, world_id: WorldId, genesis_hash: Hash32, open_head: Callable[[bytes], CertifiedHead], term_of: TermOf
    ) -> None:
        self._world_id = world_id
        self._genesis_hash = genesis_hash
        self._open_head = open_head
        self._term_of = term_of
        self._head_key = rpc.dht_head_key(world_id)
        self._membership_key = rpc.dht_membership_key(world_id)
        self.rules = RecordRules(self.validate, self.select)

    def validate(self, key: str, value: bytes) -> None:
        """Raise RemoteError under the first rule broken."""
        if key == self._head_key:
            self.open_head(value)
        elif key == self._membership_key:
            self.open_membership(value)
        elif key.startswith(rpc.dht_capability_key(self._world_id, "")):
            self.open_capability(key, value)
        else:
            # [REJECT] K1: the key is that of a head, a capability record or the membership directory of this world.
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

    def open_membership(self, value: bytes) -> MembershipDirectorySnapshot:
        """What a membership record says; raises RemoteError."""
        # [REJECT] K8: strict Signed of at most MEMBERSHIP_BYTES_MAX around a strict MembershipDirectorySnapshot.
        try:
            signed = record.from_bytes(Signed, value, size_max=MEMBERSHIP_BYTES_MAX)
            said = record.from_bytes(MembershipDirectorySnapshot, signed.body, size_max=MEMBERSHIP_BYTES_MAX)
        except DecodeError as error:
            raise DecodeError("K8", f"{error.rule}: {error.detail}") from None
        # [REJECT] K9: it is of this world.
        if said.world_id != self._world_id:
            raise RemoteError("K9", f"a membership directory of world {said.world_id!r}")
        # [IGNORE] K10: the chain known here has reached its version.
        term = self._term_of(said.version)
        if term is None:
            raise RemoteError("K10", f"version {said.version} of the membership is not known here")
        # [REJECT] K11: it says what the chain has decided; no word of a validator adds or removes one.
        decided = (term.from_height, term.prev_hash, term.validators.record)
        if (said.from_height, said.prev_hash, said.validators) != decided:
            raise RemoteError("K11", f"version {said.version} of the membership is not that of the chain")
        # [REJECT] K12: the member that it names has signed it.
        member = term.validators.by_id(said.requester_id)
        if member is None or member.public_key != signed.key:
            raise RemoteError("K12", f"the directory is not signed by the member {said.requester_id!r}")
        require_valid(Domain.MEMBERSHIP, self._genesis_hash, signed, "K12")
        return said

    def select(self, key: str, values: Sequence[bytes]) -> int:
        """Index of the best of valid records: the higher head, sequence or version, of equals the last."""
        worth = {self._head_key: _head_height, self._membership_key: _version}.get(key, _sequence)
        return max(range(len(values)), key=lambda index: (worth(values[index]), index))


def _head_height(value: bytes) -> int:
    return record.from_bytes(CertifiedHead, value, size_max=RECORD_BYTES_MAX).head.height


def _version(value: bytes) -> int:
    signed = record.from_bytes(Signed, value, size_max=MEMBERSHIP_BYTES_MAX)
    return record.from_bytes(MembershipDirectorySnapshot, signed.body, size_max=MEMBERSHIP_BYTES_MAX).version


def _sequence(value: bytes) -> int:
    signed = record.from_bytes(Signed, value, size_max=CAPABILITY_BYTES_MAX)
    return record.from_bytes(CapabilityRecord, signed.body, size_max=CAPABILITY_BYTES_MAX).sequence

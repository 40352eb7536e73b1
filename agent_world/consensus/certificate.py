"""Commit certificates: precommits of at least the required stake for one block (D4)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.signing import Domain, is_valid
from agent_world.errors import DecodeError, RemoteError
from agent_world.wire import record
from agent_world.wire.consensus import CommitCertificate, Step, Vote, VoteSignature
from agent_world.wire.ids import Hash32, WorldId
from agent_world.wire.limits import CERTIFICATE_BYTES_MAX, VALIDATORS_MAX, VOTE_BYTES_MAX


def build_certificate(body: bytes, signatures: Iterable[VoteSignature]) -> bytes:
    """Encoded certificate: the shared body of the precommits and one signature a validator, in any order."""
    by_key = {signature.key: signature for signature in signatures}
    return record.to_bytes(CommitCertificate(body=body, signatures=tuple(by_key[key] for key in sorted(by_key))))


def verify_certificate(
    cert_bytes: bytes,
    world_id: WorldId,
    genesis_hash: Hash32,
    validators: ValidatorSet,
    *,
    height: int,
    block_hash: Hash32,
) -> CommitCertificate:
    """The decoded certificate if it proves that ``validators`` committed ``block_hash`` at ``height``.

    Raises RemoteError with the rule broken, C1 to C9. ``validators`` must be the set whose hash the parent block
    named as next_validators_hash (the genesis set for height 1).
    """
    certificate, vote = _decode(cert_bytes)
    # [REJECT] C2: the votes are precommits.
    if vote.step is not Step.PRECOMMIT:
        raise RemoteError("C2", f"the certificate holds {vote.step} votes")
    # [REJECT] C3: they are of this world.
    if vote.world_id != world_id:
        raise RemoteError("C3", f"the certificate is of world {vote.world_id!r}")
    # [REJECT] C4: they are for this height.
    if vote.height != height:
        raise RemoteError("C4", f"the certificate is for height {vote.height}, not {height}")
    # [REJECT] C5: they are for this block.
    if vote.block_hash != block_hash:
        found = "nil" if vote.block_hash is None else vote.block_hash.hex()
        raise RemoteError("C5", f"the certificate is for block {found}, not {block_hash.hex()}")
    # [REJECT] C6: keys ascend, none is there twice.
    keys = [signature.key for signature in certificate.signatures]
    if len(keys) > VALIDATORS_MAX or any(first >= second for first, second in pairwise(keys)):
        raise RemoteError("C6", "the keys are not in ascending order without repetition")
    stake = 0
    for signature in certificate.signatures:
        # [REJECT] C7: every key is of a member of the set.
        entry = validators.by_key(signature.key)
        if entry is None:
            raise RemoteError("C7", f"key {signature.key.hex()} is not in the validator set")
        # [REJECT] C8: every signature verifies.
        if not is_valid(Domain.VOTE, genesis_hash, certificate.body, signature.key, signature.sig):
            raise RemoteError("C8", f"the signature of {entry.validator_id} does not verify")
        stake += entry.stake
    # [REJECT] C9: the signers hold the required stake.
    if not validators.is_quorum(stake):
        raise RemoteError("C9", f"stake {stake} of {validators.required_stake} required")
    return certificate


def _decode(cert_bytes: bytes) -> tuple[CommitCertificate, Vote]:
    # [REJECT] C1: strict CommitCertificate of at most CERTIFICATE_BYTES_MAX around a strict Vote.
    try:
        certificate = record.from_bytes(CommitCertificate, cert_bytes, size_max=CERTIFICATE_BYTES_MAX)
        return certificate, record.from_bytes(Vote, certificate.body, size_max=VOTE_BYTES_MAX)
    except DecodeError as error:
        raise DecodeError("C1", f"{error.rule}: {error.detail}") from None

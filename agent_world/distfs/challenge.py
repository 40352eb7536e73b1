"""Storage challenges: the range that is asked for, the commitment to it, and what is checked (protocols/challenge).

The question never contains the answer (K-7.1). What a pass proves: the node with the target's key could read this
range of this content within the deadline. It does not prove that the copy is the target's alone.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import ClassVar, Final

import attrs
from blake3 import blake3

from agent_world.crypto.hashing import content_hash, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, is_valid, sign
from agent_world.distfs.manifest import (
    STANDARD,
    Layout,
    Span,
    children,
    may_be_manifest,
    open_manifest,
    open_node,
    root_span,
)
from agent_world.errors import BlobHashMismatch, BlobNotFound, DecodeError
from agent_world.wire import record
from agent_world.wire.blob import FileManifest
from agent_world.wire.challenge import (
    ChallengeQuestion,
    ChallengeReceipt,
    ChallengeRevealResponse,
    FailureReason,
    SampleSource,
    StorageChallenge,
)
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import U16, U32, U64, Hash32, TimeMs, node_key_of
from agent_world.wire.limits import BLOB_BYTES_MAX, HEADER_BYTES_MAX
from agent_world.wire.signed import Signed

Get = Callable[[ContentHash], bytes]
"""Verified bytes of a blob; raises BlobNotFound, BlobHashMismatch or OSError."""
NODES_KEPT_MAX: Final = 32
"""Decoded nodes of files, of 1 MiB at the most with all their links; the one used longest ago goes. The nodes of a file
are the same in every challenge of it, and one of 1,024 links takes a millisecond to decode."""
_KEY_CONTEXT: Final = "agent-world storage challenge 1 answer key"
_RANGE_CONTEXT: Final = "agent-world storage challenge 1 range"


class Failed(Exception):
    """A check that a target did not pass; ``reason`` is typed where it is found, never read from a text (K-7.6)."""

    def __init__(self, reason: FailureReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@attrs.frozen(slots=True)
class Place:
    """A range within content of ``size_bytes``."""

    size_bytes: int
    offset: int
    sample_bytes: int


@attrs.frozen(slots=True)
class Proof:
    """A range with the blobs that lead to it."""

    place: Place
    sample: bytes
    path: tuple[bytes, ...]
    leaf: bytes


@attrs.frozen(slots=True)
class _Derived:
    """What follows from a question alone."""

    id: Hash32
    position: int
    """Two numbers below 2^128, from the committed block's hash, both ids, the content and the nonce."""
    start: int
    key: bytes
    """Of the commitment: from the whole question, so that no answer serves twice."""


@functools.lru_cache(maxsize=256)
def _derived(question: ChallengeQuestion) -> _Derived:
    encoded = record.to_bytes(question)
    draws = blake3(encoded, derive_key_context=_RANGE_CONTEXT).digest()
    return _Derived(
        hash32(encoded),
        int.from_bytes(draws[:16], "little"),
        int.from_bytes(draws[16:], "little"),
        blake3(encoded, derive_key_context=_KEY_CONTEXT).digest(),
    )


def challenge_id(question: ChallengeQuestion) -> Hash32:
    """BLAKE3 of the encoded question."""
    return _derived(question).id


def commitment_of(question: ChallengeQuestion, sample: bytes) -> Hash32:
    """Keyed BLAKE3 over nonce and range; the key is derived from the whole question, so no answer serves twice."""
    return Hash32(blake3(question.nonce, key=_derived(question).key).update(sample).digest())


def drawn_position(question: ChallengeQuestion, size_bytes: int) -> int:
    """The byte whose chunk is asked for: every byte of the content is as likely; 0 for empty content."""
    return _derived(question).position % size_bytes if size_bytes else 0


def drawn_place(question: ChallengeQuestion, size_bytes: int, leaf_offset: int, leaf_bytes: int) -> Place:
    """The range inside a chunk (or blob) of ``leaf_bytes`` that begins at ``leaf_offset`` of the content."""
    sample = min(leaf_bytes, question.max_sample_bytes)
    start = _derived(question).start % (leaf_bytes - sample + 1)
    return Place(size_bytes, leaf_offset + start, sample)


class _Nodes:
    """The nodes of files on the way to a range; ``path`` has their bytes, as far as they were read."""

    _kept: ClassVar[OrderedDict[object, FileManifest]] = OrderedDict()
    """By link and place: equal links are equal bytes, so what was decoded once is right for ever."""

    def __init__(self, get: Get, layout: Layout, *, read_again: bool) -> None:
        self._get = get
        self._layout = layout
        self._read_again = read_again
        self.path: list[bytes] = []

    def top(self, cid: Cid) -> FileManifest | bytes:
        """The topmost node of a file, or the bytes of what is none."""
        key = (cid, self._layout)
        if (known := self._known(key)) is not None and not self._read_again:
            return known
        data = self._get(cid.digest)
        if known is None:
            if not may_be_manifest(cid, data):
                return data
            try:
                known = open_manifest(cid, data, layout=self._layout)
            except DecodeError:
                return data
            self._keep(key, known)
        self.path.append(data)
        return known

    def below(self, span: Span) -> FileManifest:
        """A further node; raises DecodeError."""
        key = (span, self._layout)
        if (known := self._known(key)) is not None and not self._read_again:
            return known
        data = self._get(span.cid.digest)
        if known is None:
            known = open_node(span, data, layout=self._layout)
            self._keep(key, known)
        self.path.append(data)
        return known

    def _known(self, key: object) -> FileManifest | None:
        known = self._kept.get(key)
        if known is not None:
            self._kept.move_to_end(key)
        return known

    def _keep(self, key: object, node: FileManifest) -> None:
        self._kept[key] = node
        if len(self._kept) > NODES_KEPT_MAX:
            self._kept.popitem(last=False)


def find_proof(question: ChallengeQuestion, get: Get, *, layout: Layout = STANDARD) -> Proof:
    """Read the range with what leads to it: of a file one chunk and a manifest node a level (K-7.9).

    Raises what ``get`` raises; Failed for stored bytes that are no tree of the content's size.
    """
    return _found(question, _Nodes(get, layout, read_again=True), get, layout)


def find_range(question: ChallengeQuestion, get: Get, *, layout: Layout = STANDARD) -> Proof:
    """As ``find_proof``, but nodes that were opened before are not read again, and the path need not be whole.

    For who judges by a copy of its own: who has to show that it holds the content reads all that leads to the range.
    """
    return _found(question, _Nodes(get, layout, read_again=False), get, layout)


def _found(question: ChallengeQuestion, nodes: _Nodes, get: Get, layout: Layout) -> Proof:
    top = nodes.top(question.content)
    if isinstance(top, bytes):
        return _proof(question, len(top), 0, (), top)
    manifest = top
    try:
        span = root_span(question.content, manifest, layout=layout)
        size, at = manifest.size_bytes, drawn_position(question, manifest.size_bytes)
        while span.depth and size:
            (span,) = children(span, manifest, at, at + 1, layout=layout)
            if span.depth:
                manifest = nodes.below(span)
        leaf = get(span.cid.digest) if size else b""
    except DecodeError as error:
        raise Failed(FailureReason.HASH_MISMATCH, str(error)) from None
    if size and len(leaf) != span.size_bytes:  # its hash is right: whoever made this CID made no file
        raise Failed(FailureReason.HASH_MISMATCH, f"a chunk of {len(leaf)} bytes where {span.size_bytes} belong")
    return _proof(question, size, span.offset, tuple(nodes.path), leaf)


def _proof(question: ChallengeQuestion, size: int, leaf_offset: int, path: tuple[bytes, ...], leaf: bytes) -> Proof:
    place = drawn_place(question, size, leaf_offset, len(leaf))
    start = place.offset - leaf_offset
    return Proof(place, leaf[start : start + place.sample_bytes], path, leaf)


def open_reveal(question: ChallengeQuestion, reveal: ChallengeRevealResponse, *, layout: Layout = STANDARD) -> Proof:
    """What a reveal shows of the content, for who holds nothing of it: every blob is hashed, from the CID down.

    Raises Failed: other bytes than the content's are HASH_MISMATCH, a path that is too long or short MISSING_SAMPLE.
    """
    given = {}
    for data in (*reveal.path, reveal.leaf):
        if len(data) > BLOB_BYTES_MAX:
            raise Failed(FailureReason.HASH_MISMATCH, f"a blob of {len(data)} bytes was revealed")
        given[content_hash(data)] = data

    def get(content: ContentHash) -> bytes:
        # [REJECT] Q9: every blob of the reveal hashes to the link that leads to it, from the content's CID down.
        if content not in given:
            raise Failed(FailureReason.HASH_MISMATCH, f"the reveal has other bytes than those of {content.hex()[:16]}")
        return given[content]

    proof = find_proof(question, get, layout=layout)
    if (proof.path, proof.leaf) != (reveal.path, reveal.leaf):
        raise Failed(FailureReason.MISSING_SAMPLE, "the reveal is not the path to the range asked for, and no more")
    return proof


def answer(
    challenge: StorageChallenge, get: Get, now_ms: int, *, layout: Layout = STANDARD
) -> tuple[ChallengeReceipt, Proof | None]:
    """The target's receipt, and the proof to reveal; without one the receipt says why, by the kind of the error."""
    try:
        proof = find_proof(challenge.question, get, layout=layout)
    except BlobNotFound:
        return _receipt(challenge, now_ms, None, FailureReason.MISSING_SAMPLE), None
    except BlobHashMismatch:
        return _receipt(challenge, now_ms, None, FailureReason.HASH_MISMATCH), None
    except OSError:
        return _receipt(challenge, now_ms, None, FailureReason.READ_IO_ERROR), None
    except Failed as error:
        return _receipt(challenge, now_ms, None, error.reason), None
    return _receipt(challenge, now_ms, proof, None), proof


def _receipt(
    challenge: StorageChallenge, now_ms: int, proof: Proof | None, reason: FailureReason | None
) -> ChallengeReceipt:
    place = Place(0, 0, 0) if proof is None else proof.place
    return ChallengeReceipt(
        challenge_id=challenge_id(challenge.question),
        attempt=challenge.attempt,
        size_bytes=U64(place.size_bytes),
        sample_offset=U64(place.offset),
        sample_size_bytes=U32(place.sample_bytes),
        commitment=None if proof is None else commitment_of(challenge.question, proof.sample),
        sample_source=SampleSource.UNKNOWN if proof is None else SampleSource.LOCAL_STORE_INDEX,
        failure_reason=reason,
        responded_at_ms=TimeMs(now_ms),
    )


def sign_receipt(receipt: ChallengeReceipt, genesis_hash: Hash32, key: KeyPair) -> Signed:
    """As it travels; ``key`` is the target's node key."""
    return sign(Domain.CHALLENGE_RECEIPT, genesis_hash, record.to_bytes(receipt), key)


def put(question: ChallengeQuestion, attempt: int, now_ms: int, ttl_ms: int) -> StorageChallenge:
    """One putting of a question, valid for ``ttl_ms``."""
    return StorageChallenge(
        question=question, attempt=U16(attempt), issued_at_ms=TimeMs(now_ms), expires_at_ms=TimeMs(now_ms + ttl_ms)
    )


def sign_challenge(challenge: StorageChallenge, genesis_hash: Hash32, key: KeyPair) -> Signed:
    """As it travels; ``key`` is the challenger's node key."""
    return sign(Domain.CHALLENGE, genesis_hash, record.to_bytes(challenge), key)


def open_receipt(challenge: StorageChallenge, signed: Signed, genesis_hash: Hash32) -> ChallengeReceipt:
    """The receipt in an answer; raises Failed(SIGNATURE_INVALID) unless it is the target's, to this putting."""
    # [REJECT] Q8: the answer is signed with the target's node key, for this challenge and attempt.
    if signed.key != node_key_of(challenge.question.target):
        raise Failed(FailureReason.SIGNATURE_INVALID, "the receipt is signed with another key than the target's")
    if not is_valid(Domain.CHALLENGE_RECEIPT, genesis_hash, signed.body, signed.key, signed.sig):
        raise Failed(FailureReason.SIGNATURE_INVALID, "the receipt's signature does not verify")
    try:
        receipt = record.from_bytes(ChallengeReceipt, signed.body, size_max=HEADER_BYTES_MAX)
    except DecodeError as error:
        raise Failed(FailureReason.SIGNATURE_INVALID, f"what was signed is no receipt: {error}") from None
    if (receipt.challenge_id, receipt.attempt) != (challenge_id(challenge.question), challenge.attempt):
        raise Failed(FailureReason.SIGNATURE_INVALID, "the receipt is for another challenge")
    return receipt


def check_receipt(challenge: StorageChallenge, receipt: ChallengeReceipt, skew_ms: int) -> Hash32:
    """The commitment of a receipt that has one and came in time; raises Failed."""
    # [REJECT] Q10: a receipt has a commitment; one that names a failure is that failure.
    if receipt.failure_reason is not None:
        raise Failed(receipt.failure_reason, "the node says so itself")
    if receipt.commitment is None or receipt.sample_source is SampleSource.UNKNOWN:
        raise Failed(FailureReason.UNKNOWN, "the receipt has neither a commitment nor a reason")
    # [REJECT] Q11: it was given between issue and expiry, both included, with the clocks' allowed difference.
    early, late = challenge.issued_at_ms - skew_ms, challenge.expires_at_ms + skew_ms
    if not early <= receipt.responded_at_ms <= late:
        raise Failed(FailureReason.TIMEOUT, f"answered at {receipt.responded_at_ms}, outside {early} to {late}")
    return receipt.commitment


def check_proof(question: ChallengeQuestion, receipt: ChallengeReceipt, proof: Proof) -> None:
    """Whether the range is the one drawn and the commitment is to it; raises Failed."""
    # [REJECT] Q12: the receipt names the range that the question and the content's size demand.
    stated = Place(receipt.size_bytes, receipt.sample_offset, receipt.sample_size_bytes)
    if stated != proof.place:
        raise Failed(FailureReason.MISSING_SAMPLE, f"the range is {proof.place}, the receipt is for {stated}")
    # [REJECT] Q13: the commitment is to the bytes of that range.
    if receipt.commitment != commitment_of(question, proof.sample):
        raise Failed(FailureReason.HASH_MISMATCH, "the commitment is not to the bytes of the range")

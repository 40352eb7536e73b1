"""T-7.1 and T-7.2: what is asked follows from the question alone, and what fits it is the content's own bytes."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_world.crypto.hashing import cid_of, hash32
from agent_world.distfs.challenge import (
    NODES_KEPT_MAX,
    Failed,
    answer,
    challenge_id,
    check_proof,
    check_receipt,
    commitment_of,
    drawn_place,
    find_proof,
    find_range,
    open_receipt,
    open_reveal,
    put,
    sign_receipt,
)
from agent_world.distfs.manifest import Layout, ManifestBuilder
from agent_world.errors import BlobHashMismatch, BlobNotFound
from agent_world.testing.vectors_challenge import CHALLENGER, GENESIS, TARGET, getter, question_of
from agent_world.wire import record
from agent_world.wire.blob import FileManifest
from agent_world.wire.challenge import ChallengeRevealResponse, FailureReason
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import U32, U64

SMALL = Layout(chunk_bytes=64, links_max=4)
DATA = bytes(range(251)) * 7


def small_file(data: bytes) -> tuple[Cid, dict[ContentHash, bytes]]:
    builder = ManifestBuilder(SMALL)
    blobs = dict([*builder.add(data), *builder.finish()])
    *_others, top = blobs
    return top, {cid.digest: blob for cid, blob in blobs.items()}


TOP, BLOBS = small_file(DATA)


def reason_of(run: Any) -> FailureReason:
    with pytest.raises(Failed) as caught:
        run()
    return caught.value.reason


def test_equal_questions_give_equal_ranges_and_ids() -> None:
    one, other = question_of(TOP), question_of(TOP)
    assert challenge_id(one) == challenge_id(other)
    assert find_proof(one, getter(BLOBS), layout=SMALL) == find_proof(other, getter(BLOBS), layout=SMALL)
    challenge = put(one, 0, 1_000, 200)
    assert (challenge.issued_at_ms, challenge.expires_at_ms) == (1_000, 1_200)


@given(st.binary(max_size=2_000), st.binary(max_size=4), st.integers(1, 200))
def test_the_range_is_the_contents_and_the_reveal_shows_it(data: bytes, nonce: bytes, sample_max: int) -> None:
    top, blobs = small_file(data)
    question = attrs.evolve(question_of(top, nonce), max_sample_bytes=U32(sample_max))
    proof = find_proof(question, getter(blobs), layout=SMALL)
    place = proof.place
    assert place.size_bytes == len(data)
    assert proof.sample == data[place.offset : place.offset + place.sample_bytes]
    assert place.sample_bytes == min(sample_max, len(proof.leaf))
    shown = open_reveal(question, ChallengeRevealResponse(path=proof.path, leaf=proof.leaf), layout=SMALL)
    assert shown == proof


def test_every_byte_of_the_content_is_asked_for() -> None:
    asked: set[int] = set()
    top, blobs = small_file(DATA[:300])
    for number in range(3_000):
        question = attrs.evolve(question_of(top, b"%d" % number), max_sample_bytes=U32(16))
        place = find_proof(question, getter(blobs), layout=SMALL).place
        asked.update(range(place.offset, place.offset + place.sample_bytes))
    assert asked == set(range(300))


def test_the_range_depends_on_seed_ids_and_nonce() -> None:
    question = question_of(TOP)
    others = (
        attrs.evolve(question, seed_hash=hash32(b"another block")),
        attrs.evolve(question, challenger=question.target),
        attrs.evolve(question, target=question.challenger),
        attrs.evolve(question, nonce=hash32(b"another nonce")),
    )
    places = {drawn_place(each, 10**9, 0, 10**9) for each in (question, *others)}
    assert len(places) == 5
    assert len({commitment_of(each, b"same bytes") for each in (question, *others)}) == 5


def test_who_judges_by_a_copy_of_its_own_reads_a_node_once_and_who_has_to_show_it_each_time() -> None:
    top, blobs = small_file(bytes(range(200)) * 5)
    read: list[ContentHash] = []

    def get(content: ContentHash) -> bytes:
        read.append(content)
        return blobs[content]

    question = question_of(top)
    proof = find_proof(question, get, layout=SMALL)
    assert len(proof.path) == 2
    for _ in range(2):
        read.clear()
        found = find_range(question, get, layout=SMALL)
        assert (found.place, found.sample, found.leaf) == (proof.place, proof.sample, proof.leaf)
        assert [blobs[content] for content in read] == [proof.leaf]
        read.clear()
        assert find_proof(question, get, layout=SMALL) == proof
        assert [blobs[content] for content in read] == [*proof.path, proof.leaf]


def test_decoded_nodes_are_kept_within_a_bound() -> None:
    read: list[ContentHash] = []
    for number in (*range(2 * NODES_KEPT_MAX), 0):
        top, blobs = small_file(b"%03d" % number * 10)

        def get(content: ContentHash, blobs: dict[ContentHash, bytes] = blobs) -> bytes:
            read.append(content)
            return blobs[content]

        find_range(question_of(top), get, layout=SMALL)
    assert read.count(top.digest) == 2, "forgotten meanwhile, and read again"


def test_an_empty_blob_has_an_empty_range() -> None:
    question = question_of(cid_of(b"", Codec.RAW))
    proof = find_proof(question, getter({question.content.digest: b""}))
    assert (proof.sample, proof.place.size_bytes) == (b"", 0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BlobNotFound("hash timeout window"), FailureReason.MISSING_SAMPLE),
        (BlobHashMismatch("missing sample"), FailureReason.HASH_MISMATCH),
        (OSError("signature"), FailureReason.READ_IO_ERROR),
    ],
)
def test_the_kind_of_an_error_is_the_reason_and_not_its_words(error: Exception, reason: FailureReason) -> None:
    def broken(_content: ContentHash) -> bytes:
        raise error

    receipt, proof = answer(put(question_of(TOP), 0, 0, 1), broken, 0, layout=SMALL)
    assert (receipt.failure_reason, receipt.commitment, proof) == (reason, None, None)


def test_a_stored_tree_that_is_none_is_said_to_be_damaged() -> None:
    """The bytes hash right, but a node has not the size that its place demands: whoever made this CID made no file."""
    inner, parts = small_file(b"x" * 100)
    data = record.to_bytes(FileManifest(size_bytes=U64(300), links=(inner, inner)))
    top = cid_of(data)
    receipt, _ = answer(put(question_of(top), 0, 0, 1), getter({**parts, top.digest: data}), 0, layout=SMALL)
    assert receipt.failure_reason is FailureReason.HASH_MISMATCH


def test_a_chunk_of_another_size_than_its_place_demands_is_damage_too() -> None:
    chunk = cid_of(b"short", Codec.RAW)
    data = record.to_bytes(FileManifest(size_bytes=U64(20), links=(chunk,)))
    top = cid_of(data)
    held = {chunk.digest: b"short", top.digest: data}
    receipt, _ = answer(put(question_of(top), 0, 0, 1), getter(held), 0, layout=SMALL)
    assert receipt.failure_reason is FailureReason.HASH_MISMATCH


def test_a_receipt_is_good_up_to_its_last_moment_and_not_after() -> None:
    challenge = put(question_of(TOP), 0, 1_000, 100)
    for now_ms, is_late in ((950, False), (1_150, False), (1_151, True), (949, True)):
        receipt, _ = answer(challenge, getter(BLOBS), now_ms, layout=SMALL)
        if is_late:
            assert reason_of(lambda given=receipt: check_receipt(challenge, given, 50)) is FailureReason.TIMEOUT
        else:
            assert check_receipt(challenge, receipt, 50) == receipt.commitment


def test_a_receipt_signed_by_another_or_changed_is_refused() -> None:
    challenge = put(question_of(TOP), 0, 0, 1)
    receipt, _ = answer(challenge, getter(BLOBS), 0, layout=SMALL)
    good = sign_receipt(receipt, GENESIS, TARGET)
    assert open_receipt(challenge, good, GENESIS) == receipt
    changed = sign_receipt(attrs.evolve(receipt, size_bytes=U64(5)), GENESIS, TARGET)
    for signed, genesis in (
        (sign_receipt(receipt, GENESIS, CHALLENGER), GENESIS),
        (attrs.evolve(good, body=changed.body), GENESIS),
        (good, hash32(b"other world")),
    ):
        assert reason_of(lambda s=signed, g=genesis: open_receipt(challenge, s, g)) is FailureReason.SIGNATURE_INVALID


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_every_flipped_bit_of_a_reveal_is_found(at: int, bit: int) -> None:
    question = question_of(TOP)
    proof = find_proof(question, getter(BLOBS), layout=SMALL)
    blobs = [*proof.path, proof.leaf]
    number = at % len(blobs)
    data = bytearray(blobs[number])
    data[at % len(data)] ^= 1 << bit
    blobs[number] = bytes(data)
    reveal = ChallengeRevealResponse(path=tuple(blobs[:-1]), leaf=blobs[-1])
    assert reason_of(lambda: open_reveal(question, reveal, layout=SMALL)) is FailureReason.HASH_MISMATCH


def test_a_reveal_of_another_chunk_or_with_more_is_refused() -> None:
    question = question_of(TOP)
    proof = find_proof(question, getter(BLOBS), layout=SMALL)
    other = next(
        each
        for number in range(99)
        if (each := find_proof(question_of(TOP, b"%d" % number), getter(BLOBS), layout=SMALL)).leaf != proof.leaf
    )
    wrong = ChallengeRevealResponse(path=other.path, leaf=other.leaf)
    assert reason_of(lambda: open_reveal(question, wrong, layout=SMALL)) in (
        FailureReason.HASH_MISMATCH,
        FailureReason.MISSING_SAMPLE,
    )
    more = ChallengeRevealResponse(path=(*proof.path, b"more"), leaf=proof.leaf)
    assert reason_of(lambda: open_reveal(question, more, layout=SMALL)) is FailureReason.MISSING_SAMPLE


def test_a_commitment_to_guessed_bytes_fails_whatever_is_shown() -> None:
    challenge = put(question_of(TOP), 0, 0, 1)
    receipt, proof = answer(challenge, getter(BLOBS), 0, layout=SMALL)
    assert proof is not None
    check_proof(challenge.question, receipt, proof)
    guessed = attrs.evolve(receipt, commitment=commitment_of(challenge.question, bytes(len(proof.sample))))
    assert reason_of(lambda: check_proof(challenge.question, guessed, proof)) is FailureReason.HASH_MISMATCH

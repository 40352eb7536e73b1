"""One question from its putting to its outcome, and many thousand of them against honest and lying responders."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from random import Random

import attrs
import pytest
import trio

from agent_world.crypto.hashing import cid_of, hash32
from agent_world.distfs.challenge import Get, answer, commitment_of, put, sign_challenge, sign_receipt
from agent_world.distfs.challenge_round import (
    AskCommitment,
    AskReveal,
    ChallengeRound,
    Outcome,
    OutcomeKind,
    RoundRules,
)
from agent_world.distfs.manifest import Layout, ManifestBuilder
from agent_world.errors import BlobHashMismatch, BlobNotFound, LocalError, Refused
from agent_world.handlers.challenge import ChallengeHandler
from agent_world.testing.examples import key_of
from agent_world.testing.vectors_challenge import CHALLENGER, GENESIS, TARGET, WORLD, getter, question_of
from agent_world.wire import record
from agent_world.wire.challenge import (
    ChallengeReceipt,
    ChallengeRevealResponse,
    FailureReason,
    StorageChallenge,
)
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import Hash32, PeerId, peer_id_of
from agent_world.wire.signed import Signed

SMALL = Layout(chunk_bytes=256, links_max=4)
RULES = RoundRules(genesis_hash=GENESIS, ttl_ms=1_000, skew_ms=100, layout=SMALL)
DATA = Random(1).randbytes(6_000)
ASKER, HOLDER = peer_id_of(CHALLENGER.public_key), peer_id_of(TARGET.public_key)
STRANGER = peer_id_of(key_of("stranger").public_key)


def file_blobs() -> tuple[Cid, dict[ContentHash, bytes]]:
    builder = ManifestBuilder(SMALL)
    blobs = dict([*builder.add(DATA), *builder.finish()])
    *_others, top = blobs
    return top, {cid.digest: blob for cid, blob in blobs.items()}


TOP, BLOBS = file_blobs()


class Host:
    """A node that has committed no block, with a store of its own."""

    world_id = WORLD
    genesis_hash = GENESIS

    def __init__(self, read: Get) -> None:
        self.read = read

    def block_hash(self, height: int) -> Hash32 | None:
        return None if height else GENESIS


def handler_of(read: Get, now_ms: Callable[[], int] = lambda: 0) -> ChallengeHandler:
    return ChallengeHandler((HOLDER, TARGET), Host(read), now_ms, skew_ms=100, layout=SMALL)


def outcome_of(made: ChallengeRound, read: Get, now_ms: int = 0) -> Outcome:
    """A round without loss."""
    handler = handler_of(read, lambda: now_ms)
    effect = made.answered(HOLDER, trio.run(handler.serve_challenge, ASKER, made.give(now_ms, CHALLENGER).payload))
    if isinstance(effect, AskReveal):
        effect = made.revealed(HOLDER, trio.run(handler.serve_reveal, ASKER, effect.payload))
    assert isinstance(effect, Outcome)
    return effect


def test_an_honest_holder_passes_before_one_who_holds_nothing() -> None:
    made = ChallengeRound(question_of(TOP), RULES)
    assert outcome_of(made, getter(BLOBS)) == Outcome(OutcomeKind.PASSED)
    assert made.was_revealed


def test_who_has_a_copy_needs_no_reveal() -> None:
    made = ChallengeRound(question_of(TOP), RULES, getter(BLOBS))
    assert outcome_of(made, getter(BLOBS)) == Outcome(OutcomeKind.PASSED)
    assert not made.was_revealed


def test_a_damaged_copy_of_the_challenger_is_never_held_against_the_target() -> None:
    def damaged(content: ContentHash) -> bytes:
        raise BlobHashMismatch(content.hex())

    made = ChallengeRound(question_of(TOP), RULES, damaged)
    assert outcome_of(made, getter(BLOBS)) == Outcome(OutcomeKind.PASSED)
    assert made.was_revealed


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BlobNotFound("x"), FailureReason.MISSING_SAMPLE),
        (BlobHashMismatch("x"), FailureReason.HASH_MISMATCH),
        (OSError("x"), FailureReason.READ_IO_ERROR),
    ],
)
def test_what_the_target_says_of_its_disk_is_the_reason(error: Exception, reason: FailureReason) -> None:
    def broken(_content: ContentHash) -> bytes:
        raise error

    outcome = outcome_of(ChallengeRound(question_of(TOP), RULES), broken)
    assert (outcome.kind, outcome.reason) == (OutcomeKind.FAILED, reason)


def test_a_wrong_responder_uses_up_nothing() -> None:
    """K-7.5."""
    made = ChallengeRound(question_of(TOP), RULES)
    handler = handler_of(getter(BLOBS))
    good = trio.run(handler.serve_challenge, ASKER, made.give(0, CHALLENGER).payload)
    assert made.answered(STRANGER, b"rubbish") is None
    effect = made.answered(HOLDER, good)
    assert isinstance(effect, AskReveal)
    assert made.revealed(STRANGER, b"rubbish") is None
    assert made.revealed(HOLDER, trio.run(handler.serve_reveal, ASKER, effect.payload)) == Outcome(OutcomeKind.PASSED)


def test_rubbish_of_the_target_is_a_failure_of_unknown_kind() -> None:
    made = ChallengeRound(question_of(TOP), RULES)
    made.give(0, CHALLENGER)
    outcome = made.answered(HOLDER, b"rubbish")
    assert isinstance(outcome, Outcome)
    assert outcome.reason is FailureReason.UNKNOWN
    handler = handler_of(getter(BLOBS))
    made = ChallengeRound(question_of(TOP), RULES)
    made.answered(HOLDER, trio.run(handler.serve_challenge, ASKER, made.give(0, CHALLENGER).payload))
    shown = made.revealed(HOLDER, b"rubbish")
    assert shown is not None
    assert shown.reason is FailureReason.UNKNOWN


def test_silence_is_offline_then_contained_then_a_time_out() -> None:
    made = ChallengeRound(question_of(TOP), attrs.evolve(RULES, attempts_max=3))
    first = made.give(0, CHALLENGER)
    assert made.silent(is_connected=False).kind is OutcomeKind.OFFLINE
    assert made.silent(is_connected=True).kind is OutcomeKind.CONTAINED
    again = made.give(5_000, CHALLENGER)
    assert opened(first).question == opened(again).question
    assert (opened(first).attempt, opened(again).attempt) == (0, 1)
    made.give(9_000, CHALLENGER)
    last = made.silent(is_connected=True)
    assert (last.kind, last.reason) == (OutcomeKind.FAILED, FailureReason.TIMEOUT)


def test_silence_after_a_commitment_is_contained_even_if_the_target_is_gone() -> None:
    made = ChallengeRound(question_of(TOP), RULES)
    made.answered(HOLDER, trio.run(handler_of(getter(BLOBS)).serve_challenge, ASKER, made.give(0, CHALLENGER).payload))
    assert made.silent(is_connected=False).kind is OutcomeKind.CONTAINED


def test_an_answer_before_the_question_is_a_bug() -> None:
    with pytest.raises(LocalError):
        ChallengeRound(question_of(TOP), RULES).answered(HOLDER, b"")


def opened(ask: AskCommitment) -> StorageChallenge:
    signed = record.from_bytes(Signed, ask.payload, size_max=4096)
    return record.from_bytes(StorageChallenge, signed.body, size_max=4096)


def test_who_kept_only_the_hashes_fails_every_round() -> None:
    """It has the whole tree and every size, knows the range, and signs right; only the bytes of the chunks are gone."""
    manifests = {digest: blob for digest, blob in BLOBS.items() if blob.startswith(b"\xa3\x61v")}
    for number in range(1_000):
        made = ChallengeRound(question_of(TOP, b"%d" % number), RULES)
        challenge = opened(made.give(0, CHALLENGER))
        receipt, proof = answer(challenge, getter(BLOBS), 0, layout=SMALL)
        assert proof is not None
        guess = bytes(cid_of(proof.leaf, Codec.RAW).digest)
        lie = attrs.evolve(receipt, commitment=commitment_of(challenge.question, guess))
        effect = made.answered(HOLDER, record.to_bytes(sign_receipt(lie, GENESIS, TARGET)))
        assert isinstance(effect, AskReveal)
        assert set(proof.path) <= set(manifests.values())
        outcome = made.revealed(HOLDER, record.to_bytes(ChallengeRevealResponse(path=proof.path, leaf=guess)))
        assert outcome is not None
        assert (outcome.kind, outcome.reason) == (OutcomeKind.FAILED, FailureReason.HASH_MISMATCH)


def test_who_echoes_an_earlier_answer_fails() -> None:
    """K-7.1, I-10: a receipt to another question or attempt is none."""
    first = ChallengeRound(question_of(TOP, b"1"), RULES)
    handler = handler_of(getter(BLOBS))
    kept = trio.run(handler.serve_challenge, ASKER, first.give(0, CHALLENGER).payload)
    for made in (ChallengeRound(question_of(TOP, b"2"), RULES), first):
        made.give(0, CHALLENGER)
        outcome = made.answered(HOLDER, kept)
        assert isinstance(outcome, Outcome)
        assert outcome.reason is FailureReason.SIGNATURE_INVALID


def test_who_copies_the_challenge_into_a_receipt_fails() -> None:
    made = ChallengeRound(question_of(TOP), RULES)
    challenge = opened(made.give(0, CHALLENGER))
    receipt, _ = answer(challenge, getter(BLOBS), 0, layout=SMALL)
    echo = attrs.evolve(receipt, commitment=hash32(record.to_bytes(challenge)))
    effect = made.answered(HOLDER, record.to_bytes(sign_receipt(echo, GENESIS, TARGET)))
    assert isinstance(effect, AskReveal)
    reveal = trio.run(handler_after(challenge).serve_reveal, ASKER, effect.payload)
    outcome = made.revealed(HOLDER, reveal)
    assert outcome is not None
    assert outcome.reason is FailureReason.HASH_MISMATCH


def handler_after(challenge: StorageChallenge) -> ChallengeHandler:
    handler = handler_of(getter(BLOBS))
    trio.run(handler.serve_challenge, ASKER, record.to_bytes(sign_challenge(challenge, GENESIS, CHALLENGER)))
    return handler


class LossyLine:
    """Virtual time between one challenger and one responder: requests take a while, or are lost."""

    def __init__(self, random: Random, loss: float, delay_ms_max: int) -> None:
        self.random, self.loss, self.delay_ms_max = random, loss, delay_ms_max
        self.now_ms = 0

    def travel(self) -> bool:
        """Whether one message arrives; time passes either way."""
        if self.random.random() < self.loss:
            return False
        self.now_ms += self.random.randint(0, self.delay_ms_max)
        return True


def line_outcome(made: ChallengeRound, handler: ChallengeHandler, line: LossyLine) -> Outcome:
    """One putting over a lossy line; what is not back within the time to live is no answer."""
    ask: AskCommitment | AskReveal = made.give(line.now_ms, CHALLENGER)
    deadline_ms = line.now_ms + RULES.ttl_ms
    serve, take = handler.serve_challenge, made.answered
    while True:
        if not line.travel():
            break
        try:
            data = run_now(serve, ASKER, ask.payload)
        except Refused as error:
            if not error.retryable:
                raise
            break
        if not line.travel() or line.now_ms > deadline_ms:
            break
        effect = take(HOLDER, data)
        if isinstance(effect, AskReveal):
            ask, serve, take = effect, handler.serve_reveal, made.revealed
            continue
        assert isinstance(effect, Outcome)
        return effect
    line.now_ms = max(line.now_ms, deadline_ms) + 1
    return made.silent(is_connected=True)


def run_now(serve: Callable[[PeerId, bytes], object], peer: PeerId, payload: bytes) -> bytes:
    """A handler that waits for nothing, without a loop of its own."""
    coroutine = serve(peer, payload)
    try:
        coroutine.send(None)  # type: ignore[attr-defined]
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("the handler waits")


def test_an_honest_holder_never_fails_in_ten_thousand_rounds_with_loss_and_delay() -> None:
    random = Random(20)
    line = LossyLine(random, loss=0.03, delay_ms_max=280)
    handler = handler_of(getter(BLOBS), lambda: line.now_ms)
    outcomes: Counter[OutcomeKind] = Counter()
    waiting: list[tuple[int, int, ChallengeRound]] = []
    for number in range(10_000):
        heapq.heappush(waiting, (line.now_ms, number, ChallengeRound(question_of(TOP, b"%d" % number), RULES)))
        while waiting:
            _due, order, made = heapq.heappop(waiting)
            outcome = line_outcome(made, handler, line)
            outcomes[outcome.kind] += 1
            assert outcome.kind is not OutcomeKind.FAILED, outcome
            if outcome.kind is OutcomeKind.CONTAINED:
                heapq.heappush(waiting, (line.now_ms + 500, order, made))
    assert outcomes[OutcomeKind.PASSED] == 10_000
    assert outcomes[OutcomeKind.CONTAINED] > 500, "the line was not lossy"


def test_who_kept_only_ranges_that_were_asked_for_before_fails() -> None:
    """After 2,000 rounds it has most of the bytes of 200,000, and a range that begins elsewhere is another."""
    blob = Random(2).randbytes(200_000)
    content = cid_of(blob, Codec.RAW)
    kept: dict[int, bytes] = {}
    passed = 0
    for number in range(2_000):
        question = question_of(content, b"%d" % number)
        made = ChallengeRound(question, RULES, getter({content.digest: blob}))
        challenge = opened(made.give(0, CHALLENGER))
        receipt, proof = answer(challenge, getter({content.digest: blob}), 0)
        assert proof is not None
        mine = kept.get(proof.place.offset, b"\x00" * proof.place.sample_bytes)
        kept[proof.place.offset] = proof.sample
        lie: ChallengeReceipt = attrs.evolve(receipt, commitment=commitment_of(put(question, 0, 0, 1).question, mine))
        outcome = made.answered(HOLDER, record.to_bytes(sign_receipt(lie, GENESIS, TARGET)))
        assert isinstance(outcome, Outcome)
        passed += outcome.kind is OutcomeKind.PASSED
        assert outcome.reason in (None, FailureReason.HASH_MISMATCH)
    assert passed <= 2_000 * 2_000 // len(blob), "more than the share of ranges that can have been asked for before"

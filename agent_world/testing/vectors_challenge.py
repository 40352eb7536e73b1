"""Vectors of protocols/challenge: challenges a target judges, and answers a challenger judges; each breaks one rule."""

from __future__ import annotations

from typing import Any, Final

import attrs

from agent_world.crypto.hashing import cid_of, hash32
from agent_world.distfs.challenge import answer, challenge_id, put, sign_challenge, sign_receipt
from agent_world.distfs.manifest import ManifestBuilder
from agent_world.errors import BlobNotFound
from agent_world.testing.examples import key_of
from agent_world.wire import record
from agent_world.wire.challenge import (
    ChallengeQuestion,
    ChallengeReceipt,
    ChallengeRevealResponse,
    FailureReason,
    StorageChallenge,
)
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import U16, U32, U64, Hash32, TimeMs, WorldId, peer_id_of
from agent_world.wire.limits import CHALLENGE_TTL_MS_MAX

WORLD: Final = WorldId("w1")
GENESIS: Final = hash32(b"genesis")
NOW_MS: Final = 1_700_000_000_000
SKEW_MS: Final = 5_000
TTL_MS: Final = 30_000
CHALLENGER: Final = key_of("challenger")
TARGET: Final = key_of("target")
BLOB: Final = bytes(range(256)) * 2
_CONTENT: Final = cid_of(BLOB, Codec.RAW)


def question_of(content: Cid, nonce: bytes = b"nonce") -> ChallengeQuestion:
    """A question of the vectors, for this content."""
    return ChallengeQuestion(
        world_id=WORLD,
        challenger=peer_id_of(CHALLENGER.public_key),
        target=peer_id_of(TARGET.public_key),
        content=content,
        max_sample_bytes=U32(100),
        seed_height=U64(0),
        seed_hash=GENESIS,
        nonce=hash32(nonce),
    )


def file_of(data: bytes) -> tuple[Cid, dict[ContentHash, bytes]]:
    """A file manifest over ``data`` with all its blobs."""
    builder = ManifestBuilder()
    blobs = dict([*builder.add(data), *builder.finish()])
    *_others, top = blobs
    return top, {cid.digest: blob for cid, blob in blobs.items()}


def getter(blobs: dict[ContentHash, bytes]) -> Any:
    """A store with these blobs and no others."""

    def get(content: ContentHash) -> bytes:
        if content not in blobs:
            raise BlobNotFound(content.hex())
        return blobs[content]

    return get


def challenge_request_vectors() -> dict[str, Any]:
    """The file ``challenge/vectors/requests.json``."""
    good = put(question_of(_CONTENT), 0, NOW_MS, TTL_MS)
    asked = good.question
    other = peer_id_of(key_of("other").public_key)
    cases: list[tuple[str, StorageChallenge, int, str | None]] = [
        ("right", good, NOW_MS, None),
        ("as early as clocks may differ", good, NOW_MS - SKEW_MS, None),
        ("as late as clocks may differ", good, NOW_MS + TTL_MS + SKEW_MS, None),
        ("put again", attrs.evolve(good, attempt=U16(1)), NOW_MS, None),
        ("of another challenger", _asking(good, challenger=other), NOW_MS, "Q1"),
        ("for another node", _asking(good, target=other), NOW_MS, "Q2"),
        ("in another world", _asking(good, world_id=WorldId("w2")), NOW_MS, "Q2"),
        ("for no bytes", _asking(good, max_sample_bytes=U32(0)), NOW_MS, "Q3"),
        ("for more than a blob", _asking(good, max_sample_bytes=U32(2**20 + 1)), NOW_MS, "Q3"),
        ("that never lasts", attrs.evolve(good, expires_at_ms=good.issued_at_ms), NOW_MS, "Q3"),
        ("that lasts too long", put(asked, 0, NOW_MS, CHALLENGE_TTL_MS_MAX + 1), NOW_MS, "Q3"),
        ("from the future", good, NOW_MS - SKEW_MS - 1, "Q4"),
        ("that has expired", good, NOW_MS + TTL_MS + SKEW_MS + 1, "Q4"),
        ("with another seed", _asking(good, seed_hash=hash32(b"other")), NOW_MS, "Q5"),
        ("with a block that is not there", _asking(good, seed_height=U64(7)), NOW_MS, "Q5"),
    ]
    shown = [
        {"id": what, "signed": record.to_bytes(sign_challenge(each, GENESIS, CHALLENGER)).hex(), "now_ms": now_ms}
        | ({} if rule is None else {"rule": rule})
        for what, each, now_ms, rule in cases
    ]
    foreign = record.to_bytes(sign_challenge(good, hash32(b"other"), CHALLENGER)).hex()
    shown.append({"id": "signed for another world", "signed": foreign, "now_ms": NOW_MS, "rule": "Q1"})
    shown.append({**shown[0], "id": "answered before", "twice": True, "rule": "Q6"})
    shown.append({**shown[0], "id": "shown to another peer", "reveal_to": other, "rule": "Q7"})
    return {
        "about": "Whether `target`, a node of world `world_id` and `genesis_hash` that has committed no block and "
        "holds `blob`, answers `signed` from `challenger` at `now_ms`, or refuses by exactly `rule`; with `twice` "
        "the second time, with `reveal_to` when that peer asks for the reveal.",
        "world_id": WORLD,
        "genesis_hash": GENESIS.hex(),
        "challenger": asked.challenger,
        "target_seed": TARGET.seed.hex(),
        "skew_ms": SKEW_MS,
        "blob": BLOB.hex(),
        "cases": shown,
    }


def _asking(challenge: StorageChallenge, **changes: Any) -> StorageChallenge:
    return attrs.evolve(challenge, question=attrs.evolve(challenge.question, **changes))


def challenge_answer_vectors() -> dict[str, Any]:
    """The file ``challenge/vectors/answers.json``."""
    top, blobs = file_of(BLOB[::-1])
    cases = [
        *_answers("a blob", question_of(_CONTENT), {_CONTENT.digest: BLOB}),
        *_answers("a file", question_of(top), blobs),
        *_answers("nothing", question_of(cid_of(b"", Codec.RAW)), {cid_of(b"", Codec.RAW).digest: b""})[:1],
    ]
    return {
        "about": "Whether the answer `signed` and the reveal (`path`, `leaf`) to the encoded StorageChallenge "
        "`challenge` pass, or break exactly `rule` for `reason`.",
        "genesis_hash": GENESIS.hex(),
        "skew_ms": SKEW_MS,
        "cases": cases,
    }


def _answers(what: str, question: ChallengeQuestion, blobs: dict[ContentHash, bytes]) -> list[dict[str, Any]]:
    challenge = put(question, 0, NOW_MS, TTL_MS)
    receipt, proof = answer(challenge, getter(blobs), NOW_MS)
    assert proof is not None
    reveal = ChallengeRevealResponse(path=proof.path, leaf=proof.leaf)
    late = NOW_MS + TTL_MS + SKEW_MS
    moved = U64((receipt.sample_offset + 1) % 400)
    wrong_leaf = attrs.evolve(reveal, leaf=reveal.leaf + b"\x00")
    asked = attrs.evolve(receipt, challenge_id=hash32(b"other"))
    missing = FailureReason.MISSING_SAMPLE
    cases: list[tuple[str, ChallengeReceipt, ChallengeRevealResponse, str, FailureReason]] = [
        ("for another question", asked, reveal, "Q8", FailureReason.SIGNATURE_INVALID),
        ("for another attempt", attrs.evolve(receipt, attempt=U16(1)), reveal, "Q8", FailureReason.SIGNATURE_INVALID),
        ("with other bytes", receipt, wrong_leaf, "Q9", FailureReason.HASH_MISMATCH),
        ("without a commitment", attrs.evolve(receipt, commitment=None), reveal, "Q10", FailureReason.UNKNOWN),
        ("with a reason", attrs.evolve(receipt, failure_reason=missing), reveal, "Q10", missing),
        ("too late", _at(receipt, late + 1), reveal, "Q11", FailureReason.TIMEOUT),
        ("too early", _at(receipt, NOW_MS - SKEW_MS - 1), reveal, "Q11", FailureReason.TIMEOUT),
        ("with another range", attrs.evolve(receipt, sample_offset=moved), reveal, "Q12", missing),
        ("with another size", attrs.evolve(receipt, size_bytes=U64(5)), reveal, "Q12", missing),
        ("to other bytes", attrs.evolve(receipt, commitment=hash32(b"x")), reveal, "Q13", FailureReason.HASH_MISMATCH),
    ]
    shown = [_case(f"{what}: right", challenge, receipt, reveal, None)]
    shown.append(_case(f"{what}: as late as may be", challenge, _at(receipt, late), reveal, None))
    shown += [_case(f"{what}: {how}", challenge, given, bare, rule, why) for how, given, bare, rule, why in cases]
    foreign = sign_receipt(receipt, GENESIS, CHALLENGER)
    forged = {**shown[0], "id": f"{what}: signed by another", "signed": record.to_bytes(foreign).hex(), "rule": "Q8"}
    return [*shown, forged | {"reason": FailureReason.SIGNATURE_INVALID.value}]


def _at(receipt: ChallengeReceipt, time_ms: int) -> ChallengeReceipt:
    return attrs.evolve(receipt, responded_at_ms=TimeMs(time_ms))


def _case(
    what: str,
    challenge: StorageChallenge,
    receipt: ChallengeReceipt,
    reveal: ChallengeRevealResponse,
    rule: str | None,
    reason: FailureReason | None = None,
) -> dict[str, Any]:
    case: dict[str, Any] = {
        "id": what,
        "challenge": record.to_bytes(challenge).hex(),
        "challenge_id": challenge_id(challenge.question).hex(),
        "signed": record.to_bytes(sign_receipt(receipt, Hash32(GENESIS), TARGET)).hex(),
        "path": [node.hex() for node in reveal.path],
        "leaf": reveal.leaf.hex(),
    }
    return case if rule is None or reason is None else {**case, "rule": rule, "reason": reason.value}

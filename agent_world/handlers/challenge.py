"""protocols/challenge: commit to a range of held content, then show it to who asked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, is_valid
from agent_world.distfs.challenge import Failed, answer, challenge_id, find_proof, sign_receipt
from agent_world.distfs.manifest import STANDARD, Layout
from agent_world.errors import BlobHashMismatch, BlobNotFound, ErrorCode, Refused
from agent_world.wire import record
from agent_world.wire.challenge import (
    ChallengeQuestion,
    ChallengeRevealRequest,
    ChallengeRevealResponse,
    StorageChallenge,
)
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import Hash32, PeerId, WorldId, node_key_of
from agent_world.wire.limits import BLOB_BYTES_MAX, CHALLENGE_TTL_MS_MAX, HEADER_BYTES_MAX
from agent_world.wire.signed import Signed

SEEN_MAX: Final = 16_384
"""Puttings remembered so that none is answered twice; the oldest is forgotten, and time refuses it mostly by then."""
OPEN_MAX: Final = 1_024
"""Commitments that may still be asked to be shown; the oldest is forgotten."""
OPEN_PER_PEER_MAX: Final = 64
"""Of one challenger, so that none pushes out the others'."""


class ChallengeHost(Protocol):
    """What the handler needs of its node."""

    @property
    def world_id(self) -> WorldId:
        """Of the node's world."""
        ...

    @property
    def genesis_hash(self) -> Hash32:
        """Of the node's world."""
        ...

    def block_hash(self, height: int) -> Hash32 | None:
        """Hash of a committed block; None if it is not committed here."""
        ...

    def read(self, content: ContentHash) -> bytes:
        """A blob; raises BlobNotFound, BlobHashMismatch or OSError."""
        ...


class ChallengeHandler:
    """Serves challenge and challenge_reveal for one node; ``key`` is its node key."""

    def __init__(
        self,
        own: tuple[PeerId, KeyPair],
        host: ChallengeHost,
        now_ms: Callable[[], int],
        *,
        skew_ms: int,
        layout: Layout = STANDARD,
    ) -> None:
        self._own, self._key = own
        self._host = host
        self._now_ms = now_ms
        self._skew_ms = skew_ms
        self._layout = layout
        self._seen: OrderedDict[tuple[Hash32, int], None] = OrderedDict()
        self._open: OrderedDict[tuple[PeerId, Hash32], ChallengeQuestion] = OrderedDict()
        self._of_peer: dict[PeerId, OrderedDict[Hash32, None]] = {}
        """The keys of ``_open`` again, by peer; oldest first, like all of these."""
        self.count: Callable[[str], None] = lambda _name: None
        """Told the name of everything that is answered, refused or forgotten."""

    async def serve_challenge(self, peer: PeerId, data: bytes) -> bytes:
        """challenge."""
        try:
            challenge = self._judge(peer, data)
        except Refused as error:
            self.count(f"challenge.refused.{error.rule}")
            raise
        receipt, proof = answer(challenge, self._host.read, self._now_ms(), layout=self._layout)
        reason = receipt.failure_reason
        self.count("challenge.answered" if reason is None else f"challenge.answered.{reason.value}")
        if proof is not None:
            self._remember(peer, challenge.question)
        return record.to_bytes(sign_receipt(receipt, self._host.genesis_hash, self._key))

    async def serve_reveal(self, peer: PeerId, data: bytes) -> bytes:
        """challenge_reveal."""
        request = record.from_bytes(ChallengeRevealRequest, data, size_max=HEADER_BYTES_MAX)
        question = self._open.get((peer, request.challenge_id))
        # [IGNORE] Q7: the peer was given a commitment to this challenge, and it is remembered still.
        if question is None:
            self.count("challenge.refused.Q7")
            raise Refused(ErrorCode.NOT_AVAILABLE, "no commitment to this challenge is remembered", rule="Q7")
        try:
            proof = find_proof(question, self._host.read, layout=self._layout)
        except (BlobNotFound, BlobHashMismatch, OSError, Failed) as error:
            self.count("challenge.lost_since_commitment")
            raise Refused(ErrorCode.NOT_AVAILABLE, f"it could be read a moment ago: {error}") from None
        return record.to_bytes(ChallengeRevealResponse(path=proof.path, leaf=proof.leaf))

    def _judge(self, peer: PeerId, data: bytes) -> StorageChallenge:
        signed = record.from_bytes(Signed, data, size_max=HEADER_BYTES_MAX)
        challenge = record.from_bytes(StorageChallenge, signed.body, size_max=HEADER_BYTES_MAX)
        check_challenge(challenge, signed, (peer, self._own), (self._host.world_id, self._host.genesis_hash))
        # [IGNORE] Q4: it is asked between issue and expiry, both included, with the clocks' allowed difference.
        now_ms = self._now_ms()
        if not challenge.issued_at_ms - self._skew_ms <= now_ms <= challenge.expires_at_ms + self._skew_ms:
            raise Refused(ErrorCode.TIMEOUT, f"it is {now_ms} here, outside of the challenge's time", rule="Q4")
        # [IGNORE] Q5: the seed is the hash of a block committed here at that height.
        if self._host.block_hash(challenge.question.seed_height) != challenge.question.seed_hash:
            raise Refused(ErrorCode.NOT_AVAILABLE, "the seed is not of a block committed here", rule="Q5")
        # [IGNORE] Q6: this putting was not answered before.
        key = (challenge_id(challenge.question), int(challenge.attempt))
        if key in self._seen:
            raise Refused(ErrorCode.BAD_REQUEST, "this challenge was answered already", rule="Q6")
        self._seen[key] = None
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)
            self.count("challenge.seen_forgotten")
        return challenge

    def _remember(self, peer: PeerId, question: ChallengeQuestion) -> None:
        name = challenge_id(question)
        self._forget(peer, name)
        self._open[peer, name] = question
        mine = self._of_peer.setdefault(peer, OrderedDict())
        mine[name] = None
        if len(mine) > OPEN_PER_PEER_MAX:
            surplus = (peer, next(iter(mine)))
        elif len(self._open) > OPEN_MAX:
            surplus = next(iter(self._open))
        else:
            return
        self._forget(*surplus)
        self.count("challenge.open_forgotten")

    def _forget(self, peer: PeerId, name: Hash32) -> None:
        if self._open.pop((peer, name), None) is not None:
            del self._of_peer[peer][name]
            if not self._of_peer[peer]:
                del self._of_peer[peer]


def check_challenge(
    challenge: StorageChallenge, signed: Signed, ends: tuple[PeerId, PeerId], world: tuple[WorldId, Hash32]
) -> None:
    """Raise Refused unless this is a challenge by the first of ``ends`` to the second, in ``world`` (id, genesis)."""
    question = challenge.question
    asker, own = ends
    # [REJECT] Q1: it is signed with the node key of the challenger, who is the peer that asks.
    if question.challenger != asker or signed.key != node_key_of(asker):
        raise Refused(ErrorCode.UNAUTHORIZED, "the challenger is not the peer that asks", rule="Q1")
    if not is_valid(Domain.CHALLENGE, world[1], signed.body, signed.key, signed.sig):
        raise Refused(ErrorCode.UNAUTHORIZED, "the challenge's signature does not verify in this world", rule="Q1")
    # [REJECT] Q2: it is for this node, in this world.
    if question.target != own or question.world_id != world[0]:
        raise Refused(ErrorCode.BAD_REQUEST, "the challenge is for another node or world", rule="Q2")
    # [REJECT] Q3: range and time are within their bounds: 1 byte to a blob, and 1 to 600,000 ms.
    lasts_ms = challenge.expires_at_ms - challenge.issued_at_ms
    if not 1 <= question.max_sample_bytes <= BLOB_BYTES_MAX or not 1 <= lasts_ms <= CHALLENGE_TTL_MS_MAX:
        raise Refused(ErrorCode.BAD_REQUEST, "its range or its time is out of bounds", rule="Q3")

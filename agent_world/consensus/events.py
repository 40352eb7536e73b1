"""Inputs and effects of the round engine: everything it hears and everything it asks for (P1)."""

from __future__ import annotations

from enum import StrEnum

import attrs

from agent_world.consensus.context import HeightContext
from agent_world.consensus.guard import GuardState
from agent_world.consensus.guard_records import SignRequest
from agent_world.consensus.messages import EarlyMessage, VerifiedProposal, VerifiedVote
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import Hash32, PublicKey


@attrs.frozen(slots=True)
class StartHeight:
    """Decide this height from now on; the previous one is committed and durable.

    ``restored`` is the guard's state. It matters after a restart, for the height that was being decided then: own
    messages, lock and valid value come back and are sent again. It may be given at every height.
    """

    context: HeightContext
    restored: GuardState | None = None


@attrs.frozen(slots=True)
class WorkAvailable:
    """There are actions to order; holds until the height moves."""


@attrs.frozen(slots=True)
class BlockBuilt:
    """Answer to BuildBlock: the encoded WorldBlock, executed here, and its action ids in order."""

    height: int
    round: int
    block: bytes
    actions: tuple[ContentHash, ...]


@attrs.frozen(slots=True)
class BlockJudged:
    """Answer to JudgeBlock: whether execution gives the roots that the header states, and its time is allowed.

    Every JudgeBlock needs one. None means that it could not be judged, since action bodies or blobs were not to be
    had in time: that is no verdict, and the engine asks again at its next re-broadcast if it still wants to know.
    """

    height: int
    block_hash: Hash32
    valid: bool | None


@attrs.frozen(slots=True)
class ProposalReceived:
    """A proposal that ``open_message`` has verified."""

    proposal: VerifiedProposal


@attrs.frozen(slots=True)
class VoteReceived:
    """A vote that ``open_message`` has verified."""

    vote: VerifiedVote


@attrs.frozen(slots=True)
class EarlyReceived:
    """A message of one of the next heights, kept until then."""

    message: EarlyMessage


@attrs.frozen(slots=True)
class OwnSigned:
    """Answer to Sign: the encoded Signed, durable in the guard. The engine broadcasts and counts it."""

    data: bytes


@attrs.frozen(slots=True)
class LinkChanged:
    """A validator's link has ended, or it is linked again: its proposals are waited for as long as that suggests.

    A hint: no safety rests on it, and a validator that was never linked needs no such input.
    """

    key: PublicKey
    is_linked: bool


@attrs.frozen(slots=True)
class Wake:
    """``wake_at_ms`` has come."""


Input = (
    StartHeight
    | WorkAvailable
    | BlockBuilt
    | BlockJudged
    | ProposalReceived
    | VoteReceived
    | EarlyReceived
    | OwnSigned
    | LinkChanged
    | Wake
)


@attrs.frozen(slots=True)
class BuildBlock:
    """Cut a batch, execute it and answer with BlockBuilt; no answer means no proposal in this round."""

    height: int
    round: int
    slot: int


@attrs.frozen(slots=True)
class JudgeBlock:
    """Fetch what is missing, execute, compare, and answer with BlockJudged.

    ``fresh``: also refuse a time above max(parent's + 1, local clock + drift_max_ms) (D4 "Time").
    """

    height: int
    block_hash: Hash32
    block: bytes
    actions: tuple[ContentHash, ...]
    fresh: bool


@attrs.frozen(slots=True)
class Sign:
    """Let the guard sign, in the order of the effects; answer with OwnSigned, or not at all if it raised NotSafe."""

    request: SignRequest


@attrs.frozen(slots=True)
class Broadcast:
    """Send to every validator and observer that is connected; durable since before."""

    data: bytes


@attrs.frozen(slots=True)
class Commit:
    """The height is decided: store all in one transaction, then answer with StartHeight of the next."""

    height: int
    block_hash: Hash32
    block: bytes
    actions: tuple[ContentHash, ...]
    certificate: bytes


@attrs.frozen(slots=True)
class NeedBlock:
    """The height is decided for a block whose bytes are not here: fetch by range, commit, StartHeight.

    Repeated at the re-broadcast interval. If its proposal arrives after all, Commit follows.
    """

    height: int
    block_hash: Hash32
    certificate: bytes


@attrs.frozen(slots=True)
class EvidenceFound:
    """Two different encoded Signed messages of one validator for one (height, round, step)."""

    first: bytes
    second: bytes


class Drop(StrEnum):
    """Why the engine threw something away; each is counted by the shell."""

    STALE_HEIGHT = "stale_height"
    NO_HEIGHT = "no_height"
    DUPLICATE = "duplicate"
    CONFLICTING = "conflicting"
    """A second message for one (height, round, step): evidence, not counted."""
    ROUND_TOO_OLD = "round_too_old"
    FUTURE_ROUNDS_FULL = "future_rounds_full"
    """The validator's lowest future round gave way to a higher one."""
    EARLY_FULL = "early_full"
    EARLY_INVALID = "early_invalid"
    """An early message broke a rule once its height had come."""
    BLOCKS_FULL = "blocks_full"
    LATE_BLOCK = "late_block"
    """A block was built or judged that nobody waits for any more."""
    BUILT_INVALID = "built_invalid"
    """The block built here breaks a rule of proposals; not signed."""
    OWN_INVALID = "own_invalid"
    """Own stored bytes do not fit this height; not sent."""
    KEY_ELSEWHERE = "key_elsewhere"
    """A newer message by our key that we did not sign: another process has it. Nothing more is signed here."""


@attrs.frozen(slots=True)
class Dropped:
    """Something was thrown away."""

    reason: Drop
    detail: str = ""


Effect = BuildBlock | JudgeBlock | Sign | Broadcast | Commit | NeedBlock | EvidenceFound | Dropped

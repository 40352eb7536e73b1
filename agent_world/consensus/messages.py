"""Signed proposals and votes, verified: the numbered rules of protocols/consensus.

An ``open_`` function takes bytes from the network and returns a value whose type says that it was checked. It
raises RemoteError for what breaks a rule (Verdict.REJECT) and Ignored for what is not for now (Verdict.IGNORE).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, TypeVar

import attrs

from agent_world.consensus.context import HeightContext
from agent_world.crypto.hashing import cid_of, hash32
from agent_world.crypto.signing import Domain, is_valid
from agent_world.errors import DecodeError, Ignored, RemoteError
from agent_world.wire import cbor, record
from agent_world.wire.block import WorldBlock, action_list_bytes, world_block
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.consensus import Proposal, Step, ValidatorEntry, Vote, VoteSignature
from agent_world.wire.ids import Hash32, PublicKey
from agent_world.wire.limits import BLOCK_ACTIONS_MAX, PROPOSAL_BYTES_MAX, VOTE_BYTES_MAX
from agent_world.wire.signed import Signed

EARLY_HEIGHTS_MAX: Final = 2
"""Messages up to this many heights ahead wait for their height; whoever is further behind syncs by range."""
VOTES_KEPT: Final = 64
"""Decoded bodies of votes kept: all votes for one block in one round have the same."""

R = TypeVar("R")


class FarAhead(Ignored):
    """A message for a height that this node will not reach by voting: if it is true, this node is behind."""


@attrs.frozen(slots=True, kw_only=True)
class VerifiedVote:
    """A vote that a member of the height's set has signed."""

    vote: Vote
    validator: ValidatorEntry
    signature: VoteSignature
    body: bytes
    """Encoded Vote: the same bytes for the same vote of any validator."""
    data: bytes
    """Encoded Signed, as received."""


@attrs.frozen(slots=True, kw_only=True)
class VerifiedProposal:
    """A proposal that its round's proposer has signed, around a block whose header fits the height."""

    proposal: Proposal
    validator: ValidatorEntry
    block: WorldBlock
    block_hash: Hash32
    data: bytes
    """Encoded Signed, as received."""


@attrs.frozen(slots=True, kw_only=True)
class EarlyMessage:
    """A message of one of the next heights: signed by a member of this height's set, judged when it is due."""

    height: int
    key: PublicKey
    data: bytes


Message = VerifiedVote | VerifiedProposal | EarlyMessage


def open_message(data: bytes, context: HeightContext, *, verified: PublicKey | None = None) -> Message:
    """Open a signed proposal or vote, whichever it is; one of the next heights becomes an EarlyMessage.

    ``verified`` says that the guard of this key has just signed these bytes, or that its signature of them was
    verified before: then it is not verified again.
    """
    signed = _decode(Signed, data, PROPOSAL_BYTES_MAX, "P1")
    body: Vote | Proposal
    if _is_vote(signed.body):
        body = _vote_body(data, signed)
    else:
        body = _decode(Proposal, signed.body, PROPOSAL_BYTES_MAX, "P1")
    if context.height < body.height <= context.height + EARLY_HEIGHTS_MAX:
        return _open_early(data, signed, body, context)
    if isinstance(body, Vote):
        return _check_vote(data, signed, body, context, verified)
    return _check_proposal_message(data, signed, body, context, verified)


def _is_vote(body: bytes) -> bool:
    """Whether a body is to be judged as a vote; one that is neither a vote nor a proposal breaks either's rules."""
    if len(body) <= VOTE_BYTES_MAX:
        try:
            _vote_of(body)
        except DecodeError:
            pass  # then its fields say what it was meant to be
        else:
            return True
    try:
        fields = cbor.decode(body, size_max=PROPOSAL_BYTES_MAX)
    except DecodeError as error:
        raise DecodeError("P1", f"{error.rule}: {error.detail}") from None
    return type(fields) is dict and "step" in fields


def _not_now(rule: str, what: str, height: int, own_height: int) -> Ignored:
    kind = FarAhead if height > own_height + EARLY_HEIGHTS_MAX else Ignored
    return kind(rule, f"{what} for height {height} at height {own_height}")


def open_vote(data: bytes, context: HeightContext) -> VerifiedVote:
    """A vote of ``context.height``; raises RemoteError or Ignored with rules V1 to V6."""
    signed = _decode(Signed, data, VOTE_BYTES_MAX, "V1")
    return _check_vote(data, signed, _vote_body(data, signed), context)


def open_proposal(data: bytes, context: HeightContext) -> VerifiedProposal:
    """A proposal of ``context.height``; raises RemoteError or Ignored with rules P1 to P15.

    What needs execution or a wall clock (roots, time not too far ahead) is not judged here.
    """
    # [REJECT] P1: a strict Signed of at most PROPOSAL_BYTES_MAX around a strict Proposal.
    signed = _decode(Signed, data, PROPOSAL_BYTES_MAX, "P1")
    proposal = _decode(Proposal, signed.body, PROPOSAL_BYTES_MAX, "P1")
    return _check_proposal_message(data, signed, proposal, context)


def _check_proposal_message(
    data: bytes, signed: Signed, proposal: Proposal, context: HeightContext, verified: PublicKey | None = None
) -> VerifiedProposal:
    # [REJECT] P2: the proposal is of this world.
    if proposal.world_id != context.world_id:
        raise RemoteError("P2", f"a proposal of world {proposal.world_id!r}")
    # [IGNORE] P3: it is for the height that is being decided.
    if proposal.height != context.height:
        raise _not_now("P3", "a proposal", proposal.height, context.height)
    # [REJECT] P4: the signer is in the height's validator set.
    validator = context.validators.by_key(signed.key)
    if validator is None:
        raise RemoteError("P4", f"key {signed.key.hex()} is not in the validator set")
    # [REJECT] P5: the signature verifies.
    known = signed.key == verified
    if not known and not is_valid(Domain.PROPOSAL, context.genesis_hash, signed.body, signed.key, signed.sig):
        raise RemoteError("P5", f"the signature of {validator.validator_id} does not verify")
    # [REJECT] P6: the signer is the proposer of the proposal's round.
    expected = context.proposer(proposal.round)  # after the signature, so that only members can cause draws
    if validator.validator_id != expected:
        raise RemoteError("P6", f"{validator.validator_id} proposes in round {proposal.round}, which is {expected}'s")
    block = check_proposal(proposal, context)
    return VerifiedProposal(
        proposal=proposal, validator=validator, block=block, block_hash=hash32(proposal.block), data=data
    )


def check_proposal(proposal: Proposal, context: HeightContext) -> WorldBlock:
    """The block inside, if block and proposal fit the height; also run on an own block before it is signed."""
    # [REJECT] P7: the block is a strict WorldBlock of at most HEADER_BYTES_MAX.
    try:
        block = world_block(proposal.block)
    except DecodeError as error:
        raise DecodeError("P7", f"{error.rule}: {error.detail}") from None
    # [REJECT] P8: it is of this world and height, on top of the parent block.
    told = (block.world_id, block.height, block.prev_block_hash)
    if told != (context.world_id, context.height, context.parent_hash):
        raise RemoteError("P8", "the block is of another world or height, or on another parent")
    # [REJECT] P9: its slot is the parent's + 1 + its round, its epoch that of the parent's slot + 1.
    if (block.slot, block.epoch) != (context.slot(block.round), context.epoch):
        raise RemoteError("P9", f"slot {block.slot} and epoch {block.epoch} do not follow from the parent")
    # [REJECT] P10: a fresh block is of the proposal's round; one proposed again is of a round not after valid_round.
    if proposal.valid_round is None:
        if block.round != proposal.round:
            raise RemoteError("P10", f"a fresh block of round {block.round} in round {proposal.round}")
    elif not block.round <= proposal.valid_round < proposal.round:
        raise RemoteError(
            "P10", f"rounds {block.round} (block), {proposal.valid_round} (valid), {proposal.round} do not ascend"
        )
    # [REJECT] P11: the block names the proposer of its round.
    if block.proposer_id != context.proposer(block.round):
        raise RemoteError("P11", f"{block.proposer_id} is not the proposer of round {block.round}")
    # [REJECT] P12: it names the set of this height and the set of the next.
    next_hash = context.next_set_after(block.slot)
    if (block.validators_hash, block.next_validators_hash) != (context.validators.hash, next_hash):
        raise RemoteError("P12", "the block names another validator set")
    # [REJECT] P13: its time is later than the parent's.
    if block.timestamp_ms <= context.parent_timestamp_ms:
        raise RemoteError("P13", f"time {block.timestamp_ms} is not after {context.parent_timestamp_ms}")
    # [REJECT] P14: at most BLOCK_ACTIONS_MAX actions, none twice.
    if len(proposal.actions) > BLOCK_ACTIONS_MAX or len(set(proposal.actions)) != len(proposal.actions):
        raise RemoteError("P14", "too many actions, or one of them twice")
    # [REJECT] P15: the listed actions are those that the block links to.
    if action_root_of(proposal.actions) != block.action_root:
        raise RemoteError("P15", "the listed actions are not those of the block's action_root")
    return block


def action_root_of(actions: tuple[ContentHash, ...]) -> Cid:
    """Link to the ActionList of these action ids."""
    return cid_of(action_list_bytes(actions))


def _decode(kind: type[R], data: bytes, size_max: int, rule: str) -> R:
    try:
        return record.from_bytes(kind, data, size_max=size_max)
    except DecodeError as error:
        raise DecodeError(rule, f"{error.rule}: {error.detail}") from None


def _vote_body(data: bytes, signed: Signed) -> Vote:
    # [REJECT] V1: a strict Signed of at most VOTE_BYTES_MAX around a strict Vote.
    if len(data) > VOTE_BYTES_MAX:
        raise DecodeError("V1", f"a vote of {len(data)} bytes")
    try:
        return _vote_of(signed.body)
    except DecodeError as error:
        raise DecodeError("V1", f"{error.rule}: {error.detail}") from None


@lru_cache(maxsize=VOTES_KEPT)
def _vote_of(body: bytes) -> Vote:
    return record.from_bytes(Vote, body, size_max=VOTE_BYTES_MAX)


def _check_vote(
    data: bytes, signed: Signed, vote: Vote, context: HeightContext, verified: PublicKey | None = None
) -> VerifiedVote:
    # [REJECT] V2: the vote is of this world.
    if vote.world_id != context.world_id:
        raise RemoteError("V2", f"a vote of world {vote.world_id!r}")
    # [REJECT] V3: its step is prevote or precommit.
    if vote.step is Step.PROPOSE:
        raise RemoteError("V3", "a vote of step propose")
    # [IGNORE] V4: it is for the height that is being decided.
    if vote.height != context.height:
        raise _not_now("V4", "a vote", vote.height, context.height)
    # [REJECT] V5: the signer is in the height's validator set.
    validator = context.validators.by_key(signed.key)
    if validator is None:
        raise RemoteError("V5", f"key {signed.key.hex()} is not in the validator set")
    # [REJECT] V6: the signature verifies.
    known = signed.key == verified
    if not known and not is_valid(Domain.VOTE, context.genesis_hash, signed.body, signed.key, signed.sig):
        raise RemoteError("V6", f"the signature of {validator.validator_id} does not verify")
    signature = VoteSignature(key=signed.key, sig=signed.sig)
    return VerifiedVote(vote=vote, validator=validator, signature=signature, body=signed.body, data=data)


def _open_early(data: bytes, signed: Signed, body: Vote | Proposal, context: HeightContext) -> EarlyMessage:
    is_vote = isinstance(body, Vote)
    if body.world_id != context.world_id:
        raise RemoteError("V2" if is_vote else "P2", f"a message of world {body.world_id!r}")
    # [IGNORE] V7: an early message waits only if a member of the current set has signed it, so that strangers
    # cannot fill the buffer; a member who is new at that height sends its message again.
    domain = Domain.VOTE if is_vote else Domain.PROPOSAL
    known = context.validators.by_key(signed.key) is not None
    if not known or not is_valid(domain, context.genesis_hash, signed.body, signed.key, signed.sig):
        raise Ignored("V7", f"an early message for height {body.height} by nobody of the current set")
    return EarlyMessage(height=body.height, key=signed.key, data=data)

"""The pure part of the vote guard: what may be signed after what was signed before (D4 "Guard", P9).

How it is used, by the store that owns the files::

    permit = check(state, request)                       # NotSafe: nothing is signed
    if permit.stored is not None: return permit.stored   # signed before: the same bytes again
    signed = sign_with_permit(permit, genesis_hash, key)
    made = record_for(state, request, signed)            # one transaction, fsynced in both files ...
    state = apply(state, made)
    return signed                                        # ... and only now may the bytes leave

At start: ``merge_stricter(state_of(database), state_of(twin))``; where the two differed, rewrite both with
``records_of`` of the merged state.

What others have committed, what another copy of the guard tells and what was lost raise the *sign floor* by a
``floor_record``. A guard that does not know all that it has signed is *watching*: it signs nothing until its owner
names a height that begins only now.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from agent_world.consensus.guard_records import STEP_ORDER, GuardEntry, GuardRecord, Lock, SignRequest, ValidValue
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, sign
from agent_world.errors import DataError, DecodeError, LocalError, NotSafe
from agent_world.wire import record
from agent_world.wire.consensus import Proposal, Step, Vote
from agent_world.wire.ids import U64, Hash32
from agent_world.wire.limits import PROPOSAL_BYTES_MAX, VOTE_BYTES_MAX
from agent_world.wire.signed import Signed

GUARD_HEIGHTS_MAX: Final = 4
"""Heights whose signed bytes are kept: the current one, and some for evidence and for looking into a fault.
Nothing below the highest height is ever signed, so older entries protect nothing."""
GUARD_ENTRIES_MAX: Final = 48
"""Entries kept (16 rounds of three steps), the newest. A height's rounds only go up, so the newest entry alone decides
what is safe; the others are there to be sent again."""


@attrs.frozen(slots=True, kw_only=True)
class GuardState:
    """All that decides whether a signature is safe."""

    sequence: int = 0
    """Number of records applied; 0 for a guard that has never allowed anything."""
    sign_floor: int = 0
    """Nothing new is signed at this height or below: it was committed, or may have been signed at before."""
    watching: bool = False
    """Nothing new is signed at all: not everything that was signed is known, and so not up to which height."""
    entries: tuple[GuardEntry, ...] = ()
    """The last ones, ascending by (height, round, step)."""
    lock: Lock | None = None
    """Lock of ``height``."""
    valid: ValidValue | None = None
    """Valid value of ``height``."""

    @property
    def height(self) -> int:
        """Highest height that something was signed at; 0 if nothing was."""
        return self.entries[-1].height if self.entries else 0

    def entries_at(self, height: int) -> tuple[GuardEntry, ...]:
        """What was signed at one height, ascending by (round, step)."""
        return tuple(entry for entry in self.entries if entry.height == height)


_MADE_HERE: Final = object()


class Permit:
    """Leave to sign one request. Only ``check`` makes one: the key signs nothing that the guard has not seen."""

    __slots__ = ("request", "stored")

    def __init__(self, request: SignRequest, stored: bytes | None, made_here: object) -> None:
        if made_here is not _MADE_HERE:
            raise LocalError("a Permit comes from guard.check only")
        self.request = request
        self.stored = stored
        """The bytes signed earlier for the same body; then nothing is signed or stored again."""


def check(state: GuardState, request: SignRequest) -> Permit:
    """Allow a signature, or raise NotSafe if it could contradict what was signed before.

    Raises LocalError if the request's body is not what its other fields say.
    """
    _check_body(request)
    for entry in state.entries:
        if (entry.height, entry.round, entry.step) == (request.height, request.round, request.step):
            if record.from_bytes(Signed, entry.signed, size_max=PROPOSAL_BYTES_MAX).body == request.body:
                return Permit(request, entry.signed, _MADE_HERE)
            raise NotSafe(f"{_name(request)}: another {request.step} was signed there before")
    if state.watching:
        raise NotSafe(f"{_name(request)}: not all that was signed is known; the guard waits for a height that begins")
    if request.height <= state.sign_floor:
        raise NotSafe(f"{_name(request)}: nothing may be signed up to height {state.sign_floor}")
    if request.height < state.height:
        raise NotSafe(f"{_name(request)}: height {state.height} was signed at already")
    if request.height == state.height:
        _check_same_height(state, request)
    if request.step is Step.PRECOMMIT and request.block_hash is not None:
        own_lock = Lock(round=request.round, block_hash=request.block_hash)
        if request.lock != own_lock:
            raise NotSafe(f"{_name(request)}: a precommit for a block must lock it in its round")
    return Permit(request, None, _MADE_HERE)


def _check_same_height(state: GuardState, request: SignRequest) -> None:
    last = state.entries[-1]
    if (request.round, STEP_ORDER[request.step]) < (last.round, STEP_ORDER[last.step]):
        raise NotSafe(f"{_name(request)}: round {last.round} {last.step} was signed already")
    lock = state.lock
    if lock is not None:
        if request.lock is None or request.lock.round < lock.round:
            raise NotSafe(f"{_name(request)}: the lock of round {lock.round} would be lost")
        if request.lock.round == lock.round and request.lock.block_hash != lock.block_hash:
            raise NotSafe(f"{_name(request)}: the lock of round {lock.round} would change its block")
        if request.step is Step.PREVOTE and request.block_hash not in (None, lock.block_hash):
            proof_round = request.unlock_round
            if proof_round is None or not lock.round <= proof_round < request.round:
                raise NotSafe(f"{_name(request)}: a prevote against the lock of round {lock.round} without proof")
    valid = state.valid
    if valid is not None and (request.valid is None or request.valid.round < valid.round):
        raise NotSafe(f"{_name(request)}: the valid value of round {valid.round} would be lost")


def _check_body(request: SignRequest) -> None:
    """The body must be the message that the request's fields describe, whoever filled them in."""
    body: Proposal | Vote
    try:
        if request.step is Step.PROPOSE:
            body = record.from_bytes(Proposal, request.body, size_max=PROPOSAL_BYTES_MAX)
            same = True
        else:
            body = record.from_bytes(Vote, request.body, size_max=VOTE_BYTES_MAX)
            same = (body.step, body.block_hash) == (request.step, request.block_hash)
    except DecodeError as error:
        raise LocalError(f"{_name(request)}: the body does not decode: {error}") from None
    if not same or (body.height, body.round) != (request.height, request.round):
        raise LocalError(f"{_name(request)}: the body is for another height, round, step or block")


def _name(request: SignRequest) -> str:
    return f"{request.step} at height {request.height} round {request.round}"


def sign_with_permit(permit: Permit, genesis_hash: Hash32, key: KeyPair) -> bytes:
    """Encoded Signed of the permitted body: no other function signs a proposal or a vote with the validator key.

    Deterministic. The bytes must not leave before the record made of them is durable.
    """
    if permit.stored is not None:
        return permit.stored
    domain = Domain.PROPOSAL if permit.request.step is Step.PROPOSE else Domain.VOTE
    return record.to_bytes(sign(domain, genesis_hash, permit.request.body, key))


def record_for(state: GuardState, request: SignRequest, signed: bytes) -> GuardRecord:
    """The record to make durable before ``signed`` leaves: the entry with the lock and valid value after it."""
    entry = GuardEntry(height=U64(request.height), round=request.round, step=request.step, signed=signed)
    return GuardRecord(
        sequence=U64(state.sequence + 1),
        sign_floor=U64(state.sign_floor),
        watching=state.watching,
        entry=entry,
        lock=request.lock,
        valid=request.valid,
    )


def floor_record(state: GuardState, floor: int, *, watching: bool) -> GuardRecord:
    """The record by which nothing new is signed up to ``floor``, and at no height at all while ``watching``."""
    return GuardRecord(
        sequence=U64(state.sequence + 1),
        sign_floor=U64(max(floor, state.sign_floor)),
        watching=watching,
        entry=None,
        lock=state.lock,
        valid=state.valid,
    )


def resumed(state: GuardState, committed_height: int) -> GuardState:
    """The state after its owner's word that a watching guard may sign above ``committed_height`` at once.

    The only way in which the floor falls, so no record leads there: both files are written anew. What is known to have
    been signed above that height stays forbidden to contradict.
    """
    if not state.watching:
        raise LocalError("only a guard that watches is resumed")
    return attrs.evolve(state, sequence=state.sequence + 1, sign_floor=committed_height, watching=False)


def apply(state: GuardState, made: GuardRecord) -> GuardState:
    """The state after one more record; raises DataError if it cannot follow, as in a damaged or mixed-up file."""
    if state.sequence and made.sequence != state.sequence + 1:
        raise DataError(f"guard record {made.sequence} follows record {state.sequence}")
    if made.sign_floor < state.sign_floor:
        raise DataError(f"guard record {made.sequence} lowers the sign floor")
    entries = state.entries
    if made.entry is not None:
        if state.watching and not made.watching:
            raise DataError(f"guard record {made.sequence} signs while the guard watches")
        if entries and _place(made.entry) <= _place(entries[-1]):
            raise DataError(f"guard record {made.sequence} is not above the one before it")
        entries = _pruned((*entries, made.entry))
    return GuardState(
        sequence=made.sequence,
        sign_floor=made.sign_floor,
        watching=made.watching,
        entries=entries,
        lock=made.lock,
        valid=made.valid,
    )


def _place(entry: GuardEntry) -> tuple[int, int, int]:
    return entry.height, entry.round, STEP_ORDER[entry.step]


def _pruned(entries: tuple[GuardEntry, ...]) -> tuple[GuardEntry, ...]:
    """The newest entries: always an end of what was written, so that files can be cut at one place."""
    heights = sorted({entry.height for entry in entries})[-GUARD_HEIGHTS_MAX:]
    return tuple(entry for entry in entries if entry.height in heights)[-GUARD_ENTRIES_MAX:]


def state_of(records: Iterable[GuardRecord]) -> GuardState:
    """Fold records in the order they were written; raises DataError if they do not follow each other."""
    state = GuardState()
    for made in records:
        state = apply(state, made)
    return state


def records_of(state: GuardState) -> tuple[GuardRecord, ...]:
    """The fewest records that ``state_of`` folds back to ``state``: for rewriting and compacting the files."""
    if state.sequence == 0:
        return ()
    entries: tuple[GuardEntry | None, ...] = state.entries or (None,)
    first = state.sequence - len(entries) + 1
    if first < 1:
        raise LocalError(f"{len(entries)} entries after {state.sequence} records")
    return tuple(
        GuardRecord(
            sequence=U64(first + index),
            sign_floor=U64(state.sign_floor),
            watching=state.watching,
            entry=entry,
            lock=state.lock if index == len(entries) - 1 else None,
            valid=state.valid if index == len(entries) - 1 else None,
        )
        for index, entry in enumerate(entries)
    )


def merge_stricter(first: GuardState, second: GuardState) -> GuardState:
    """The state to go on with, out of the database's and its twin's.

    Equal, or one ahead by a single record (a crash between the two writes, before anything was sent): the longer
    one. Anything else means that a file lost or changed records: then both count, ``sign_floor`` forbids every height
    touched so far, and the guard watches: what else was signed is not known.
    """
    if first == second:
        return first
    short, long = sorted((first, second), key=lambda state: state.sequence)
    if long.sequence == short.sequence + 1 and steps_between(short, long):
        return long
    by_place = {_place(entry): entry for entry in (*short.entries, *long.entries)}
    entries = tuple(by_place[place] for place in sorted(by_place))
    higher = max((long, short), key=lambda state: (state.height, state.lock.round if state.lock else -1))
    floor = max(first.sign_floor, second.sign_floor, first.height, second.height)
    # Counted on from the longer one, and never fewer than the entries, so that records_of can number them.
    sequence = max(long.sequence + 1, len(entries))
    return GuardState(
        sequence=sequence, sign_floor=floor, watching=True, entries=_pruned(entries),
        lock=higher.lock, valid=higher.valid,
    )  # fmt: skip


def steps_between(short: GuardState, long: GuardState) -> tuple[GuardRecord, ...]:
    """The one record, of a signature or of the floor, by which ``short`` becomes ``long``; none if there is no such."""
    made = floor_record(short, long.sign_floor, watching=long.watching)
    signed = [attrs.evolve(made, entry=entry, lock=long.lock, valid=long.valid) for entry in long.entries[-1:]]
    return tuple(candidate for candidate in (made, *signed) if _leads(short, candidate, long))


def _leads(short: GuardState, made: GuardRecord, long: GuardState) -> bool:
    try:
        return apply(short, made) == long
    except DataError:
        return False

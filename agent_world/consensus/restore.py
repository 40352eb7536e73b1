"""Taking up a height again after a restart, from what the guard has stored (D4 "Guard")."""

from __future__ import annotations

from agent_world.consensus.events import Broadcast, Drop, Dropped
from agent_world.consensus.guard import GuardState
from agent_world.consensus.guard_records import STEP_ORDER, GuardEntry, ValidValue
from agent_world.consensus.height import HeightRun
from agent_world.consensus.messages import VerifiedProposal, VerifiedVote, open_message
from agent_world.consensus.repeat import own_messages
from agent_world.consensus.rounds import KnownBlock
from agent_world.crypto.hashing import hash32
from agent_world.errors import Ignored, RemoteError


def restore(run: HeightRun, state: GuardState, now_ms: int) -> None:
    """Put own messages, lock and valid value of this height back, and send the stored bytes again.

    Nothing happens if nothing was signed at this height. At a height up to the guard's sign floor, and as long as the
    guard watches, the node follows without a vote.
    """
    if state.watching or run.context.height <= state.sign_floor:
        run.own = None
    entries = state.entries_at(run.context.height)
    if not entries:
        return
    last = entries[-1]
    if state.height == run.context.height:
        run.lock = state.lock
    run.resume_round(last.round, last.step, now_ms)
    if state.height == run.context.height and state.valid is not None:
        _restore_valid(run, state.valid)
    for entry in entries:
        _restore_entry(run, entry)
    run.newest_signed = (last.round, STEP_ORDER[last.step])
    run.out.extend(Broadcast(data) for data in own_messages(run))


def _restore_valid(run: HeightRun, valid: ValidValue) -> None:
    if hash32(valid.block) != valid.block_hash:
        run.out.append(Dropped(Drop.OWN_INVALID, "the stored valid value has another hash"))
        return
    run.valid = valid
    run.book.blocks[valid.block_hash] = KnownBlock(valid.block, valid.actions)
    for data in valid.proof:
        _hear(run, data)


def _restore_entry(run: HeightRun, entry: GuardEntry) -> None:
    # Even if it does not open, it counts as signed: the engine must never ask for that place again.
    run.signed[entry.round, entry.step] = b""
    if _hear(run, entry.signed):
        run.signed[entry.round, entry.step] = entry.signed


def _hear(run: HeightRun, data: bytes) -> bool:
    try:
        message = open_message(data, run.context)
    except (RemoteError, Ignored) as error:
        run.out.append(Dropped(Drop.OWN_INVALID, str(error)))
        return False
    if isinstance(message, VerifiedVote):
        run.book.add_vote(message)
    elif isinstance(message, VerifiedProposal):
        run.book.add_proposal(message, ())
    return True

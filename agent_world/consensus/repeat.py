"""What a validator sends again while its height does not move: its own messages, and what laggards may lack."""

from __future__ import annotations

from typing import Final

from agent_world.consensus.events import Broadcast, Effect
from agent_world.consensus.guard_records import STEP_ORDER
from agent_world.consensus.height import HeightRun
from agent_world.consensus.timers import Timer
from agent_world.wire.consensus import Step

DOUBLINGS_MAX: Final = 4
"""The pause between repeats doubles so often: 16 times ``rebroadcast_ms`` at most."""


def own_messages(run: HeightRun) -> list[bytes]:
    """Own signed messages of this round and the one before, and the precommit of the lock, as they were signed.

    The round before counts, too: whoever missed them there may wait for just these to follow into this round.
    """
    places = [(round_, step) for round_ in (run.round - 1, run.round) for step in STEP_ORDER]
    if run.lock is not None and run.lock.round < run.round - 1:
        places.insert(0, (run.lock.round, Step.PRECOMMIT))
    return [run.signed[place] for place in places if run.signed.get(place)]


def support_messages(run: HeightRun) -> list[bytes]:
    """Others' messages by which a validator that missed them can follow: unchanged, so they prove themselves.

    All that was heard in this round and the one before, the valid value's proposal with the prevotes for it, and the
    precommits that decided. The paper assumes that what one honest validator has heard, all hear in the end. Links
    alone do not give that: a liar's vote shown to some would let them into the next round and keep the others out.
    """
    rounds = {run.round - 1, run.round} | ({int(run.valid.round)} if run.valid is not None else set())
    found = [data for round_ in sorted(rounds) for data in _heard_in(run, round_)]
    if run.valid is not None:
        found.extend(run.valid.proof)
    if run.decided or run.needed is not None:
        for heard in run.book.rounds.values():
            quorum = heard.precommits.quorum
            if quorum is not None and quorum.choice is not None:
                found.extend(vote.data for vote in heard.precommits.votes_for(quorum.choice))
    own = set(run.signed.values())
    return [data for data in dict.fromkeys(found) if data not in own]


def _heard_in(run: HeightRun, round_: int) -> list[bytes]:
    heard = run.book.rounds.get(round_)
    if heard is None:
        return []
    proposal = [] if heard.proposal is None else [heard.proposal.data]
    return [*proposal, *(vote.data for tally in (heard.prevotes, heard.precommits) for vote in tally.all_votes())]


def pause_ms(run: HeightRun) -> int:
    """Wait before the next repeat: twice the last one, since a round that stalls for want of computing time must not
    be given still more to do. It begins anew with every round."""
    return run.config.rebroadcast_ms << min(run.repeats, DOUBLINGS_MAX)


def repeat(run: HeightRun, now_ms: int) -> list[Effect]:
    """Effects of a re-broadcast, and its next deadline. From a round's second one on, support goes out as well."""
    run.repeats += 1
    run.judging.retry()
    run.timers.set(Timer.REPEAT, now_ms + pause_ms(run))
    effects: list[Effect] = [] if run.needed is None else [run.needed]
    if run.own is None:
        return effects
    data = own_messages(run)
    if run.repeats >= 2:
        data.extend(support_messages(run))
    return [*effects, *(Broadcast(item) for item in data)]

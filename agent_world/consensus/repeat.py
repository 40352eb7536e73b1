"""What a validator sends again while its height does not move: its own messages, and what laggards may lack."""

from __future__ import annotations

from agent_world.consensus.events import Broadcast, Effect
from agent_world.consensus.guard_records import STEP_ORDER
from agent_world.consensus.height import HeightRun
from agent_world.consensus.timers import Timer
from agent_world.wire.consensus import Step


def own_messages(run: HeightRun) -> list[bytes]:
    """Own signed messages of the current round, and the precommit of the lock, in the order they were signed."""
    places = [(run.round, step) for step in STEP_ORDER]
    if run.lock is not None and run.lock.round != run.round:
        places.insert(0, (run.lock.round, Step.PRECOMMIT))
    return [run.signed[place] for place in places if run.signed.get(place)]


def support_messages(run: HeightRun) -> list[bytes]:
    """Others' messages by which a validator that missed them can follow: unchanged, so they prove themselves.

    The round's proposal; the valid value's proposal with the prevotes for it; once decided, the precommits. Without
    them a node that alone saw a quorum could keep the others waiting until it proposes itself.
    """
    found = []
    rounds = [run.round] if run.valid is None or run.valid.round == run.round else [run.valid.round, run.round]
    for round_ in rounds:
        heard = run.book.rounds.get(round_)
        if heard is not None and heard.proposal is not None:
            found.append(heard.proposal.data)
    if run.decided or run.needed is not None:
        for heard in run.book.rounds.values():
            quorum = heard.precommits.quorum
            if quorum is not None and quorum.choice is not None:
                found.extend(vote.data for vote in heard.precommits.votes_for(quorum.choice))
    elif run.valid is not None:
        found.extend(run.valid.proof)
    own = set(run.signed.values())
    return [data for data in found if data not in own]


def repeat(run: HeightRun, now_ms: int) -> list[Effect]:
    """Effects of a re-broadcast, and its next deadline. Support goes out at the 2nd, 4th, 8th ... of a round."""
    run.repeats += 1
    run.timers.set(Timer.REPEAT, now_ms + run.config.rebroadcast_ms)
    effects: list[Effect] = [] if run.needed is None else [run.needed]
    if run.own is None:
        return effects
    data = own_messages(run)
    if run.repeats >= 2 and run.repeats.bit_count() == 1:
        data.extend(support_messages(run))
    return [*effects, *(Broadcast(item) for item in data)]

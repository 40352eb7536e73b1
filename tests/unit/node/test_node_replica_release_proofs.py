"""A copy is given up only after as many others as are wanted have promised theirs and have shown it (K-3.7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from keepers import TARGET, Keeper, late, refusing
from trio.testing import MockClock

from agent_world.errors import ErrorCode, Refused
from agent_world.handlers.replica import ReplicaHandler
from agent_world.net.reputation import Offence
from agent_world.node.replica_release import RELEASE_MAX_S
from agent_world.testing.node_swarm import WORLD_ID
from agent_world.wire import record
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId
from agent_world.wire.replica import Holding, ReplicaAsk, ReplicaRequest


async def test_no_more_are_asked_than_are_needed(leaving: Any, autojump_clock: object) -> None:
    made = await leaving(keepers=TARGET + 2)
    assert await made.give_up()
    assert sum(made.node.challenged.values()) == TARGET
    assert sum(len(keeper.done) for keeper in made.node.others.values()) == TARGET


async def nonsense(_request: ReplicaRequest) -> bytes:
    return b"\xff"


async def answers_named(_request: ReplicaRequest) -> bytes:
    return Keeper().say([Holding.NAMED])


async def answers_held(_request: ReplicaRequest) -> bytes:
    """It holds the content and has promised nothing."""
    return Keeper().say([Holding.HELD])


async def two_holdings(_request: ReplicaRequest) -> bytes:
    return Keeper().say([Holding.BOUND] * 2)


BAD: dict[str, tuple[Callable[[], Keeper], str | None]] = {
    "does not hold it": (lambda: Keeper(on={ReplicaAsk.STATUS: answers_named}), None),
    "says nothing": (lambda: Keeper(on={ReplicaAsk.STATUS: refusing("", ErrorCode.TIMEOUT)}), None),
    "answers the status with nonsense": (lambda: Keeper(on={ReplicaAsk.STATUS: nonsense}), None),
    "is leaving itself": (
        lambda: Keeper(on={ReplicaAsk.KEEP: refusing("R6", ErrorCode.NOT_AVAILABLE)}),
        "replicas.no_promise.R6",
    ),
    "has too many promises": (lambda: Keeper(on={ReplicaAsk.KEEP: refusing("")}), "replicas.no_promise.ERR_BUSY"),
    "says held, then named": (lambda: Keeper(on={ReplicaAsk.KEEP: answers_named}), "replicas.no_promise.R12"),
    "holds it and does not promise": (lambda: Keeper(on={ReplicaAsk.KEEP: answers_held}), "replicas.no_promise.R12"),
    "promises with nonsense": (lambda: Keeper(on={ReplicaAsk.KEEP: nonsense}), "replicas.no_promise.D2"),
    "promises for two": (lambda: Keeper(on={ReplicaAsk.KEEP: two_holdings}), "replicas.no_promise.R11"),
    "fails the challenge": (lambda: Keeper(shows=lambda _cid: "failed"), "replicas.not_shown.failed"),
    "has left it meanwhile": (lambda: Keeper(shows=lambda _cid: "not_kept"), "replicas.not_shown.not_kept"),
    "is silent when challenged": (lambda: Keeper(shows=lambda _cid: "offline"), "replicas.not_shown.offline"),
    "is asked again later": (lambda: Keeper(shows=lambda _cid: "contained"), "replicas.not_shown.contained"),
}


@pytest.mark.parametrize("how", BAD)
async def test_one_promise_or_one_proof_less_and_nothing_is_given_up(
    leaving: Any, autojump_clock: object, how: str
) -> None:
    make_bad, counter = BAD[how]
    made = await leaving(keepers=TARGET - 1)
    made.hold(make_bad())
    assert not await made.give_up()
    assert made.nothing_has_gone()
    assert f"{TARGET - 1} have promised and shown it" in made.releases.last_error
    if counter is not None:
        assert made.releases.counters[counter] == 1, dict(made.releases.counters)


@pytest.mark.parametrize("how", BAD)
async def test_who_does_not_count_is_made_up_for_by_another(leaving: Any, autojump_clock: object, how: str) -> None:
    made = await leaving()
    made.hold(BAD[how][0](), *[Keeper() for _ in range(TARGET)])
    assert await made.give_up()
    assert dict(made.releases.counters)["replicas.given_up"] == 1


async def test_a_wrong_answer_is_held_against_its_peer(leaving: Any, autojump_clock: object) -> None:
    made = await leaving(keepers=TARGET - 1)
    (liar,) = made.hold(Keeper(on={ReplicaAsk.KEEP: two_holdings}))
    assert not await made.give_up()
    assert made.node.blamed == [(liar, Offence.GARBAGE)]


async def test_a_peer_that_goes_in_the_middle_does_not_count(leaving: Any, autojump_clock: object) -> None:
    """The challenge itself is refused: nobody is connected any more."""
    made = await leaving(keepers=TARGET)
    gone = min(made.node.others)

    async def challenge(peer: PeerId, cid: Cid) -> dict[str, Any]:
        if peer == gone:
            raise Refused(ErrorCode.NOT_AVAILABLE, "no committed content is old enough")
        return await made.node.challenge(peer, cid)

    made.releases.challenge = challenge
    assert not await made.give_up()
    assert made.nothing_has_gone()
    assert made.releases.counters["replicas.not_shown.not_asked.ERR_NOT_AVAILABLE"] == 1
    made.hold(Keeper())
    assert await made.give_up(), "another stands in for it"


async def test_fewer_nodes_than_the_target(leaving: Any, autojump_clock: object) -> None:
    for keepers in range(TARGET):
        made = await leaving()
        made.node.others.clear()
        made.node.hellos.clear()
        made.hold(*[Keeper() for _ in range(keepers)])
        assert not await made.give_up()
        assert made.nothing_has_gone()
        assert f"{keepers} say so" in made.releases.last_error


@pytest.mark.parametrize("ask", [ReplicaAsk.STATUS, ReplicaAsk.KEEP])
async def test_answers_that_come_too_late_do_not_count(leaving: Any, autojump_clock: object, ask: ReplicaAsk) -> None:
    made = await leaving(keepers=TARGET - 1)
    made.hold(Keeper(on={ask: late(RELEASE_MAX_S + 0.1)}))
    started = trio.current_time()
    assert not await made.give_up(seconds=RELEASE_MAX_S + 1)
    assert made.nothing_has_gone()
    assert made.releases.last_error == f"{made.content}: others have not shown it within 15 s"
    assert trio.current_time() - started == pytest.approx(RELEASE_MAX_S + 1)


async def test_who_never_answers_holds_up_the_next_content_for_so_long(leaving: Any, autojump_clock: object) -> None:
    made = await leaving(1, 2)
    one, two = made.contents

    async def hang(request: ReplicaRequest) -> None:
        if request.contents == (one,):
            await trio.sleep_forever()

    made.hold(*[Keeper(on={ReplicaAsk.KEEP: hang}) for _ in range(TARGET)])
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.releases.run)
        for cid in (one, two):
            made.node.holdings.release(cid)
        while made.is_kept(two):  # noqa: ASYNC110 - virtual time
            await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert trio.current_time() - started == pytest.approx(RELEASE_MAX_S, abs=0.2)
    assert made.is_kept(one)


async def test_a_slow_answer_in_time_counts(leaving: Any, autojump_clock: object) -> None:
    made = await leaving(keepers=TARGET - 1)
    made.hold(Keeper(on={ReplicaAsk.KEEP: late(RELEASE_MAX_S - 0.1)}))
    assert await made.give_up()


async def test_a_process_that_was_stopped_meanwhile_gives_nothing_up(leaving: Any, autojump_clock: MockClock) -> None:
    """The time-out comes at the next wait only, and the last proof may be followed by none: the clock is asked too."""
    made = await leaving(keepers=TARGET)

    async def challenge(_peer: PeerId, _cid: Cid) -> dict[str, Any]:
        calls.append(None)
        if len(calls) == TARGET:
            autojump_clock.jump(RELEASE_MAX_S + 0.1)
        return {"outcome": "passed"}

    calls: list[None] = []
    made.releases.challenge = challenge
    assert not await made.give_up(seconds=40)
    assert made.nothing_has_gone()


async def test_who_is_leaving_promises_nothing(leaving: Any, autojump_clock: object) -> None:
    """Of two nodes that want to go at once neither can rely on the other, whoever asked them to."""
    made = await leaving(keepers=TARGET)
    other = min(made.node.others)
    handler = ReplicaHandler(made.node.holdings)
    keep_it = record.to_bytes(
        ReplicaRequest(world_id=WORLD_ID, ask=ReplicaAsk.KEEP, contents=(made.content,), source=None)
    )
    refused: list[Refused] = []

    async def ask_back(_request: ReplicaRequest) -> None:
        try:
            await handler.serve(other, keep_it)
        except Refused as error:
            refused.append(error)

    made.node.others[other].on[ReplicaAsk.KEEP] = ask_back
    assert await made.give_up()
    assert [error.rule for error in refused] == ["R6"]

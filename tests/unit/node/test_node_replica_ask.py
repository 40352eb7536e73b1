"""What a planner asks of others, and of its own node."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from keepers import ME, SETTLED_S, TARGET, Keeper, KeeperNode, late, named, refusing

from agent_world.errors import ErrorCode, Refused
from agent_world.net.reputation import Offence
from agent_world.store.content import ContentState
from agent_world.wire.ids import PeerId
from agent_world.wire.replica import Holding, ReplicaAsk, ReplicaRequest

Make = Callable[..., KeeperNode]


async def nonsense(_request: ReplicaRequest) -> bytes:
    return b"\xff"


async def test_all_are_asked_at_once_and_who_fails_has_said_nothing(keeper_node: Make, autojump_clock: object) -> None:
    node = keeper_node(others=4)
    a, b, c, d = node.others
    (cid,) = node.name(1)
    node.others[a].holdings[cid] = Holding.HELD
    node.others[b].on[ReplicaAsk.STATUS] = nonsense
    node.others[c].on[ReplicaAsk.STATUS] = refusing("R1", ErrorCode.BAD_REQUEST)
    node.others[d].on[ReplicaAsk.STATUS] = late(5)
    node.others[a].on[ReplicaAsk.STATUS] = late(5)
    started = trio.current_time()
    said = await node.asker.status_of_all([a, b, c, d, ME], [cid])
    assert trio.current_time() - started == pytest.approx(5)
    assert {peer: answer and answer.holdings for peer, answer in said.items()} == {
        a: (Holding.HELD,), b: None, c: None, d: (Holding.NAMED,), ME: (Holding.NAMED,),
    }  # fmt: skip
    assert dict(node.asker.counters) == {"replicas.no_status.D2": 1, "replicas.no_status.R1": 1}
    assert node.blamed == [(b, Offence.GARBAGE)]
    assert ME not in {peer for peer, _ask, _contents in node.asked}
    assert await node.asker.status_of_all([], [cid]) == {}


async def test_a_wrong_answer_is_refused_with_its_rule(keeper_node: Make, autojump_clock: object) -> None:
    node = keeper_node(others=1)
    (a,) = node.others

    async def two(_request: ReplicaRequest) -> bytes:
        return Keeper().say([Holding.HELD] * 2)

    node.others[a].on[ReplicaAsk.HOLD] = two
    with pytest.raises(Refused, match="its answer is wrong") as caught:
        await node.asker.ask(a, ReplicaAsk.HOLD, [named(1)])
    assert (caught.value.code, caught.value.rule) == (ErrorCode.NOT_AVAILABLE, "R11")


@pytest.mark.parametrize(
    ("keeper", "leaves"),
    [
        (Keeper(rest=Holding.NAMED), True),
        (Keeper(rest=Holding.COMING), True),
        (Keeper(rest=Holding.HELD), False),
        (Keeper(rest=Holding.BOUND), False),
        (Keeper(rest=Holding.UNKNOWN), False),
        (Keeper(rest=Holding.NAMED, target=0), False),
        (Keeper(on={ReplicaAsk.STATUS: refusing("", ErrorCode.TIMEOUT)}), False),
    ],
)
async def test_who_leaves_a_content_to_others(
    keeper_node: Make, autojump_clock: object, keeper: Keeper, leaves: bool
) -> None:
    """Silence excuses nobody from a failed challenge."""
    node = keeper_node()
    (a,) = node.link(keeper)
    assert await node.asker.leaves_it(a, named(1)) is leaves
    assert node.asker.counters["replicas.no_word"] == bool(keeper.on)


async def test_the_own_node_does_what_others_would(keeper_node: Make, autojump_clock: object) -> None:
    node = keeper_node(others=TARGET)
    told: list[PeerId] = []
    node.holdings.prefer = lambda _cid, source: told.append(source)
    left, relieved = node.name(1, 2)
    (kept,) = node.name(3, here=True)
    for ask, cid in ((ReplicaAsk.HOLD, left), (ReplicaAsk.RELIEVE, relieved)):
        answer = await node.asker.ask(ME, ask, [cid], PeerId("source"))
        assert answer.holdings == (Holding.COMING,)
        assert node.state(cid) is ContentState.WANTED
    assert told == [PeerId("source")] * 2
    await node.asker.ask(ME, ReplicaAsk.RELEASE, [kept])
    assert not node.holdings.is_leaving(kept), "after a start it may have been promised"
    await trio.sleep(SETTLED_S)
    node.holdings.pledge(kept)
    await node.asker.ask(ME, ReplicaAsk.RELEASE, [kept])
    assert not node.holdings.is_leaving(kept)
    await trio.sleep(SETTLED_S)
    await node.asker.ask(ME, ReplicaAsk.RELEASE, [kept])
    assert node.holdings.is_leaving(kept)
    assert node.asked == []

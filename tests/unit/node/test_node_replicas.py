"""Replica maintenance as one part of a node: when it runs, what it announces, what it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from types import SimpleNamespace
from typing import cast

import pytest
import trio
from keepers import ME, Keeper, KeeperNode, data_of, named
from planned import Planned, Rounds
from trio.testing import wait_all_tasks_blocked

from agent_world.errors import ErrorCode, Refused
from agent_world.node import replicas as module
from agent_world.node.node import Node
from agent_world.node.replica_release import Releases
from agent_world.node.replicas import Replicas
from agent_world.store.content import ContentState
from agent_world.wire.cid import Cid
from agent_world.wire.hello import Role


class Part:
    """The part, and what it has announced."""

    def __init__(self, node: KeeperNode) -> None:
        self.node = node
        self.announced: list[list[Cid]] = []
        self.made = Rounds(node)
        self.planned: Planned = self.made.planned
        releases = Releases(node.holdings, node.asker, node.table, node.chain.blobs, node.own)
        releases.challenge = node.challenge
        around = SimpleNamespace(content=node.table, discovery=SimpleNamespace(register=self._register))
        self.replicas = Replicas(node.holdings, self.made.rounds, releases, cast(Node, around))

    def _register(self, cids: Iterable[Cid]) -> None:
        self.announced.append(list(cids))


@pytest.fixture
def part(keeper_node: Callable[..., KeeperNode]) -> Callable[..., Part]:
    def make(role: Role = Role.STORAGE) -> Part:
        return Part(keeper_node(role=role, others=3))

    return make


async def test_what_is_kept_is_announced_at_the_start_a_page_at_a_time(
    part: Callable[..., Part], autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REGISTER_PAGE", 4)
    made = part()
    kept = made.node.name(*range(10), here=True)
    made.node.name(*range(10, 15))
    with trio.move_on_after(1):
        await made.replicas.run()
    assert sorted(chain.from_iterable(made.announced), key=Cid.to_bytes) == sorted(kept, key=Cid.to_bytes)
    assert max(map(len, made.announced)) <= 4


async def test_rounds_and_giving_up_go_on_beside_each_other(part: Callable[..., Part], autojump_clock: object) -> None:
    made = part()
    (cid,) = made.node.name(1, here=True)
    for keeper in made.node.others.values():
        keeper.holdings[cid] = Keeper().becomes
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.replicas.run)
        await wait_all_tasks_blocked()
        made.node.holdings.release(cid)
        await trio.sleep(6)
        nursery.cancel_scope.cancel()
    assert made.node.state(cid) is ContentState.NAMED
    counters = made.replicas.all_counters()
    assert (counters["replicas.given_up"], counters["replicas.rounds"]) == (1, 1)


async def test_who_takes_no_part_runs_nothing_and_plans_nothing(
    part: Callable[..., Part], autojump_clock: object
) -> None:
    made = part(Role.OBSERVER)
    made.node.name(1, here=True)
    with trio.fail_after(1):
        await made.replicas.run()
    assert made.announced == []
    for asked in (made.replicas.plan, made.replicas.round):
        with pytest.raises(Refused, match="plans no copies") as caught:
            await asked()
        assert caught.value.code is ErrorCode.UNSUPPORTED
    assert not made.replicas.status()["takes_part"]


async def test_what_has_come_is_announced_if_the_world_names_it(
    part: Callable[..., Part], autojump_clock: object
) -> None:
    made = part()
    (cid,) = made.node.name(1, here=True)
    made.node.table.want([(named(2), 5)], 0)
    for each in (cid, named(2), named(3)):
        made.replicas.kept(each)
    assert made.announced == [[cid]]


async def test_the_status(part: Callable[..., Part], autojump_clock: object) -> None:
    made = part()
    made.node.name(1, 2, here=True)
    made.node.name(3)
    made.node.holdings.release(named(1))
    status = made.replicas.status()
    size = len(data_of(1))
    assert status["own"]["have"] == {"items": 2, "bytes": 2 * size}
    assert status["own"]["named"] == {"items": 1, "bytes": size}
    assert (status["target"], status["takes_part"], status["leaving"]) == (3, True, 1)
    assert status["storage_nodes"] == sorted([ME, *made.node.others])
    assert (status["last_release_error"], status["last_round"]) == (None, None)


async def test_a_plan_and_a_round_on_request(part: Callable[..., Part], autojump_clock: object) -> None:
    made = part()
    made.planned.repair(1, min(made.node.others))
    assert [task["kind"] for task in (await made.replicas.plan())["repair_tasks"]] == ["repair"]
    assert made.node.asked == []
    status = await made.replicas.round()
    assert status["last_round"]["report"]["succeeded_tasks"] == 1
    assert made.replicas.all_counters()["replicas.attempted"] == 1
    made.replicas.counters.add("replicas.attempted", 2)
    assert made.replicas.all_counters()["replicas.attempted"] == 3, "of all parts together"

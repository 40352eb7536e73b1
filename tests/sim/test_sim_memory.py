"""Whole nodes in memory through everything at once, a few seeds of many: ``make stack`` runs more.

``python -m agent_world.testing.sim_stack --scenario memory --seeds 20`` is the full run.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest
import trio

from agent_world.consensus import guard, messages
from agent_world.consensus.guard_records import GuardRecord
from agent_world.errors import RemoteError
from agent_world.net.memory import InMemoryNetwork
from agent_world.node.node import Node
from agent_world.store.chain import COMMIT_STEPS
from agent_world.store.guard import GUARD_STEPS, GuardStore
from agent_world.testing.bus import Partition
from agent_world.testing.node_swarm import Member, NodeSwarm, make_key
from agent_world.testing.sim_libp2p.report import SimReport
from agent_world.testing.sim_memory import scenario
from agent_world.testing.sim_memory.deaths import Deaths, ProcessDied
from agent_world.testing.sim_memory.plan import HOUR_MS, LOG_STEPS, SHAPES, draw_plan
from agent_world.testing.sim_memory.scenario import cut, simulate_memory
from agent_world.testing.sim_memory.seats import Seats
from agent_world.testing.sim_memory.traitors import Treason
from agent_world.testing.stack import Stack
from agent_world.wire.hello import Role
from agent_world.wire.ids import PublicKey, peer_id_of

SHORT_S = 1.0
pytestmark = pytest.mark.timeout(600)  # 3 to 6 s each, on a machine that is not busy


def violated(report: SimReport) -> set[str]:
    return {violation.invariant for violation in report.violations}


@pytest.fixture(scope="module")
def first() -> SimReport:
    return simulate_memory(2, validators=4, each_s=SHORT_S)


def test_everything_happens_and_nothing_is_violated(first: SimReport) -> None:
    assert first.violations == ()
    counts = first.counts
    died = {name.removeprefix("died.") for name in counts if name.startswith("died.")}
    always = {*GUARD_STEPS, *COMMIT_STEPS} - {step for step in COMMIT_STEPS if step.startswith("blob_files")}
    assert died - {*LOG_STEPS} == always
    assert died & {*LOG_STEPS}
    assert counts["records"] >= 3 * counts["height"]  # of five nodes; without a holder nothing is recorded
    assert counts["height"] >= counts["height_before"] + 3
    assert counts["actions"] > 20
    assert min(counts[name] for name in ("joined", "left", "terms", "lie.second_vote", "lie.second_proposal")) > 0
    assert counts["equivocations"] > 0


def test_a_seed_replays(first: SimReport) -> None:
    assert simulate_memory(2, validators=4, each_s=SHORT_S) == first


SEEDS_MAX = 12
"""Seeds within which a bug that was planted is found."""


def guard_only_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    def store(self: GuardStore, made: GuardRecord) -> None:
        self._state = guard.apply(self._state, made)
        self._fault("guard_database_committed")

    monkeypatch.setattr(GuardStore, "_store", store)


def blobs_get_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    verify = scenario._verify_homes

    def lose(stack: scenario.TroubledStack) -> None:
        with closing(sqlite3.connect(stack.members["v1"].home / "world.db")) as database, database:
            # Not one of the record log, which executing the chain does not need.
            ours = "SELECT max(rowid) FROM blobs WHERE content_hash NOT IN (SELECT block_hash FROM blocks)"
            database.execute(f"DELETE FROM blobs WHERE rowid = ({ours})")
        verify(stack)

    monkeypatch.setattr(scenario, "_verify_homes", lose)


@pytest.mark.parametrize(("bug", "invariants"), [(guard_only_remembers, {"I3"}), (blobs_get_lost, {"home"})])
def test_a_broken_rule_is_noticed(
    monkeypatch: pytest.MonkeyPatch, bug: Callable[[pytest.MonkeyPatch], None], invariants: set[str]
) -> None:
    """Within a few seeds: which of them shows it changes with whatever nodes say to each other."""
    bug(monkeypatch)
    runs = (simulate_memory(seed, validators=4, each_s=SHORT_S) for seed in range(1, SEEDS_MAX + 1))
    assert any(invariants <= violated(run) for run in runs)


def test_what_the_scenario_looks_for_itself_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    holders = itertools.count()
    monkeypatch.setattr(scenario, "lease_of", lambda _ledger: {"term": 1, "holder_id": f"v{next(holders)}"})
    monkeypatch.setattr(scenario, "GUARD_ENTRIES_MAX", 0)
    monkeypatch.setattr(scenario, "SETS_MIN", 99)
    monkeypatch.setattr(scenario, "CHANGES_S", 0.1)
    monkeypatch.setattr(scenario, "hash32", lambda _action: bytes(32))
    look = scenario._look_at_states

    def with_more_traitors(stack: scenario.TroubledStack) -> Counter[str]:
        stack.traitors.update(dict.fromkeys(stack.seated, stack.traitors["v4"]))
        return look(stack)

    monkeypatch.setattr(scenario, "_look_at_states", with_more_traitors)
    expected = {"lease", "bound", "seats", "once", "third"}
    assert violated(simulate_memory(1, validators=4, each_s=SHORT_S)) == expected


def test_an_unsigned_vote_that_counts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An honest validator seems to contradict itself, and the evidence against it does not hold."""
    monkeypatch.setattr(messages, "is_valid", lambda *_: True)
    with pytest.raises(ExceptionGroup) as caught:
        simulate_memory(3, validators=4, each_s=SHORT_S)
    assert caught.group_contains(RemoteError, match="E6: a signature does not verify")


def test_the_first_twenty_seeds_have_every_kind_of_fault() -> None:
    plans = [draw_plan(seed) for seed in range(1, 21)]
    assert {treason for plan in plans for treason in plan.treasons} == set(Treason)
    assert {plan.validators for plan in plans} == {4, 5, 6, 7}
    assert max(len(plan.treasons) for plan in plans) == 2
    assert {step for plan in plans for step in plan.steps} >= {*LOG_STEPS}
    assert any(abs(error) == HOUR_MS for plan in plans for error in plan.error_ms)
    for plan in plans:
        assert sorted(plan.shapes) == sorted(SHAPES)
        assert 3 * len(plan.treasons) < plan.validators
        assert plan.weather.gossip_loss == plan.weather.message_loss == 0.2
    assert draw_plan(3, draw_plan(3).validators) == draw_plan(3)


@pytest.mark.parametrize(("shape", "heard"), [("half", 8), ("ring", 10), ("single", 12), ("asymmetric", 16)])
async def test_partitions_have_the_shapes_of_the_core_tier(autojump_clock: object, shape: str, heard: int) -> None:
    hub = InMemoryNetwork(Random(1))
    peers = [peer_id_of(PublicKey(bytes([number]) * 32)) for number in range(5)]
    pairs = {(a, b) for a in peers for b in peers if a != b}
    arrived: set[tuple[str, str]] = set()

    async def all_send() -> None:
        for source, target in sorted(pairs):
            hub.node(source).send(target, "x", source.encode())
        await trio.sleep(1)

    async with hub.open():
        for peer in peers:

            async def take(source: str, _data: bytes, own: str = peer) -> None:
                arrived.add((source, own))

            hub.node(peer).on_message("x", take)
            for other in peers:
                hub.node(peer).dial(other, hub.node(other).listen_addresses()[0])
        await trio.sleep(1)
        cut(hub, Partition(shape), peers, Random(2))
        await all_send()
        assert len(arrived) == heard
        hub.heal()
        await trio.sleep(30)
        await all_send()
        assert arrived == pairs


def test_a_process_that_died_writes_no_more_and_leaves_what_was_there(tmp_path: Path) -> None:
    member = Member("v1", Role.SEQUENCER, tmp_path / "v1", make_key("node"), None)
    member.home.mkdir()
    chain = SimpleNamespace()
    dying = Deaths(cast(Stack, None), InMemoryNetwork(Random(1)))
    dying.hook(
        member,
        cast(
            Node,
            SimpleNamespace(
                ledger=SimpleNamespace(_chain=chain), replication=SimpleNamespace(store=SimpleNamespace()), seat=None
            ),
        ),
    )
    dying._armed = ("v1", "head_moved")
    chain._fault("begun")
    (member.home / "before").touch()
    with pytest.raises(ProcessDied):
        chain._fault("head_moved")
    (member.home / "after").touch()
    with pytest.raises(ProcessDied):
        chain._fault("begun")  # by a task that has not been cancelled yet
    dying._bury(member)
    assert [path.name for path in member.home.iterdir()] == ["before"]
    assert dying.counts == {"died.head_moved": 1}


def test_a_removal_that_was_given_up_still_counts_as_one_who_leaves() -> None:
    """It may be approved late: of five with one faulty one may leave, and not two."""
    keys = {name: SimpleNamespace(validator_key=make_key(name)) for name in ("v1", "v2", "v3", "v4")}
    seats = Seats(cast(NodeSwarm, SimpleNamespace(members=keys)), tuple(keys), ["bad"], Random(1))
    members = {*keys, "bad"}
    first = seats._pick(members)
    assert first is not None
    for _ in range(20):
        again = seats._pick(members)
        assert again is not None
        assert again.removed == first.removed
    members -= {str(name) for name in first.removed}
    assert seats._pick(members | {"v9"}) is not None

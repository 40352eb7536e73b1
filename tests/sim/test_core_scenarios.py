"""Directed faults: each scenario must really happen, violate nothing, and leave a chain that grows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent_world.testing.bus import Partition
from agent_world.testing.byzantine import Vice
from agent_world.testing.cluster import Cluster, Faults, simulate
from agent_world.testing.sim_node import SimNode
from agent_world.wire import record
from agent_world.wire.consensus import CommitCertificate, Vote

GUARD_STEPS = ["guard.before", "guard.between", "guard.after"]
COMMIT_STEPS = ["commit.before", "commit.after"]
SYNC_STEPS = ["sync.before", "sync.after"]


def run(faults: Faults, crash_plan: Callable[[SimNode, str], bool] | None = None, seed: int = 1) -> Cluster:
    cluster = Cluster(seed, faults)
    if crash_plan is not None:
        cluster.crash_plan = crash_plan
    cluster.run()
    assert cluster.checker.violations == []
    return cluster


@pytest.mark.parametrize("step", [*GUARD_STEPS, *COMMIT_STEPS])
def test_one_validator_dies_at_a_step_again_and_again(step: str) -> None:
    visits = 0

    def plan(node: SimNode, at: str) -> bool:
        nonlocal visits
        visits += node.name == "v0" and at == step
        return node.name == "v0" and at == step and visits % 4 == 0

    cluster = run(Faults(nodes=4), plan)
    assert cluster.counters[f"crash.{step}"] >= 3


@pytest.mark.parametrize("step", [*GUARD_STEPS, *COMMIT_STEPS])
def test_all_validators_die_at_the_same_step_of_one_height(step: str) -> None:
    died = set()

    def plan(node: SimNode, at: str) -> bool:
        if at != step or node.height < 5 or node.name in died:
            return False
        died.add(node.name)
        return True

    run(Faults(nodes=5), plan)
    assert died >= {f"v{index}" for index in range(5)}


@pytest.mark.parametrize("step", SYNC_STEPS)
def test_a_node_that_catches_up_dies_while_doing_so(step: str) -> None:
    down = [False]

    def plan(node: SimNode, at: str) -> bool:
        if node.name != "v0":
            return False
        if not down[0] and node.height >= 3:
            down[0] = True
            return True  # out for a while, so that there is something to catch up
        return at == step and node.around.counters[f"crash.{step}"] < 3

    cluster = run(Faults(nodes=4), plan, seed=5)
    assert cluster.counters[f"crash.{step}"] >= 1
    assert cluster.counters["sync.blocks"] >= 1


@pytest.mark.parametrize("vice", [Vice.TWIN, Vice.LIAR])
def test_equivocation_leaves_evidence_against_nobody_else(vice: Vice) -> None:
    cluster = run(Faults(nodes=4, vices=(vice,)))
    assert cluster.counters["evidence"] > 0


def test_a_silent_proposer_costs_a_round() -> None:
    cluster = run(Faults(nodes=4, vices=(Vice.SILENT,)))
    rounds = [stored.header.round for stored in cluster.honest[0].disk.chain]
    assert max(rounds) >= 1
    silent = cluster.nodes[3].own
    assert silent not in {stored.header.proposer_id for stored in cluster.honest[0].disk.chain}


def test_as_many_silent_ones_as_may_be() -> None:
    cluster = run(Faults(nodes=7, vices=(Vice.SILENT, Vice.SILENT)))
    assert min(node.height for node in cluster.honest) >= 6


def test_blocks_that_do_not_execute_are_never_committed() -> None:
    cluster = run(Faults(nodes=4, vices=(Vice.INVALID,)))
    proposers = [stored.header.proposer_id for stored in cluster.honest[0].disk.chain]
    assert len(set(proposers)) >= 3


@pytest.mark.parametrize("shape", [shape for shape in Partition if shape is not Partition.NONE])
def test_a_partition_heals(shape: Partition) -> None:
    cluster = Cluster(2, Faults(nodes=5))
    cluster.bus.after(1_500, lambda: cluster.bus.partition(shape))
    cluster.run()
    assert cluster.checker.violations == []
    assert cluster.bus.lost > 0


def test_two_halves_stop_and_neither_goes_on_alone() -> None:
    cluster = Cluster(3, Faults(nodes=4))
    validators = cluster.around.world.sets[0]
    stakes = {entry.validator_id: int(entry.stake) for entry in validators.record.validators}
    half = {name for name in stakes if name in ("v0", "v3")}
    parts = [sum(stakes[name] for name in stakes if (name in half) is inside) for inside in (True, False)]
    assert max(parts) < validators.required_stake, "the seed's stakes must suit the test"
    for node in cluster.nodes:
        node.start()
    cluster.bus.run_until(1_000)
    numbers = {node.number for node in cluster.nodes if node.own in half}
    cluster.bus.filters.append(lambda source, target, _message: (source in numbers) == (target in numbers))
    cluster.bus.run_until(1_500)
    highest = max(node.height for node in cluster.honest)
    cluster.bus.run_until(20_000)
    assert max(node.height for node in cluster.honest) == highest > 3
    cluster.heal()
    cluster.check_growth()
    assert cluster.checker.violations == []


def test_sets_that_change_with_the_epochs() -> None:
    cluster = run(Faults(nodes=5, change_sets=True))
    hashes = {stored.header.validators_hash for stored in cluster.honest[0].disk.chain}
    assert len(hashes) == 3


def test_without_work_there_are_no_blocks_if_so_configured() -> None:
    cluster = Cluster(1, Faults(nodes=4, create_empty_blocks=False))
    for node in cluster.nodes:
        node.start()
    cluster.bus.run_until(5_000)
    assert {node.height for node in cluster.honest} == {0}


def test_drifting_clocks_and_bad_links() -> None:
    run(Faults(nodes=4, drift_permille_max=50))


@pytest.fixture(scope="module")
def schemed() -> list[Cluster]:
    """Adversarial runs with every scheme among them."""
    faults = [Faults(nodes=count, vices=(Vice.SCHEMER,) * ((count - 1) // 3), adversarial=True) for count in (4, 5, 7)]
    clusters = [Cluster(seed, fault) for seed in (1, 2) for fault in faults]
    for cluster in clusters:
        cluster.run()
    return clusters


def test_schemes_happen_and_break_nothing(schemed: list[Cluster]) -> None:
    assert [cluster.checker.violations for cluster in schemed] == [[]] * len(schemed)
    for scheme in ("lock", "polc", "split"):
        assert sum(cluster.counters[f"scheme.{scheme}"] for cluster in schemed) >= 1, scheme
    assert sum(cluster.counters["crash.commit.before"] for cluster in schemed) >= 1


def test_a_locked_block_is_proposed_again_and_decided_in_a_later_round(schemed: list[Cluster]) -> None:
    later = 0
    for cluster in schemed:
        for stored in cluster.honest[0].disk.chain:
            certificate = record.from_bytes(CommitCertificate, stored.certificate, size_max=1 << 17)
            vote = record.from_bytes(Vote, certificate.body, size_max=1_024)
            assert vote.round >= stored.header.round
            later += vote.round > stored.header.round
    assert later >= 1


def test_a_lone_validator_goes_on_by_itself() -> None:
    report = simulate(1, Faults(nodes=1))
    assert report.violations == ()
    assert report.heights["v0"] > 20

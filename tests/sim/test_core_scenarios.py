"""Directed faults: each scenario must really happen, violate nothing, and leave a chain that grows."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from agent_world.testing.bus import CALM, LinkFaults, Partition
from agent_world.testing.bus_messages import Consensus
from agent_world.testing.byzantine import Vice
from agent_world.testing.cluster import Cluster, Faults, simulate
from agent_world.testing.sim_node import SimNode
from agent_world.wire import cbor, record
from agent_world.wire.consensus import CommitCertificate, Vote
from agent_world.wire.ids import ValidatorId
from agent_world.wire.limits import PROPOSAL_BYTES_MAX
from agent_world.wire.signed import Signed

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


def place_of(message: object) -> tuple[int, int, str, bytes]:
    """(height, round, step, signer's key) of a consensus message; the step of a proposal is ``propose``."""
    if not isinstance(message, Consensus):
        return (0, 0, "", b"")
    signed = record.from_bytes(Signed, message.data, size_max=PROPOSAL_BYTES_MAX)
    fields = cbor.decode(signed.body, size_max=PROPOSAL_BYTES_MAX)
    return (fields["height"], fields["round"], fields.get("step", "propose"), signed.key)


def roles(cluster: Cluster, proposer: ValidatorId) -> tuple[ValidatorId, ValidatorId, ValidatorId]:
    """Blind, deaf and unheard: the block is locked without the blind one, and the deaf one, who does not hear the
    unheard one, sees votes enough but no agreement; then neither of both precommits, and the rest is no quorum."""
    validators = cluster.around.world.sets[0]
    stakes = {entry.validator_id: int(entry.stake) for entry in validators.record.validators}
    spare = validators.total_stake - validators.required_stake
    for blind, deaf, unheard in itertools.permutations(stakes, 3):
        lone = max(stakes[blind], stakes[unheard]) <= spare
        if lone and blind != proposer and spare < min(stakes[blind] + stakes[unheard], stakes[blind] + stakes[deaf]):
            return blind, deaf, unheard
    raise AssertionError("the seed's stakes must suit the test")


def test_a_locked_block_is_proposed_again_and_decided_in_a_later_round() -> None:
    cluster = Cluster(1, Faults(nodes=5, links=CALM))
    height, cast = 4, dict[str, ValidatorId]()

    def passes(source: int, target: int, message: object) -> bool:
        at, round_, step, key = place_of(message)
        if (at, round_) != (height, 0) or any(
            node.engine.run is not None and (node.engine.run.context.height, node.engine.run.round) >= (height, 1)
            for node in cluster.nodes
        ):
            return True
        if not cast:
            context = cluster.nodes[source].engine_context()
            cast.update(zip(("blind", "deaf", "unheard"), roles(cluster, context.proposer(0)), strict=True))
        hears = cluster.nodes[target].own
        is_unheard = key == cluster.around.world.keys[cast["unheard"]].public_key
        blinded = hears == cast["blind"] and step == "propose"
        return not blinded and not (hears == cast["deaf"] and is_unheard and step == "prevote")

    cluster.bus.filters.append(passes)
    cluster.run()
    assert cluster.checker.violations == []
    stored = cluster.honest[0].disk.chain[height - 1]
    certificate = record.from_bytes(CommitCertificate, stored.certificate, size_max=1 << 17)
    vote = record.from_bytes(Vote, certificate.body, size_max=1_024)
    assert (stored.header.round, vote.round) == (0, 1)


def test_delays_far_above_all_timeouts_cost_time_and_little_else() -> None:
    """A machine without computing time to spare is like this: what is sent again and again makes it still slower."""
    cluster = Cluster(2, Faults(nodes=4, links=LinkFaults(delay_min_ms=2_000, delay_max_ms=3_000)))
    heard = 0

    def count(_source: int, _target: int, message: object) -> bool:
        nonlocal heard
        heard += isinstance(message, Consensus)
        return True

    cluster.bus.filters.append(count)
    for node in cluster.nodes:
        node.start()
    cluster.bus.run_until(60_000, lambda: min(node.height for node in cluster.honest) >= 1)
    assert cluster.bus.now_ms < 60_000, "timeouts have grown to the delay after few rounds"
    assert heard / 20 / cluster.bus.now_ms * 1_000 < 6, "messages a second and pair of nodes"


def test_a_lone_validator_goes_on_by_itself() -> None:
    report = simulate(1, Faults(nodes=1))
    assert report.violations == ()
    assert report.heights["v0"] > 20

"""Whole clusters of engines from seeds: saved ones that once failed, and the first twenty."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner

from agent_world.testing import sim
from agent_world.testing.checkers import Violation
from agent_world.testing.cluster import ADVERSARIAL_EVERY, Report, draw_faults, simulate

FIRST_SEEDS = range(1, 21)


def saved_seeds() -> list[int]:
    lines = (Path(__file__).parent / "seeds.txt").read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("seed", [*saved_seeds(), *FIRST_SEEDS])
def test_no_invariant_is_violated(seed: int) -> None:
    report = simulate(seed)
    assert report.violations == (), f"replay: make sim SEEDS=1 FIRST={seed}"
    assert min(report.heights.values()) >= 3


def test_seeds_differ_and_each_replays_exactly() -> None:
    first, again, other = simulate(3), simulate(3), simulate(4)
    assert first == again
    assert first.digest != other.digest


def test_the_digest_does_not_depend_on_the_order_of_sets() -> None:
    found = set()
    for hash_seed in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-m", "agent_world.testing.sim", "--seeds", "2", "--first", "9", "--json"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        found.add(ran.stdout)
    assert len(found) == 1


def test_naming_the_drawn_number_of_nodes_replays_the_seed() -> None:
    assert simulate(6, nodes=draw_faults(6).nodes) == simulate(6)
    assert draw_faults(6, nodes=4).nodes == 4


def test_the_seeds_cover_every_kind_of_fault() -> None:
    drawn = [draw_faults(seed) for seed in range(1, 101)]
    assert {vice for faults in drawn for vice in faults.vices} == {
        "silent", "twin", "invalid", "withhold", "liar", "schemer",
    }  # fmt: skip
    assert {faults.nodes for faults in drawn} == {4, 5, 6, 7}
    for what in ("partitions", "change_sets", "create_empty_blocks", "adversarial", "ruses", "crash_permille"):
        assert {bool(getattr(faults, what)) for faults in drawn} == {True, False}
    for faults in drawn:
        assert 3 * len(faults.vices) < faults.nodes
    adversarial = [seed for seed in range(1, 101) if draw_faults(seed).adversarial]
    assert adversarial == list(range(ADVERSARIAL_EVERY, 101, ADVERSARIAL_EVERY))


def test_the_command_prints_a_line_a_seed() -> None:
    result = CliRunner().invoke(sim.main, ["--seeds", "2", "--first", "1"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert [line.split("  ")[:2] for line in lines[:2]] == [["seed 1", "ok"], ["seed 2", "ok"]]
    assert lines[2] == "2 seeds, 0 with violations"


def test_the_command_fails_and_says_how_to_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = attrs.evolve(simulate(1), violations=(Violation("I1", "v0", "two blocks"),))

    def run(seed: int, nodes: int | None = None) -> Report:
        return attrs.evolve(broken, seed=seed)

    monkeypatch.setattr(sim, "simulate", run)
    result = CliRunner().invoke(sim.main, ["--seeds", "1", "--first", "77"])
    assert result.exit_code == 1
    assert "violated I1 on v0: two blocks" in result.output
    assert "--first 77 --seeds 1" in result.output

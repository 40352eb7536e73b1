"""``python -m agent_world.testing.sim_stack``: real libp2p hosts in virtual time; exit 1 if something was violated."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import attrs
import click
import structlog

from agent_world.errors import UsageError
from agent_world.testing.sim_libp2p.determinism import HASH_SEED, require_fixed_hashes
from agent_world.testing.sim_libp2p.dht_scenario import simulate_dht
from agent_world.testing.sim_libp2p.faults import Fault, FaultPlan
from agent_world.testing.sim_libp2p.host_scenario import simulate_hosts
from agent_world.testing.sim_libp2p.node_scenario import NODES_MIN, simulate_nodes
from agent_world.testing.sim_libp2p.report import SimReport
from agent_world.testing.sim_memory.scenario import simulate_memory

VIOLATIONS_EXIT: Final = 1
"""Exit code when a seed violated something, or two runs of a seed differed."""
NODES: Final = {"hosts": 20, "nodes": NODES_MIN, "dht": 20, "memory": 0}
"""Scenarios, and how many take part; of ``memory`` the validators, 0: as many as the seed draws."""
MEMORY_MIN: Final = 4
"""Validators of the least world that bears a Byzantine one."""
KINDS: Final = [kind.value for kind in Fault]
SHORTEST_FAULT_S: Final = 1.0
FAULT_S: Final = {"memory": 2.5}
"""Virtual seconds of each fault, where it is not six."""


@attrs.frozen(slots=True, kw_only=True)
class Wanted:
    """What is run of every seed."""

    scenario: str
    nodes: int
    operations: int
    """Of the DHT."""
    plan: FaultPlan

    def run(self, seed: int) -> SimReport:
        """One seed, here and now."""
        if self.scenario == "dht":
            return simulate_dht(seed, nodes=self.nodes, operations=self.operations)
        if self.scenario == "nodes":
            return simulate_nodes(seed, nodes=self.nodes, plan=self.plan)
        if self.scenario == "memory":
            return simulate_memory(seed, validators=self.nodes, each_s=self.plan.each_s)
        return simulate_hosts(seed, nodes=self.nodes, plan=self.plan)

    def options(self) -> list[str]:
        """For a process of its own."""
        return [
            "--scenario", self.scenario, *(("--nodes", str(self.nodes)) if self.nodes else ()),
            "--operations", str(self.operations), "--fault-s", str(self.plan.each_s),
            *(part for kind in self.plan.kinds for part in ("--fault", kind.value)),
        ]  # fmt: skip


def line_of(report: dict[str, Any]) -> str:
    """One run as one line for people."""
    counts = "  ".join(f"{name} {count}" for name, count in report["counts"].items())
    state = "ok" if not report["violations"] else f"{len(report['violations'])} VIOLATIONS"
    return (
        f"{report['scenario']} seed {report['seed']}  {state}  nodes {report['nodes']}  "
        f"{report['virtual_s']:.1f} virtual s in {report['cpu_s']:.1f} s  digest {report['digest'][:12]}  {counts}"
    )


def differences(reports: list[dict[str, Any]]) -> Iterator[str]:
    """What is not the same in all runs of one seed, but for the time they took."""
    first, *others = [{name: value for name, value in report.items() if name != "cpu_s"} for report in reports]
    for name in first:
        if any(other[name] != first[name] for other in others):
            yield f"seed {first['seed']} does not replay: {name} differs"


def read_kept(text: str, scenario: str) -> list[int]:
    """Seeds of a scenario in a file of lines ``scenario seed what it has found``; # begins a comment.

    Raises UsageError for any other line.
    """
    seeds = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(" ")
        seed = rest.partition(" ")[0]
        if name not in NODES or not seed.isdigit():
            raise UsageError(f"line {number} of the kept seeds is not a scenario, a seed and what it has found")
        if name == scenario:
            seeds.append(int(seed))
    return seeds


@click.command()
@click.option("--scenario", type=click.Choice(list(NODES)), default="hosts", show_default=True)
@click.option("--seeds", default=2, show_default=True, type=click.IntRange(1), help="How many seeds to run.")
@click.option("--first", default=1, show_default=True, type=click.IntRange(0), help="The first seed.")
@click.option("--kept", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Seeds that run first.")
@click.option(
    "--nodes",
    type=click.IntRange(3, 500),
    help="How many; else 6 whole nodes, 20 hosts, or as many validators in memory as the seed draws.",
)
@click.option("--dht", "dht_operations", default=0, type=click.IntRange(0), help="Short for --scenario dht.")
@click.option("--operations", default=20, show_default=True, type=click.IntRange(1), help="Operations of the DHT.")
@click.option("--fault-s", type=click.FloatRange(SHORTEST_FAULT_S), help="Each fault; 6, or 2.5 in memory.")
@click.option("--fault", "faults", multiple=True, type=click.Choice(KINDS), default=KINDS, help="All if none is named.")
@click.option("--twice", is_flag=True, help="Run every seed twice and compare all that came of it.")
@click.option("--here", is_flag=True, help="In this process, one after the other; else each run in one of its own.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a run.")
def main(
    scenario: str, seeds: int, first: int, kept: Path | None, nodes: int | None, dht_operations: int,
    operations: int, fault_s: float | None, faults: tuple[str, ...], twice: bool, here: bool, as_json: bool,
) -> None:  # fmt: skip
    """Simulate swarms of real libp2p hosts through faults; every seed replays exactly.

    hosts: gossip, requests and DHT. nodes: four validators, a storage node and observers. dht: many hosts. memory:
    whole nodes without libp2p, with Byzantine validators, seats that change and deaths at every step of persistence.
    """
    scenario = "dht" if dht_operations else scenario
    wanted = Wanted(
        scenario=scenario,
        nodes=nodes or NODES[scenario],
        operations=dht_operations or operations,
        plan=FaultPlan(kinds=tuple(map(Fault, faults)), each_s=fault_s or FAULT_S.get(scenario, 6.0)),
    )
    if scenario == "nodes" and wanted.nodes < NODES_MIN:
        raise click.UsageError(f"whole nodes are at least {NODES_MIN}")
    if scenario == "memory" and 0 < wanted.nodes < MEMORY_MIN:
        raise click.UsageError(f"validators in memory are at least {MEMORY_MIN}")
    try:
        before = [] if kept is None else read_kept(kept.read_text(encoding="utf-8"), scenario)
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    every = list(dict.fromkeys([*before, *range(first, first + seeds)]))
    jobs = [seed for seed in every for _run in range(1 + twice)]
    broken: set[int] = set()
    known: dict[int, list[dict[str, Any]]] = {}
    for report in run_here(wanted, jobs) if here else run_apart(wanted, jobs):
        click.echo(json.dumps(report, sort_keys=True) if as_json else line_of(report))
        runs = known.setdefault(report["seed"], [])
        runs.append(report)
        lines = [] if as_json else [f"violated {' '.join(violation)}" for violation in report["violations"]]
        broken.update([report["seed"]] if report["violations"] else [])
        for line in [*lines, *(differences(runs) if len(runs) > 1 else ())]:
            click.echo(line, err=True)
            broken.add(report["seed"])
    if not as_json:
        click.echo(f"{len(every)} seeds, {len(broken)} broken")
    raise SystemExit(VIOLATIONS_EXIT if broken else 0)


def run_here(wanted: Wanted, jobs: Iterable[int]) -> Iterator[dict[str, Any]]:
    """Reports as plain values, with the time that each run took."""
    require_fixed_hashes()
    logging.disable(logging.CRITICAL)  # the library warns of everything that this is about
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for seed in jobs:
        started_s = time.process_time()
        report = wanted.run(seed)
        yield {**attrs.asdict(report), "violations": [attrs.astuple(item) for item in report.violations],
               "cpu_s": round(time.process_time() - started_s, 1)}  # fmt: skip


def run_apart(wanted: Wanted, jobs: Iterable[int]) -> Iterator[dict[str, Any]]:
    """The same from processes, as many at a time as there are processors, in the order of the jobs."""

    def run(seed: int) -> dict[str, Any]:
        command = [sys.executable, "-m", __spec__.name, "--here", "--json", "--seeds", "1", "--first", str(seed)]
        done = subprocess.run(
            [*command, *wanted.options()],
            stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, HASH_SEED: "0"},
        )  # fmt: skip
        if not done.stdout:
            raise click.ClickException(f"seed {seed} ended with {done.returncode} and without a report")
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(run, jobs)


if __name__ == "__main__":
    main()

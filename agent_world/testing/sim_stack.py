"""``python -m agent_world.testing.sim_stack``: real libp2p hosts in virtual time; exit 1 if something was violated."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import time
from typing import Final

import attrs
import click

from agent_world.testing.sim_libp2p.determinism import require_fixed_hashes
from agent_world.testing.sim_libp2p.scenario import StackReport, simulate_dht, simulate_stack

VIOLATIONS_EXIT: Final = 1
"""Exit code when a seed violated something, or two runs of a seed differed."""


def line_of(report: StackReport, real_s: float) -> str:
    """One seed as one line for people."""
    counts = "  ".join(f"{name} {count}" for name, count in report.counts.items())
    state = "ok" if not report.violations else f"{len(report.violations)} VIOLATIONS"
    return (
        f"seed {report.seed}  {state}  nodes {report.nodes}  {report.virtual_s:.1f} virtual s in {real_s:.1f} s  "
        f"events {report.events}  digest {report.digest[:12]}  {counts}"
    )


@click.command()
@click.option("--seeds", default=2, show_default=True, type=click.IntRange(1), help="How many seeds to run.")
@click.option("--first", default=1, show_default=True, type=click.IntRange(0), help="The first seed.")
@click.option("--nodes", default=20, show_default=True, type=click.IntRange(3, 500), help="Hosts.")
@click.option("--dht", "operations", default=0, type=click.IntRange(0), help="Only a DHT, with so many operations.")
@click.option("--twice", is_flag=True, help="Run every seed twice and compare the digests.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a seed.")
def main(seeds: int, first: int, nodes: int, operations: int, twice: bool, as_json: bool) -> None:
    """Simulate swarms of real libp2p hosts with gossip, requests and DHT; every seed replays exactly."""
    options = ["--nodes", str(nodes), "--dht", str(operations), *(["--json"] if as_json else [])]
    if seeds == 1 and not twice:
        require_fixed_hashes()
        raise SystemExit(run_here(first, nodes, operations, as_json=as_json))
    broken = 0
    for seed in range(first, first + seeds):
        outputs = [run_apart(seed, options) for _run in range(1 + twice)]
        broken += any(code for code, _, _ in outputs)
        for _, _, lines in outputs:
            click.echo(lines, nl=False)
        if len({digest for _, digest, _ in outputs}) > 1:
            broken += 1
            click.echo(f"seed {seed} does not replay", err=True)
    raise SystemExit(VIOLATIONS_EXIT if broken else 0)


def run_here(seed: int, nodes: int, operations: int, *, as_json: bool) -> int:
    """Run one seed, print what came of it, and give the exit code."""
    logging.disable(logging.CRITICAL)  # the library warns of everything that this is about
    started = time.perf_counter()
    if operations:
        report = simulate_dht(seed, nodes=nodes, operations=operations)
    else:
        report = simulate_stack(seed, nodes=nodes)
    if as_json:
        click.echo(json.dumps(attrs.asdict(report), sort_keys=True))
    else:
        click.echo(line_of(report, time.perf_counter() - started))
        for violation in report.violations:
            click.echo(f"violated: {violation}")
    return VIOLATIONS_EXIT if report.violations else 0


def run_apart(seed: int, options: list[str]) -> tuple[int, str, str]:
    """Run one seed in a process of its own: exit code, digest and output.

    What the library remembers of an earlier run in the same process changes the next one.
    """
    command = [sys.executable, "-m", "agent_world.testing.sim_stack", "--seeds", "1", "--first", str(seed), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    digest = re.search(r"digest\W+([0-9a-f]{12})", done.stdout)
    return done.returncode, "" if digest is None else digest[1], done.stdout


if __name__ == "__main__":
    main()

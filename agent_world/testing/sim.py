"""``python -m agent_world.testing.sim``: simulate many seeds; exit 1 if an invariant was violated."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

import click

from agent_world.testing.cluster import Report, simulate

VIOLATIONS_EXIT: Final = 1
"""Exit code when a seed violated an invariant."""


def line_of(report: Report) -> str:
    """One seed as one line for people."""
    faults = report.faults
    parts = [
        f"seed {report.seed}",
        "ok" if not report.violations else f"{len(report.violations)} VIOLATIONS",
        f"nodes {faults.nodes}",
        f"height {min(report.heights.values())}..{max(report.heights.values())}",
        f"{report.virtual_ms / 1000:.1f} virtual s",
        "byzantine " + (",".join(faults.vices) or "none"),
        f"crashes {sum(count for name, count in report.counters.items() if name.startswith('crash.'))}",
        f"digest {report.digest[:12]}",
    ]
    return "  ".join([*parts, "adversarial"] if faults.adversarial else parts)


def violation_lines(report: Report) -> Iterable[str]:
    """A line for each violated invariant, with what replays it."""
    replay = f"python -m agent_world.testing.sim --first {report.seed} --seeds 1 --nodes {report.faults.nodes}"
    for violation in report.violations:
        yield f"violated {violation.invariant} on {violation.node}: {violation.detail} -- replay: {replay}"


@click.command()
@click.option("--seeds", default=50, show_default=True, type=click.IntRange(1), help="How many seeds to run.")
@click.option("--first", default=1, show_default=True, type=click.IntRange(0), help="The first seed.")
@click.option("--nodes", default=None, type=click.IntRange(1, 31), help="Validators; drawn by the seed if absent.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a seed.")
def main(seeds: int, first: int, nodes: int | None, as_json: bool) -> None:
    """Simulate clusters of consensus engines, one a seed; every seed replays exactly."""
    broken = 0
    for seed in range(first, first + seeds):
        report = simulate(seed, nodes=nodes)
        broken += bool(report.violations)
        if as_json:
            click.echo(json.dumps(as_fields(report), sort_keys=True))
            continue
        click.echo(line_of(report))
        for line in violation_lines(report):
            click.echo(line)
    if not as_json:
        click.echo(f"{seeds} seeds, {broken} with violations")
    raise SystemExit(VIOLATIONS_EXIT if broken else 0)


def as_fields(report: Report) -> dict[str, object]:
    """A report as JSON values."""
    return {
        "seed": report.seed,
        "nodes": report.faults.nodes,
        "byzantine": list(report.faults.vices),
        "adversarial": report.faults.adversarial,
        "violations": [[item.invariant, item.node, item.detail] for item in report.violations],
        "digest": report.digest,
        "heights": dict(report.heights),
        "virtual_ms": report.virtual_ms,
        "counters": dict(report.counters),
    }


if __name__ == "__main__":
    main()

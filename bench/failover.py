"""Row 13: four validators, the proposer killed under load and started again, against etcd whose leader is killed.

Ours: from the kill to the next commit at another node. The victim is the proposer of the round that comes, killed at
a random moment of the pause before it; blocks come every second, which is in the time. At the end all validators are
killed at once, and every home is audited: nothing acknowledged lost, nothing signed twice (``testing.promises``).
etcd: from the kill of the leader to the answer of the first put sent after it to another member.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from agent_world.testing.failover import FailoverPlan, FailoverReport, run_failover
from bench import peer_etcd, peer_etcd_failover
from bench.peer_etcd_failover import EtcdKill

MEMBERS = 4
GOALS = {"ours_commit_median_s": 2.0, "ours_rejoin_median_s": 3.0, "ours_over_etcd": 1.0}
STRETCH_COMMIT_S = 1.0


def run(rounds: int, kills: int, keep: Path | None, say: Callable[[str], None]) -> dict[str, Any]:
    """The row: both in turns, each round on fresh clusters."""
    reports: list[FailoverReport] = []
    theirs: list[list[EtcdKill]] = []
    with tempfile.TemporaryDirectory(prefix="aw-bench-failover-") as temporary:
        base = keep or Path(temporary)
        for number in range(rounds):
            plan = FailoverPlan(validators=MEMBERS, kills=kills, seed=number + 1)
            reports.append(run_failover(base / f"ours-{number}", plan, say))
            if peer_etcd.binary() is not None:
                directory = base / f"etcd-{number}"
                directory.mkdir(parents=True)
                theirs.append(peer_etcd_failover.run(directory, MEMBERS, kills, say))
    figures: dict[str, Any] = {"ours": _ours(reports), "etcd": _etcd(theirs) if theirs else "skipped"}
    ratios = {}
    if theirs:
        pairs = zip(reports, theirs, strict=True)
        ratios["ours_over_etcd"] = round(statistics.median(_of_ours(ours) / _of_etcd(etcd) for ours, etcd in pairs), 2)
    return {
        "row": 13,
        "what": "4 validators, the proposer killed under load",
        "figures": figures,
        "ratios": ratios,
        "goals": GOALS,
        "reports": [report.shown() for report in reports],
    }


def _of_ours(report: FailoverReport) -> float:
    return statistics.median(kill.commit_s for kill in report.kills)


def _of_etcd(kills: list[EtcdKill]) -> float:
    return statistics.median(kill.commit_s for kill in kills)


def _times(commits: list[float], rejoins: list[float]) -> dict[str, Any]:
    return {
        "kills": len(commits),
        "commit_median_s": round(statistics.median(commits), 2),
        "commit_max_s": round(max(commits), 2),
        "rejoin_median_s": round(statistics.median(rejoins), 2),
        "rejoin_max_s": round(max(rejoins), 2),
    }


def _ours(reports: list[FailoverReport]) -> dict[str, Any]:
    kills = [kill for report in reports for kill in report.kills]
    return {
        **_times([kill.commit_s for kill in kills], [kill.rejoin_s for kill in kills]),
        "all_killed_commit_s": [report.all_killed_commit_s for report in reports],
        "acknowledged": sum(report.acknowledged for report in reports),
        "lost": sum(sum(report.audit.lost.values()) + report.never_committed for report in reports),
        "places_signed": sum(report.audit.places_signed for report in reports),
        "double_signs": sum(report.audit.double_signs for report in reports),
        "is_good": all(report.is_good for report in reports),
    }


def _etcd(rounds: list[list[EtcdKill]]) -> dict[str, Any]:
    kills = [kill for each in rounds for kill in each]
    return _times([kill.commit_s for kill in kills], [kill.rejoin_s for kill in kills])


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True, help="Turns of every system.")
@click.option("--kills", type=click.IntRange(1), default=10, show_default=True, help="In a row, in each turn.")
@click.option("--keep", type=click.Path(path_type=Path), help="Leave homes and logs in this new directory.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def main(rounds: int, kills: int, keep: Path | None, as_json: bool) -> None:
    """Row 13: time to the next commit after the proposer was killed."""
    result = run(rounds, kills, keep, lambda line: click.echo(line, err=True))
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        _print(result)
    if not result["figures"]["ours"]["is_good"]:
        sys.exit(1)


def _print(result: dict[str, Any]) -> None:
    for name, shown in result["figures"].items():
        if shown == "skipped":
            click.echo(f"{name:6}skipped: not installed")
            continue
        click.echo(
            f"{name:6}{shown['kills']} kills; next commit: median {shown['commit_median_s']} s, worst "
            f"{shown['commit_max_s']} s; rejoined: median {shown['rejoin_median_s']} s, worst {shown['rejoin_max_s']} s"
        )
    ours = result["figures"]["ours"]
    click.echo(
        f"{ours['acknowledged']} actions acknowledged, {ours['lost']} lost; {ours['places_signed']} messages signed, "
        f"{ours['double_signs']} twice; all killed at once: a new block {ours['all_killed_commit_s']} s after the start"
    )
    click.echo(
        f"next commit: goal {GOALS['ours_commit_median_s']} s, stretch {STRETCH_COMMIT_S} s;"
        f" rejoined: goal {GOALS['ours_rejoin_median_s']} s"
    )
    for name, value in result["ratios"].items():
        click.echo(f"{name}: {value} (goal {GOALS[name]:g})")


if __name__ == "__main__":
    main()

"""Churn: node processes on loopback, a third of them killed and started again while actions are handed in."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import attrs
import click

from agent_world.testing.churn import ChurnPlan, run_churn

GOAL_RECONNECT_S = 5.0


@click.command()
@click.option("--nodes", type=click.IntRange(6), default=20, show_default=True, help="Four of them are validators.")
@click.option("--actions", type=click.IntRange(1), default=1_000, show_default=True)
@click.option("--rate", type=click.FloatRange(0.1), default=20.0, show_default=True, help="Actions a second.")
@click.option("--waves", type=click.IntRange(0), default=2, show_default=True, help="Times that a third is killed.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Leave homes and logs in this new directory.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def main(nodes: int, actions: int, rate: float, waves: int, seed: int, keep: Path | None, as_json: bool) -> None:
    """Twenty processes under churn: every action committed everywhere, and how fast nodes are linked again."""
    storage = (nodes - 4) // 2
    plan = ChurnPlan(
        storage=storage, observers=nodes - 4 - storage, actions=actions, actions_per_s=rate, waves=waves, seed=seed
    )
    say = (lambda line: click.echo(line, err=True)) if not as_json else (lambda _line: None)
    with tempfile.TemporaryDirectory(prefix="agent-world-churn-") as temporary:
        report = run_churn(keep or Path(temporary), plan, say)
    shown = {"row": "churn", "plan": attrs.asdict(plan), "goals": {"reconnect_median_s": GOAL_RECONNECT_S}}
    shown["figures"] = report.shown()
    click.echo(json.dumps(shown, indent=None if as_json else 1))
    if not report.is_good:
        sys.exit(1)


if __name__ == "__main__":
    main()

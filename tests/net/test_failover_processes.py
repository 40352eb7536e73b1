"""Validators as processes, the proposer killed under load: the chain goes on, nothing is lost or signed twice."""

from __future__ import annotations

from pathlib import Path

import attrs

from agent_world.config import MINIMAL
from agent_world.testing.failover import FailoverPlan, run_failover


def test_the_proposer_is_killed_twice_and_then_all_are(tmp_path: Path) -> None:
    """``python -m bench failover`` does the same with the default timing and more kills."""
    consensus = attrs.evolve(MINIMAL.consensus, block_interval_ms=200, propose_timeout_ms=1_000)
    config = attrs.evolve(MINIMAL, consensus=consensus)
    plan = FailoverPlan(kills=2, agents=4, actions_per_s=30, rest_s=0.2, patience_s=60, config=config)
    report = run_failover(tmp_path, plan)
    assert report.is_good, report.shown()
    assert len(report.kills) == 2
    assert report.audit.places_signed > 0
    assert report.counters["consensus.equivocation_seen"] == 0
    assert report.all_killed_commit_s > 0

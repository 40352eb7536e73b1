"""Processes killed and started again while agents act: nothing is lost, and whoever was away is back quickly."""

from __future__ import annotations

import statistics
from pathlib import Path

from agent_world.testing.churn import ChurnPlan, run_churn


def test_a_third_of_six_nodes_is_killed_and_no_action_is_lost(tmp_path: Path) -> None:
    """``python -m bench churn`` does the same with twenty."""
    plan = ChurnPlan(storage=1, observers=1, actions=60, actions_per_s=10, waves=1, down_s=1.5, settle_s=60)
    report = run_churn(tmp_path, plan)
    assert report.is_good, report.shown()
    assert report.kills == len(report.reconnect_s) == 2
    assert statistics.median(report.reconnect_s) < 5
    assert len(report.heights) == 6
    assert min(report.links) >= 3

"""``replicas status``, ``plan`` and ``run``: what they ask a node, and how they show what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Run = Callable[..., Any]
REPAIR = {"kind": "repair", "content": "bafkrepair", "source": "12D3a", "target": "12D3b"}
PLAN: dict[str, Any] = {
    "looked_at": 7,
    "below_target": 1,
    "contents_by_copies": {"2": 1, "3": 6},
    "claims_doubted": 1,
    "repair_tasks": [REPAIR],
    "rebalance_tasks": [],
    "release_tasks": [{"kind": "release", "content": "bafkrelease", "holder": "12D3c"}],
    "warnings": ["ab: no source"],
}
STATUS: dict[str, Any] = {
    "target": 3,
    "takes_part": True,
    "storage_nodes": ["12D3a", "12D3b"],
    "own": {"have": {"items": 4, "bytes": 99}, "named": {"items": 3, "bytes": 77}},
    "leaving": 0,
    "last_release_error": None,
    "next_round_at_ms": 5_000,
    "last_round": {
        "polled_at_ms": 1,
        **PLAN,
        "report": {
            "attempted_tasks": 2, "succeeded_tasks": 1, "under_way_tasks": 0, "deferred_tasks": 0, "copied_bytes": 10,
            "failed_tasks": [{"task": REPAIR, "error": "ERR_BUSY: there is no room for it here"}],
        },
    },
}  # fmt: skip


def test_status_tells_target_copies_and_the_last_round(run: Run, node: Any) -> None:
    node.answers["GET /replicas"] = 200, STATUS
    out = run("replicas", "status", "--home", node.home).out
    for told in (
        "target: 3 copies", "4 have (99 bytes), 3 named (77 bytes)", "1 with 2, 6 with 3; 1 below the target",
        "1 claims to hold a content do not count", "warning: ab: no source", "attempted 2, succeeded 1",
        "there is no room for it here",
        "next round: 1970-01-01 00:00:05 UTC",
    ):  # fmt: skip
        assert told in out
    assert run("replicas", "status", "--home", node.home, "--json").json == STATUS


def test_status_of_a_node_that_keeps_everything_or_has_not_planned_yet(run: Run, node: Any) -> None:
    node.answers["GET /replicas"] = 200, {**STATUS, "target": 0, "takes_part": False, "last_round": None}
    out = run("replicas", "status", "--home", node.home).out
    assert "keeps everything" in out
    assert "plans no copies" in out
    assert "next round" not in out
    node.answers["GET /replicas"] = 200, {**STATUS, "last_round": None, "last_release_error": "bafk: too few"}
    out = run("replicas", "status", "--home", node.home).out
    assert "no round yet" in out
    assert "not given up: bafk: too few" in out


def test_plan_asks_and_changes_nothing(run: Run, node: Any) -> None:
    node.answers["GET /replicas/plan"] = 200, PLAN
    out = run("replicas", "plan", "--home", node.home).out
    assert "bafkrepair" in out
    assert "12D3c" in out
    assert run("replicas", "plan", "--home", node.home, "--json").json == PLAN
    assert {asked for asked, _ in node.asked} == {"GET /replicas/plan"}


def test_run_carries_out_a_round(run: Run, node: Any) -> None:
    node.answers["POST /replicas/rounds"] = lambda _body: (200, STATUS)
    assert "attempted 2" in run("replicas", "run", "--home", node.home).out
    assert run("replicas", "run", "--home", node.home, "--json").json == STATUS


def test_a_node_that_plans_nothing_says_so(run: Run, node: Any) -> None:
    node.answers["GET /replicas/plan"] = (
        501, {"error": {"code": "ERR_UNSUPPORTED", "message": "no copies", "rule": "", "retryable": False}},
    )  # fmt: skip
    ran = run("replicas", "plan", "--home", node.home)
    assert ran.code == 69
    assert "no copies" in ran.err

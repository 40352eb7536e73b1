from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def test_the_status_of_the_log(node: Any, run: Callable[..., Any]) -> None:
    node.answers["GET /replication"] = 200, {"term": 3, "holder_id": "v1", "outbox": 2, "gate": {"passed": False}}
    ran = run("replication", "status", "--home", node.home, "--json")
    assert (ran.code, ran.json["outbox"]) == (0, 2)
    shown = run("replication", "status", "--home", node.home).out
    assert "gate.passed" in shown
    assert "v1" in shown


def test_the_record_of_a_height(node: Any, run: Callable[..., Any]) -> None:
    node.answers["GET /replication/commits/7"] = 200, {"path": "consensus/commits/7", "sequence": 5}
    ran = run("replication", "commit", "7", "--home", node.home, "--json")
    assert (ran.code, ran.json["sequence"]) == (0, 5)


def test_a_record_that_nobody_has(node: Any, run: Callable[..., Any], error: Callable[..., Any]) -> None:
    node.answers["GET /replication/commits/8"] = error(404, "ERR_NOT_FOUND", "no record of height 8", rule="W12")
    ran = run("replication", "commit", "8", "--home", node.home)
    assert (ran.code, "no record of height 8" in ran.err) == (69, True)


@pytest.mark.parametrize("height", ["0", "-1", "x", str(2**63)])
def test_a_height_that_is_none_is_a_usage_error(node: Any, run: Callable[..., Any], height: str) -> None:
    assert run("replication", "commit", "--home", node.home, "--", height).code == 64
    assert node.asked == []

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

CHANGE = "ab" * 32
KEY = "5f" * 32


def answered(node: Any, target: str, answer: dict[str, Any]) -> list[Any]:
    """Let the node answer a POST; what it is sent."""
    sent: list[Any] = []

    def take(body: bytes) -> tuple[int, Any]:
        sent.append(json.loads(body))
        return 200, answer

    node.answers[f"POST {target}"] = take
    return sent


@pytest.mark.parametrize(("options", "change"), [
    (["--add", f"v5:{KEY}:7"],
     {"kind": "add_validator", "validators": [{"validator_id": "v5", "public_key": KEY, "stake": 7}], "removed": []}),
    (["--remove", "v1", "--remove", "v2"], {"kind": "remove_validator", "validators": [], "removed": ["v1", "v2"]}),
    (["--rotate-key", f"v1:{KEY}:7"],
     {"kind": "rotate_key", "validators": [{"validator_id": "v1", "public_key": KEY, "stake": 7}], "removed": []}),
    (["--set-stake", f"v1:{KEY}:9"],
     {"kind": "set_stake", "validators": [{"validator_id": "v1", "public_key": KEY, "stake": 9}], "removed": []}),
    (["--replace", f"v1:{KEY}:9"],
     {"kind": "replace_validators", "validators": [{"validator_id": "v1", "public_key": KEY, "stake": 9}],
      "removed": []}),
])  # fmt: skip
def test_proposing(node: Any, run: Callable[..., Any], options: list[str], change: dict[str, Any]) -> None:
    sent = answered(node, "/validators/changes", {"code": "ok", "outcome": "applied", "action_id": CHANGE, "height": 3})
    ran = run("validator", "propose", "--home", node.home, *options, "--reason", "why", "--json")
    assert (ran.code, ran.json["change_id"]) == (0, CHANGE)
    assert sent == [{**change, "with_lease": False, "reason": "why"}]


@pytest.mark.parametrize("options", [
    [],
    ["--add", f"v5:{KEY}:7", "--remove", "v1"],
    ["--add", "v5"],
    ["--add", f"v5:{KEY[:-1]}:7"],
    ["--add", f"v5:{KEY}:many"],
    ["--add", f"v5:{KEY}:{2**64}"],
])  # fmt: skip
def test_a_change_that_is_none_is_a_usage_error(node: Any, run: Callable[..., Any], options: list[str]) -> None:
    ran = run("validator", "propose", "--home", node.home, *options)
    assert ran.code == 64
    assert node.asked == []


def test_a_change_that_the_world_refuses(node: Any, run: Callable[..., Any]) -> None:
    answered(node, "/validators/changes", {"code": "validator_unknown", "outcome": "rejected", "action_id": CHANGE})
    ran = run("validator", "propose", "--home", node.home, "--remove", "nobody")
    assert ran.code == 69
    assert "validator_unknown" in ran.err


def test_approving_and_rejecting(node: Any, run: Callable[..., Any]) -> None:
    sent = answered(node, f"/validators/changes/{CHANGE}", {"code": "ok"})
    assert run("validator", "approve", CHANGE, "--home", node.home).code == 0
    assert run("validator", "approve", CHANGE, "--home", node.home, "--reject").code == 0
    assert sent == [{"approve": True}, {"approve": False}]
    for wrong in ("zz", "../changes", CHANGE.upper().replace("0", "A"), ""):
        ran = run("validator", "approve", wrong, "--home", node.home)
        assert (ran.code, "no id of a change" in ran.err) == (64, True)


def test_open_changes(node: Any, run: Callable[..., Any]) -> None:
    row = {
        "change_id": CHANGE, "requester_id": "v1", "approvals": ["v1"], "rejections": [],
        "change": {"kind": "remove_validator", "reason": None},
    }  # fmt: skip
    node.answers["GET /validators/changes"] = 200, {"changes": [row]}
    assert run("validator", "changes", "--home", node.home, "--json").json == [row]
    shown = run("validator", "changes", "--home", node.home).out
    assert CHANGE in shown
    assert "remove_validator" in shown


def test_the_lease(node: Any, run: Callable[..., Any]) -> None:
    node.answers["GET /lease"] = 200, {"term": 4, "holder_id": "v2"}
    assert run("lease", "status", "--home", node.home, "--json").json == {"term": 4, "holder_id": "v2"}
    sent = answered(node, "/lease/acquire", {"code": "ok", "term": 5})
    assert run("lease", "acquire", "--home", node.home, "--ttl-ms", 500, "--keep").code == 0
    assert sent == [{"ttl_ms": 500, "keep": True}]
    assert run("lease", "acquire", "--home", node.home, "--ttl-ms", 600_001).code == 64
    held = {"code": "lease_held", "term": 4, "holder_id": "v2", "expires_at_ms": 9_000, "block_time_ms": 2_000}
    answered(node, "/lease/acquire", held)
    ran = run("lease", "acquire", "--home", node.home)
    assert ran.code == 69
    assert "lease_held; v2 holds it, without a renewal for 7000 ms" in ran.err
    answered(node, "/lease/acquire", {"code": "not_a_validator", "holder_id": None})
    assert run("lease", "acquire", "--home", node.home).code == 69
    answered(node, "/lease/release", {"code": "ok"})
    assert run("lease", "release", "--home", node.home).code == 0
    answered(node, "/lease/release", {"code": "lease_not_yours"})
    ran = run("lease", "release", "--home", node.home)
    assert (ran.code, "lease_not_yours" in ran.err) == (69, True)


def epoch_answer(**lists: Any) -> dict[str, Any]:
    member = {
        "validator_id": "v1", "stake": 7, "stake_per_mille": 1000, "proposed": 4, "proposed_per_mille": 1000,
        "signed": 3, "heights_in_set": 4,
    }  # fmt: skip
    empty: dict[str, Any] = {
        name: [] for name in ("equivocations", "changes_decided", "sets_taking_over", "lease_changes")
    }
    return {
        "world_id": "w", "epoch": 2, "is_over": True, "first_height": 9, "last_height": 12, "looked_at_from": 10,
        "blocks": 3, "blocks_after_round_0": 1, "highest_round": 2, "events": 5, "validators": [member], "omitted": 0,
        **empty, **lists,
    }  # fmt: skip


def test_the_report_of_an_epoch(node: Any, run: Callable[..., Any]) -> None:
    seen = {
        "validator_id": "v1", "kind": "double_prevote", "height": 10, "round": 0, "loses_seat": True,
        "recorded_at_height": 11, "caused_by": CHANGE,
    }  # fmt: skip
    node.answers["GET /epochs/2"] = 200, epoch_answer(equivocations=[seen])
    ran = run("validator", "epoch", 2, "--home", node.home)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0] == "epoch 2: heights 9 to 12, it is over"
    assert "from height 10 on" in lines[1]
    assert "equivocations" in lines
    assert "lease changes" not in lines
    assert "double_prevote" in lines[-1]
    node.answers["GET /epochs"] = 200, epoch_answer()
    assert run("validator", "epoch", "--home", node.home, "--json").json == epoch_answer()
    assert run("validator", "epoch", "-1", "--home", node.home).code == 64

"""T-7.9: the options of ``node run`` for challenges, and the commands that ask a node for them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_world.cli.challenge_options import OPTIONS

Run = Callable[..., Any]
ROW = {"challenge_id": "ab" * 32, "target": "12D3", "content": "bafk", "attempts": 1, "took_ms": 3, "detail": ""}
PASSED = {**ROW, "outcome": "passed", "reason": None}
FAILED = {**ROW, "outcome": "failed", "reason": "HASH_MISMATCH"}


@pytest.fixture
def home(run: Run, tmp_path: Path) -> Path:
    assert run("testnet", "init", tmp_path / "net", "--triad", "--base-port", 5000).code == 0
    return tmp_path / "net/sequencer"


def printed(run: Run, home: Path, *options: object) -> Any:
    return run("node", "run", "--home", home, "--print-config", *options)


def test_all_flags_reach_their_settings(run: Run, home: Path) -> None:
    options: list[object] = []
    for number, name in enumerate(OPTIONS, 1):
        options += [f"--reward-distfs-{name}", 1_000 + number]
    section = tomllib.loads(printed(run, home, *options).out)["challenge"]
    for number, (key, _least, _most, _text) in enumerate(OPTIONS.values(), 1):
        assert section[key] == 1_000 + number
    assert len(OPTIONS) == 13


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("text", ["-1", "x", "", "1.5", "99999999999999999999"])
def test_a_bad_value_names_its_flag(run: Run, home: Path, name: str, text: str) -> None:
    ran = printed(run, home, f"--reward-distfs-{name}={text}")
    what = "a positive integer" if OPTIONS[name][1] else "a non-negative integer"
    assert ran.code == 64
    assert f"--reward-distfs-{name} must be {what}" in ran.err


@pytest.mark.parametrize("name", OPTIONS)
def test_zero_is_refused_where_it_must_be(run: Run, home: Path, name: str) -> None:
    ran = printed(run, home, f"--reward-distfs-{name}", 0, "--reward-distfs-adaptive-backoff-base-ms", 0)
    assert ran.code == (64 if OPTIONS[name][1] else 0)
    assert (f"--reward-distfs-{name} must be a positive integer" in ran.err) is (ran.code == 64)


def test_a_value_that_is_missing_is_wrong_usage(run: Run, home: Path) -> None:
    ran = printed(run, home, "--reward-distfs-probe-per-tick")
    assert ran.code == 64
    assert "--reward-distfs-probe-per-tick" in ran.err


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_base_and_maximum_are_compared_when_both_are_known(run: Run, home: Path, order: tuple[int, int]) -> None:
    base = ("--reward-distfs-adaptive-backoff-base-ms", "9000000")
    for most, code in (("8999999", 64), ("9000000", 0)):
        pairs = (base, ("--reward-distfs-adaptive-backoff-max-ms", most))
        ran = printed(run, home, *pairs[order[0]], *pairs[order[1]])
        assert ran.code == code
        if code:
            assert "failure_backoff_max_ms must not be below challenge.failure_backoff_base_ms" in ran.err


def test_run_asks_once_a_challenge_and_tells_what_came(run: Run, node: Any) -> None:
    asked: list[Any] = []

    def answer(body: bytes) -> tuple[int, Any]:
        asked.append(json.loads(body))
        return 200, PASSED

    node.answers["POST /challenges"] = answer
    ran = run("challenge", "run", "--home", node.home, "--count", 3, "--target", "12D3", "--content", "bafk")
    assert (ran.code, asked) == (0, [{"target": "12D3", "content": "bafk"}] * 3)
    assert ran.out.splitlines()[-1] == "3 passed"
    assert run("challenge", "run", "--home", node.home, "--json").json == [PASSED]


def test_run_ends_with_76_if_one_failed_and_shows_all(run: Run, node: Any) -> None:
    answers = iter((PASSED, FAILED))
    node.answers["POST /challenges"] = lambda _body: (200, next(answers))
    ran = run("challenge", "run", "--home", node.home, "--count", 2)
    assert ran.code == 76
    assert ran.out.splitlines()[-1] == "1 passed, 1 failed"
    assert "1 of 2 failed: HASH_MISMATCH" in ran.err


def test_status_and_explain(run: Run, node: Any) -> None:
    target = {
        "total_checks": 4, "passed_checks": 3, "failed_checks": 1, "failure_reasons": {"TIMEOUT": 1}, "offline": 0,
        "contained": 2, "suspects": [], "backoff_until_unix_ms": 0, "last_backoff_reason": "TIMEOUT",
    }  # fmt: skip
    value = {
        "distfs_challenge_report": {"targets": {"12D3": target}},
        "distfs_probe_cursor_state": {"cumulative_total_checks": 7, "cumulative_failed_checks": 1},
        "recent": [FAILED],
    }
    node.answers["GET /challenges"] = 200, value
    ran = run("challenge", "status", "--home", node.home)
    assert ran.code == 0
    assert "own disk: 7 checks, 1 failed" in ran.out
    assert ran.out.count("12D3") == 2
    assert run("challenge", "status", "--home", node.home, "--json").json == value
    node.answers[f"GET /challenges/{'ab' * 32}"] = 200, FAILED
    assert "HASH_MISMATCH" in run("challenge", "explain", "ab" * 32, "--home", node.home).out
    assert run("challenge", "explain", "cd" * 32, "--home", node.home).code == 69

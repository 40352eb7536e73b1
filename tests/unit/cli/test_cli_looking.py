"""Commands that look at a running node: what they ask it, and how they print."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        (("node", "status"), ("GET /status", {})),
        (("world", "head"), ("GET /head", {})),
        (("world", "block", "7"), ("GET /blocks/7", {})),
        (("world", "state", "clock"), ("GET /state/system", {"key": ["clock"], "proof": ["0"]})),
        (
            ("world", "state", "a/b", "--namespace", "rules", "--proof"),
            ("GET /state/rules", {"key": ["a/b"], "proof": ["1"]}),
        ),
    ],
)
def test_one_value_as_json_and_as_text(run: Run, node: Any, command: tuple[str, ...], asked: Any) -> None:
    value = {"height": 3, "nested": {"deep": None, "list": [1, {"a": 2}]}, "text": "[bold]x[/bold]", "empty": {}}
    node.answers[asked[0]] = 200, value
    as_json = run(*command, "--home", node.home, "--json")
    assert (as_json.code, as_json.json) == (0, value)
    assert node.asked == [asked]
    text = run(*command, "--home", node.home)
    rows = {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1].strip() for line in text.out.splitlines()}
    assert rows == {
        "height": "3", "nested.deep": "-", "nested.list": '[1, {"a": 2}]', "text": "[bold]x[/bold]", "empty": "{}",
    }  # fmt: skip


def test_events_are_a_table(run: Run, node: Any) -> None:
    event = {"event_id": 1, "height": 2, "kind": "agent.moved", "payload": {"x_cm": 5}, "caused_by": "aa"}
    node.answers["GET /events"] = 200, {"height": 9, "events": [event]}
    ran = run("world", "events", "--from-height", 2, "--limit", 3, "--home", node.home)
    assert node.asked == [("GET /events", {"from_height": ["2"], "limit": ["3"]})]
    head, row = ran.out.splitlines()
    assert head.split() == ["event_id", "height", "kind", "payload"]
    assert row.split(maxsplit=3)[:3] == ["1", "2", "agent.moved"]
    assert run("world", "events", "--home", node.home, "--json").json == [event]


def test_a_namespace_is_a_table(run: Run, node: Any) -> None:
    answer = {"height": 9, "state_root": "b", "entries": [{"key": "clock", "value": {"height": 9}}]}
    node.answers["GET /state/system"] = 200, answer
    ran = run("world", "state", "--home", node.home, "--limit", 5)
    assert node.asked == [("GET /state/system", {"limit": ["5"]})]
    assert ran.out.splitlines()[0].split() == ["key", "value"]
    assert run("world", "state", "--home", node.home, "--json").json == answer


def test_the_home_may_be_in_the_environment(run: Run, node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node.answers["GET /head"] = 200, {"height": 1}
    monkeypatch.setenv("AGENT_WORLD_HOME", str(node.home))
    assert run("world", "head", "--json").json == {"height": 1}
    monkeypatch.delenv("AGENT_WORLD_HOME")
    assert run("world", "head").code == 64


@pytest.mark.parametrize("command", [("node", "status"), ("world", "head"), ("world", "events")])
def test_no_node_runs_there(run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    missing = run(*command, "--home", tmp_path / "nothing")
    assert missing.code == 64
    assert "is not a directory" in missing.err
    stopped = run(*command, "--home", tmp_path)
    assert (stopped.code, stopped.out) == (75, "")
    assert f"no node is running at {tmp_path}" in stopped.err
    assert f"agent-world node run --home {tmp_path}" in stopped.err


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ((404, {"error": {"code": "ERR_NOT_FOUND", "message": "gone", "rule": "", "retryable": False}}), 69, "gone"),
        ((503, {"error": {"code": "ERR_BUSY", "message": "later", "rule": "", "retryable": True}}), 75, "later"),
        ((500, b"Internal Server Error"), 75, "HTTP 500"),
        ((500, {"error": {"code": "ERR_NONSENSE", "message": "x"}}), 75, "HTTP 500"),
        ((500, {"error": 5}), 75, "HTTP 500"),
    ],
)
def test_refusals_end_with_their_code(run: Run, node: Any, answer: Any, code: int, words: str) -> None:
    node.answers["GET /head"] = answer
    ran = run("world", "head", "--home", node.home)
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err


@pytest.mark.parametrize(
    "arguments", [("block", "0"), ("block", "-1"), ("events", "--limit", "0"), ("state", "--namespace", "x")]
)
def test_what_cannot_be_asked_is_a_usage_error(run: Run, node: Any, arguments: tuple[str, ...]) -> None:
    ran = run("world", *arguments, "--home", node.home)
    assert ran.code == 64
    assert node.asked == []

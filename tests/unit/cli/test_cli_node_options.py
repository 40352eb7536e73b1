from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from agent_world.cli.node_options import set_up_logging


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    before, handlers, level = structlog.get_config(), logging.root.handlers[:], logging.root.level
    yield
    structlog.configure(**before)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def logged(capsys: pytest.CaptureFixture[str], *, as_json: bool, **words: Any) -> str:
    set_up_logging(verbose=False, as_json=as_json)
    structlog.get_logger("agent_world.test").warning("refused", **words)
    return capsys.readouterr().err


def test_what_a_peer_says_stays_within_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    line = logged(capsys, as_json=False, error="a\x1b[2J\n2026 [info] all is well", count=3)
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert r"a\x1b[2J\n2026 [info] all is well" in line
    assert "count=3" in line


def test_json_lines_keep_what_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    line = logged(capsys, as_json=True, error="a\x1b\n")
    assert json.loads(line)["error"] == "a\x1b\n"
    assert line.count("\n") == 1

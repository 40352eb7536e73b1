from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent_world.cli import node_process as module
from agent_world.cli.node_process import start_node, stop_nodes

STUBBORN = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print(flush=True); signal.pause()"
PATIENT = "import signal, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit(3)); print(flush=True); signal.pause()"


def running(code: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


def test_who_does_not_stop_when_asked_is_killed() -> None:
    patient, stubborn, ended = running(PATIENT), running(STUBBORN), running("print(flush=True)")
    ended.wait()
    stop_nodes([patient, ended], 3_600)  # nobody is waited for who has stopped
    assert (patient.returncode, ended.returncode) == (3, 0)
    stop_nodes([patient, stubborn, ended], 0.2)
    assert (patient.returncode, stubborn.returncode, ended.returncode) == (3, -9, 0)


def test_what_a_node_says_is_added_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "node.log"
    log.write_text("before\n")
    process = start_node(tmp_path / "no home", log)
    assert process.wait() != 0
    assert log.read_text().startswith("before\n")
    assert "no home" in log.read_text()


def test_a_node_has_a_session_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def popen(command: list[str], **options: object) -> None:
        asked.update(options, command=command)

    monkeypatch.setattr(module.subprocess, "Popen", popen)
    start_node(tmp_path, tmp_path / "log")
    assert asked["start_new_session"] is True
    assert asked["command"][-2:] == ["--home", str(tmp_path)]

"""Processes of ``agent-world node run``: how one is started, and several are stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path


def start_node(home: Path, log: Path) -> subprocess.Popen[bytes]:
    """Run the node of ``home``; its log lines are added to ``log``.

    It gets a session of its own, so that a terminal's Ctrl-C reaches it only through us, in order.
    """
    with log.open("ab") as lines:
        return subprocess.Popen(
            [sys.executable, "-m", "agent_world", "node", "run", "--home", str(home)],
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=lines,
            start_new_session=True,
        )


def stop_nodes(processes: Collection[subprocess.Popen[bytes]], within_s: float) -> None:
    """SIGINT to all, then wait; what has not stopped after ``within_s`` seconds is killed."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + within_s
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

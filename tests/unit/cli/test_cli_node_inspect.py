from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_world.store.guard import GuardStore
from agent_world.store.socket_path import outside_socket
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.stack_actions import actor, grant, register

Run = Callable[..., Any]
WAIT_S = 20.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """What a killed process leaves: the second height is in the write-ahead log only, and its socket is still there."""
    with LedgerChain(tmp_path / "living") as chain:
        GuardStore.open(chain.home, chain.voter, committed_height=0).close()
        chain.do(chain.authority, register("alice"))
        chain.do(chain.authority, grant("alice", 5))
        shutil.copytree(chain.path, tmp_path / "home", ignore=shutil.ignore_patterns("*-shm"))
    (tmp_path / "home" / "control.sock").touch()
    return tmp_path / "home"


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A temporary directory with a short path, for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@contextmanager
def inspecting(home: Path, *, before: str = "") -> Iterator[subprocess.Popen[str]]:
    """``node inspect`` as a process that executes ``before`` first; its first line is read."""
    code = f"{before}\nimport sys\nfrom agent_world.cli.main import main\nmain(sys.argv[1:])\n"
    command = [sys.executable, "-c", code, "node", "inspect", "--home", str(home)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert "for reading only" in process.stdout.readline(), process.stderr and process.stderr.read()
        yield process
    finally:
        process.kill()
        process.communicate()


def answered(run: Run, *arguments: object) -> Any:
    """The answer, once the process has opened its socket."""
    deadline = time.monotonic() + WAIT_S
    while (ran := run(*arguments, "--json")).code == 75 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ran.code == 0, ran.err
    return ran.json


def contents(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.rglob("*") if path.is_file() and path.suffix != ".sock"}


def test_the_commands_that_look_work_against_a_crashed_home(run: Run, home: Path) -> None:
    before = contents(home)
    with inspecting(home) as process:
        assert answered(run, "world", "head", "--home", home)["height"] == 2
        assert run("world", "block", 2, "--home", home, "--json").json["certified_by"] == ["v1"]
        key = f"balance/{actor('alice')}/gold"
        state = run("world", "state", key, "--namespace", "rules", "--proof", "--home", home, "--json").json
        assert state["value"] == {"amount": 5}
        assert state["proof"]["nodes"]
        assert run("world", "events", "--home", home, "--json").json[-1]["kind"] == "resource.granted"
        status = run("node", "status", "--home", home, "--json").json
        assert (status["running"], status["consensus"]["committed_height"]) == (False, 2)
        assert run("peer", "list", "--home", home, "--json").json == []
        assert run("validator", "list", "--home", home, "--json").json["height"] == 2
        refused = run("peer", "ban", status["peer_id"], "--home", home)
        assert (refused.code, "start its node" in refused.err) == (69, True)
        assert run("lease", "status", "--home", home, "--json").json["term"] == 0
        for command in (
            ("fs", "ls"),
            ("blob", "ls"),
            ("replication", "status"),
            ("challenge", "status"),
            ("blob", "gc"),
        ):
            refused = run(*command, "--home", home)
            assert (refused.code, "start its node" in refused.err) == (69, True), command
        assert run("node", "run", "--home", home).code == 65
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert not (home / "control.sock").exists()
    after = contents(home)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) <= {"world.db-shm"}


def test_a_home_on_a_disk_that_cannot_be_written(
    run: Run, home: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket cannot be in the home then, and the write-ahead log is read from a copy."""
    (home / "control.sock").unlink()
    before = contents(home)
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    patched = "import os; os.access = lambda _path, mode, **_options: mode != os.W_OK"
    with inspecting(home, before=patched) as process:
        assert answered(run, "world", "head", "--home", home)["height"] == 2
        assert outside_socket(home).exists()
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 0
    assert not [path for path in temporary.rglob("*") if not path.is_dir()], "neither socket nor copy is left"
    assert contents(home) == before


def test_once_prints_a_summary(run: Run, home: Path) -> None:
    ran = run("node", "inspect", "--home", home, "--once", "--json")
    assert ran.code == 0
    assert ran.json["consensus"]["committed_height"] == 2
    assert (ran.json["damage"], ran.json["last_block"]["actions"], ran.json["boundaries"]) == ([], 1, 0)
    assert ran.json["state_blobs"] > 1
    assert "committed_height" in run("node", "inspect", "--home", home, "--once").out


def test_damage_is_named_and_is_an_exit_code(run: Run, home: Path) -> None:
    with closing(sqlite3.connect(home / "world.db")) as database, database:
        database.execute("UPDATE blobs SET data = x'00'")
    ran = run("node", "inspect", "--home", home, "--once")
    assert ran.code == 65
    assert "DAMAGE  state: " in ran.err
    assert run("node", "inspect", "--home", home, "--once", "--json").json["damage"]


def test_what_cannot_be_inspected(run: Run, home: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        ran = run("node", "inspect", "--home", path, "--once")
        assert (ran.code, ran.out) == (65, "")
    with LedgerChain(tmp_path / "running"):
        ran = run("node", "inspect", "--home", tmp_path / "running", "--once")
        assert (ran.code, "in use" in ran.err) == (65, True)
    (home / "world.db").write_bytes(b"SQLite format 3\x00" + bytes(100))
    (home / "world.db-wal").unlink()
    assert run("node", "inspect", "--home", home).code == 65


def test_it_needs_no_network() -> None:
    code = "import sys, agent_world.cli.node_inspect; print('libp2p' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"

"""An etcd cluster (Raft in Go) on loopback, and puts to its leader one after the other over its JSON gateway."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent_world.node.provision import free_ports

ENTRY = b"x" * 322
WARM_UP = 20
START_S = 20.0


def binary() -> str | None:
    """Path of the etcd program: AGENT_WORLD_BENCH_ETCD, else on PATH; None if there is none."""
    return os.environ.get("AGENT_WORLD_BENCH_ETCD") or shutil.which("etcd")


def measure(directory: Path, members: int, seconds: float) -> tuple[list[float], float]:
    """Seconds of every put, and how long all took."""
    with _cluster(directory, members) as ports:
        leader = _leader(ports)
        connection = http.client.HTTPConnection("127.0.0.1", leader, timeout=10)
        try:
            for _ in range(WARM_UP):
                _put(connection)
            taken = []
            started = time.monotonic()
            while time.monotonic() - started < seconds:
                before = time.monotonic()
                _put(connection)
                taken.append(time.monotonic() - before)
            return taken, time.monotonic() - started
        finally:
            connection.close()


@contextlib.contextmanager
def _cluster(directory: Path, members: int) -> Iterator[list[int]]:
    program = binary()
    assert program is not None
    ports = free_ports("127.0.0.1", 2 * members)
    clients, peers = ports[:members], ports[members:]
    together = ",".join(f"m{index}=http://127.0.0.1:{port}" for index, port in enumerate(peers))
    processes = []
    try:
        for index, (client, peer) in enumerate(zip(clients, peers, strict=True)):
            command = [program, "--name", f"m{index}", "--data-dir", str(directory / f"m{index}"), "--log-level=error"]
            for option in ("listen-client-urls", "advertise-client-urls"):
                command += [f"--{option}", f"http://127.0.0.1:{client}"]
            for option in ("listen-peer-urls", "initial-advertise-peer-urls"):
                command += [f"--{option}", f"http://127.0.0.1:{peer}"]
            command += ["--initial-cluster", together, "--initial-cluster-state", "new"]
            processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        yield clients
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def _leader(ports: list[int]) -> int:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        for port in ports:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            try:
                status = _post(connection, "/v3/maintenance/status", {})
            except OSError:
                continue  # not up yet
            finally:
                connection.close()
            if status.get("leader") and status["leader"] == status["header"]["member_id"]:
                return port
        time.sleep(0.05)
    raise TimeoutError(f"the etcd members had no leader within {START_S} s")


def _put(connection: http.client.HTTPConnection) -> None:
    entry = {"key": base64.b64encode(b"key").decode(), "value": base64.b64encode(ENTRY).decode()}
    _post(connection, "/v3/kv/put", entry)


def _post(connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> dict[str, Any]:
    connection.request("POST", path, json.dumps(body))
    response = connection.getresponse()
    answer: dict[str, Any] = json.loads(response.read())
    if response.status != 200:
        raise ConnectionError(f"etcd answered {response.status}: {answer}")
    return answer

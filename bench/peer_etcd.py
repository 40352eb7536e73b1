"""An etcd cluster (Raft in Go) on loopback, and puts to its leader one after the other over its JSON gateway."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent_world.node.provision import free_ports

ENTRY = b"x" * 322
WARM_UP = 20
START_S = 20.0


def binary() -> str | None:
    """Path of the etcd program: AGENT_WORLD_BENCH_ETCD, else on PATH; None if there is none."""
    return os.environ.get("AGENT_WORLD_BENCH_ETCD") or shutil.which("etcd")


def measure(directory: Path, members: int, seconds: float) -> tuple[list[float], float]:
    """Seconds of every put, and how long all took."""
    with Cluster(directory, members) as cluster:
        connection = http.client.HTTPConnection("127.0.0.1", cluster.ports[cluster.leader()], timeout=10)
        try:
            for _ in range(WARM_UP):
                put(connection)
            taken = []
            started = time.monotonic()
            while time.monotonic() - started < seconds:
                before = time.monotonic()
                put(connection)
                taken.append(time.monotonic() - before)
            return taken, time.monotonic() - started
        finally:
            connection.close()


class Cluster:
    """Members as processes; leaving the context kills them. All settings but the addresses are etcd's defaults."""

    def __init__(self, directory: Path, members: int) -> None:
        self._directory = directory
        ports = free_ports("127.0.0.1", 2 * members)
        self.ports, self._peers = ports[:members], ports[members:]
        """Ports for clients, by member."""
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        for index in range(len(self.ports)):
            self.start(index)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for index in self._processes:
            self.kill(index)

    def start(self, index: int) -> None:
        """Start a member, for the first time or again with what its directory holds."""
        program = binary()
        assert program is not None
        together = ",".join(f"m{other}=http://127.0.0.1:{port}" for other, port in enumerate(self._peers))
        command = [program, "--name", f"m{index}", "--data-dir", str(self._directory / f"m{index}")]
        for option in ("listen-client-urls", "advertise-client-urls"):
            command += [f"--{option}", f"http://127.0.0.1:{self.ports[index]}"]
        for option in ("listen-peer-urls", "initial-advertise-peer-urls"):
            command += [f"--{option}", f"http://127.0.0.1:{self._peers[index]}"]
        command += ["--initial-cluster", together, "--initial-cluster-state", "new", "--log-level=error"]
        self._processes[index] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self, index: int) -> None:
        """SIGKILL; returns when the process is gone."""
        self._processes[index].kill()
        self._processes[index].wait()

    def leader(self) -> int:
        """Which member leads; waits for one, TimeoutError if there is none."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            for index, port in enumerate(self.ports):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
                try:
                    status = _post(connection, "/v3/maintenance/status", {})
                except OSError:
                    continue  # not up
                finally:
                    connection.close()
                if status.get("leader") and status["leader"] == status["header"]["member_id"]:
                    return index
            time.sleep(0.05)
        raise TimeoutError(f"the etcd members had no leader within {START_S} s")


def put_request() -> bytes:
    """One put of ENTRY as it goes over a kept connection."""
    body = json.dumps(_entry()).encode()
    return b"POST /v3/kv/put HTTP/1.1\r\nHost: etcd\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def _entry() -> dict[str, str]:
    return {"key": base64.b64encode(b"key").decode(), "value": base64.b64encode(ENTRY).decode()}


def put(connection: http.client.HTTPConnection) -> None:
    """One put of ENTRY; raises OSError if the member does not answer, or does not succeed."""
    _post(connection, "/v3/kv/put", _entry())


def _post(connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> dict[str, Any]:
    connection.request("POST", path, json.dumps(body))
    response = connection.getresponse()
    answer: dict[str, Any] = json.loads(response.read())
    if response.status != 200:
        raise ConnectionError(f"etcd answered {response.status}: {answer}")
    return answer

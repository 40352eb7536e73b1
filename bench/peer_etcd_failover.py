"""An etcd cluster whose leader is killed under load and started again: how soon a put succeeds at another member."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import attrs

from bench.peer_etcd import Cluster, put

CLIENTS_PER_MEMBER: Final = 2
PUT_TIMEOUT_S: Final = 0.25
"""A put that waits longer is given up and sent again: while there is no leader, etcd keeps it for seconds."""
PAUSE_S: Final = 0.1
"""Between two puts of one client: as many puts a second as our agents hand in actions, or more."""
RETRY_S: Final = 0.01
REST_S: Final = 1.0
PATIENCE_S: Final = 60.0


@attrs.frozen(slots=True)
class EtcdKill:
    """One kill; times in seconds."""

    commit_s: float
    """From the kill to the answer of the first put sent after it."""
    rejoin_s: float
    """From the restart to the first put that succeeds through the restarted member."""


class _Clients:
    """Threads that put at every member, again and again, and note when a put sent last succeeded."""

    def __init__(self, ports: list[int]) -> None:
        self._stop = threading.Event()
        self.succeeded: dict[int, tuple[float, float]] = {}
        """By member: when the last put that succeeded was sent, and when it was answered."""
        self._threads = [
            threading.Thread(target=self._run, args=(index, port), daemon=True)
            for index, port in enumerate(ports)
            for _ in range(CLIENTS_PER_MEMBER)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, index: int, port: int) -> None:
        while not self._stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PUT_TIMEOUT_S)
            with contextlib.suppress(OSError, http.client.HTTPException):
                while not self._stop.is_set():
                    sent = time.monotonic()
                    put(connection)
                    self.succeeded[index] = (sent, time.monotonic())
                    self._stop.wait(PAUSE_S)
            connection.close()
            self._stop.wait(RETRY_S)

    def wait_success(self, after: float, members: list[int]) -> float:
        """When the first put through one of these that was sent after that moment was answered."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            last = [self.succeeded[index] for index in members if index in self.succeeded]
            answered = [done for sent, done in last if sent >= after]
            if answered:
                return min(answered)
            time.sleep(RETRY_S / 2)
        raise TimeoutError(f"no put succeeded within {PATIENCE_S} s")


def run(directory: Path, members: int, kills: int, say: Callable[[str], None]) -> list[EtcdKill]:
    """Kill the leader so often, one after the other."""
    found = []
    with Cluster(directory, members) as cluster:
        cluster.leader()
        with _Clients(cluster.ports) as clients:
            for number in range(kills):
                clients.wait_success(time.monotonic(), list(range(members)))
                leader = cluster.leader()
                killed_at = time.monotonic()
                cluster.kill(leader)
                others = [index for index in range(members) if index != leader]
                commit_s = clients.wait_success(killed_at, others) - killed_at
                started_at = time.monotonic()
                cluster.start(leader)
                rejoin_s = clients.wait_success(started_at, [leader]) - started_at
                found.append(EtcdKill(round(commit_s, 3), round(rejoin_s, 3)))
                say(f"etcd {number + 1}: {found[-1]}")
                time.sleep(REST_S)
    return found

"""Real node processes for tests: started, watched over their control API, killed, stopped."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx

from agent_world.cli.client import CONTROL_SOCKET, NodeClient
from agent_world.cli.node_process import start_node
from agent_world.errors import Refused, Unavailable
from agent_world.node.provision import MadeNode
from agent_world.store.socket_path import socket_address
from agent_world.wire.hello import Role

T = TypeVar("T")
POLL_S: Final = 0.05
START_S: Final = 30.0
"""Longest time for processes to be up and linked, also while other things keep both cores busy."""
STOP_S: Final = 5.0
"""A node that was asked to stop is gone within this (the promise under test)."""


def command(*arguments: str) -> list[str]:
    """The command line of ``agent-world``."""
    return [sys.executable, "-m", "agent_world", *arguments]


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. How soon that comes is not under test: one that hangs is ended with its test."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False)


class Client(NodeClient):
    """A control client for nodes that come and go.

    It looks whether anybody listens before it makes a connection: httpcore leaves the socket of a refused one to the
    garbage collector, which warns, and warnings are errors here.
    """

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._path = socket_address(home / CONTROL_SOCKET)

    def _send(self, verb: str, path: str, **arguments: Any) -> httpx.Response:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self._path)
            except OSError as error:
                raise Unavailable(f"nobody listens on {self._path}: {error}") from None
        return super()._send(verb, path, **arguments)


class Swarm:
    """Processes of the nodes of a made swarm. Leaving the context ends them all, killing what does not stop."""

    def __init__(self, nodes: Iterable[MadeNode]) -> None:
        self.nodes = {node.name: node for node in nodes}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._started: set[str] = set()
        """Nodes whose process nobody has ended."""
        self._clients: dict[str, Client] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()
        for client in self._clients.values():
            client.close()

    @property
    def running(self) -> list[str]:
        """Names of the nodes whose process runs."""
        return [name for name, process in self._processes.items() if process.poll() is None]

    def rss_kib(self, name: str) -> int:
        """Memory that a running node has now."""
        status = Path(f"/proc/{self._processes[name].pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def home(self, name: str) -> Path:
        """A node's home."""
        return self.nodes[name].home

    def start(self, *names: str) -> None:
        """Start nodes; their log lines go to ``<home>.log``."""
        for name in names:
            assert name not in self.running
            self._started.add(name)
            self._processes[name] = start_node(self.home(name), self._log_path(name))

    def log(self, name: str) -> str:
        """What the node has logged so far."""
        return self._log_path(name).read_text(encoding="utf-8", errors="replace")

    def _log_path(self, name: str) -> Path:
        return self.home(name).with_suffix(".log")

    def client(self, name: str) -> Client:
        """The control API of a node; for the main thread only."""
        if name not in self._clients:
            self._clients[name] = Client(self.home(name))
        return self._clients[name]

    def get(self, name: str, path: str, **query: Any) -> Any:
        """One answer of a node's control API."""
        return self.client(name).get(path, **query)

    def linked_to(self, name: str) -> set[str]:
        """Names of the nodes that ``name`` has greeted and is connected with."""
        by_peer = {node.multiaddr.rpartition("/")[2]: other for other, node in self.nodes.items()}
        peers = self.get(name, "/status")["peers"]
        return {by_peer[peer["peer_id"]] for peer in peers if peer["role"] is not None}

    def until(self, what: str, condition: Callable[[], T], seconds: float = START_S) -> T:
        """The first true answer of ``condition``; a node that does not answer yet counts as false.

        Fails with the log of a process that has ended by itself.
        """
        deadline = time.monotonic() + seconds
        seen: object = None
        while time.monotonic() < deadline:
            try:
                answer = condition()
            except (Unavailable, Refused) as error:
                seen = error
            else:
                if answer:
                    return answer
                seen = answer
            for name in self._started - set(self.running):
                raise AssertionError(f"{name} has ended while waiting for: {what}; its log:\n{self.log(name)[-4000:]}")
            time.sleep(POLL_S)
        raise AssertionError(f"not within {seconds} s: {what} (last seen: {seen})")

    def wait_all_linked(self) -> None:
        """Until every node that was started is linked with every other."""
        for name in sorted(self._started):
            others = self._started - {name}
            self.until(f"{name} sees {others}", partial(self._sees, name, others))

    def _sees(self, name: str, others: set[str]) -> bool:
        return self.linked_to(name) >= others

    def height(self, name: str) -> int:
        """Committed height of a node."""
        return int(self.get(name, "/head")["height"])

    def wait_height(self, height: int, names: Iterable[str], seconds: float = START_S) -> None:
        """Until these nodes are at this height or above."""
        for name in names:
            self.until(f"{name} at {height}", partial(self._is_at, name, height), seconds)

    def _is_at(self, name: str, height: int) -> bool:
        return self.height(name) >= height

    def kill(self, name: str) -> None:
        """SIGKILL."""
        self._started.discard(name)
        self._processes[name].kill()
        self._processes[name].wait()

    def interrupt(self, *names: str) -> dict[str, tuple[int, float]]:
        """SIGINT to all; exit code and seconds until it was gone, by name."""
        started = time.monotonic()
        self._started -= set(names)
        for name in names:
            self._processes[name].send_signal(signal.SIGINT)
        ended: dict[str, tuple[int, float]] = {}
        while len(ended) < len(names) and time.monotonic() < started + 2 * STOP_S:
            for name in names:
                code = self._processes[name].poll()
                if code is not None and name not in ended:
                    ended[name] = (code, time.monotonic() - started)
            time.sleep(POLL_S / 5)
        return ended


def printed_nodes(printed: dict[str, Any]) -> list[MadeNode]:
    """The nodes that ``testnet init --json`` printed."""
    return [
        MadeNode(name=row["name"], role=Role(row["role"]), home=Path(row["home"]), multiaddr=row["multiaddr"])
        for row in printed["nodes"]
    ]

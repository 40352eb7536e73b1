"""A swarm of node processes for tests and benchmarks: started, asked over their control sockets, killed, stopped."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final, Self

from agent_world.cli.client import CONTROL_SOCKET, NodeClient
from agent_world.cli.node_process import start_node, stop_nodes
from agent_world.errors import AgentWorldError, Unavailable
from agent_world.node.provision import MadeNode

STOP_S: Final = 20.0
"""After this a process that was asked to stop is killed."""


class Processes:
    """``agent-world node run`` for each of ``nodes`` that is started. Leaving the context ends them all."""

    def __init__(self, nodes: Iterable[MadeNode]) -> None:
        self.nodes = {node.name: node for node in nodes}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._clients: dict[str, NodeClient] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for client in self._clients.values():
            client.close()

    def start(self, *names: str) -> None:
        """Start nodes; their log lines are added to ``<home>.log``."""
        for name in names:
            home = self.nodes[name].home
            (home / CONTROL_SOCKET).unlink(missing_ok=True)  # so that nobody asks the socket of a killed process
            self._processes[name] = start_node(home, home.with_suffix(".log"))

    def kill(self, name: str) -> None:
        """SIGKILL; returns when the process is gone."""
        self._processes[name].kill()
        self._processes[name].wait()

    def running(self) -> list[str]:
        """Names of the nodes whose process has not ended."""
        return [name for name, process in self._processes.items() if process.poll() is None]

    def pid(self, name: str) -> int:
        """Process id of a node that was started."""
        return self._processes[name].pid

    def client(self, name: str) -> NodeClient:
        """The control API of a node."""
        if name not in self._clients:
            self._clients[name] = NodeClient(self.nodes[name].home)
        return self._clients[name]

    def get(self, name: str, path: str) -> Any | None:
        """An answer of a node; None from one that is not up or refuses."""
        if not (self.nodes[name].home / CONTROL_SOCKET).exists():
            return None
        try:
            return self.client(name).get(path)
        except AgentWorldError:
            return None

    def post(self, name: str, path: str, data: bytes) -> bool:
        """Hand bytes to a node; False if it is not up. Raises Refused for what it refuses."""
        if not (self.nodes[name].home / CONTROL_SOCKET).exists():
            return False
        try:
            self.client(name).post_bytes(path, data)
        except Unavailable:
            return False
        return True

    def stop(self) -> None:
        """Ask all to stop, and wait; what does not stop is killed."""
        stop_nodes(self._processes.values(), STOP_S)

"""The demo's three node processes: started, watched, stopped."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from agent_world.cli.client import NodeClient
from agent_world.cli.node_process import start_node, stop_nodes
from agent_world.errors import Unavailable
from agent_world.node.provision import MadeNode, MadeSwarm

START_S: Final = 30.0
"""Longest time for a process to answer, and for the three to find each other."""
STOP_S: Final = 10.0
"""After this a process that was asked to stop is killed."""
POLL_S: Final = 0.05


class DemoSwarm:
    """Three ``agent-world node run`` processes. Leaving the context stops them all."""

    def __init__(self, made: MadeSwarm) -> None:
        self.made = made
        self.clients = {node.name: NodeClient(node.home) for node in made.nodes}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        for node in self.made.nodes:
            self.start(node)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for client in self.clients.values():
            client.close()

    def log_of(self, node: MadeNode) -> Path:
        """Where a node's log lines go."""
        return node.home.parent / f"{node.name}.log"

    def start(self, node: MadeNode) -> None:
        """Start one node."""
        self._processes[node.name] = start_node(node.home, self.log_of(node))

    def wait_linked(self) -> None:
        """Until every node answers and is connected to all others; raises Unavailable with what is missing."""
        deadline = time.monotonic() + START_S
        for node in self.made.nodes:
            while not self._is_linked(node.name):
                self.check_alive()
                if time.monotonic() > deadline:
                    raise Unavailable(f"{node.name} did not find its peers in {START_S:.0f} s; see {self.log_of(node)}")
                time.sleep(POLL_S)

    def _is_linked(self, name: str) -> bool:
        try:
            peers = self.status(name)["peers"]
        except Unavailable:
            return False
        return sum(peer["role"] is not None for peer in peers) >= len(self.made.nodes) - 1

    def status(self, name: str) -> dict[str, Any]:
        """What a node says of itself."""
        answer: dict[str, Any] = self.clients[name].get("/status")
        return answer

    def check_alive(self) -> None:
        """Raise Unavailable if a process has ended by itself."""
        for node in self.made.nodes:
            code = self._processes[node.name].poll()
            if code is not None:
                raise Unavailable(f"the {node.name} process ended with {code}; its log is {self.log_of(node)}")

    def stop(self) -> None:
        """Ask all to stop, and wait; what does not stop is killed."""
        stop_nodes(self._processes.values(), STOP_S)

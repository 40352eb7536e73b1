"""Processes that die between two steps of persistence, and leave on disk what a killed process leaves."""

from __future__ import annotations

import shutil
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Final

import trio

from agent_world.net.memory import InMemoryNetwork
from agent_world.node.node import Node
from agent_world.testing.node_swarm import Member
from agent_world.testing.stack import Stack

PATIENCE_S: Final = 2.0
"""Who does not come by the step in this time is spared, and somebody else tried later."""
TRIES: Final = 3
"""For each step, on average; what is left then did not happen."""
DOWN_S: Final = (0.05, 0.5, 2.0)
"""How long a dead process stays away."""


class ProcessDied(BaseException):
    """Ends a node where it stands; nothing may catch it but whoever runs the node."""


class Deaths:
    """Lets members of a stack die at chosen steps."""

    def __init__(self, stack: Stack, hub: InMemoryNetwork) -> None:
        self._stack = stack
        self._hub = hub
        self._armed: tuple[str, str] | None = None
        self._died = trio.Event()
        self.counts: Counter[str] = Counter()

    def hook(self, member: Member, node: Node) -> None:
        """Put into the persistence of a node that is about to run."""

        is_dead = trio.Event()

        def at(step: str) -> None:
            # Tasks that have not heard yet of the end of their process must not write on: somebody would see it.
            if is_dead.is_set():
                raise ProcessDied(f"{member.name} at {step}, once more")
            if self._armed == (member.name, step):
                is_dead.set()
                self._die(member, step)

        node.ledger._chain._fault = at
        node.replication.store._fault = at
        if node.seat is not None and node.seat._guard is not None:
            node.seat._guard._fault = at

    def _die(self, member: Member, step: str) -> None:
        self._armed = None
        self.counts[f"died.{step}"] += 1
        # What is on disk now is what counts: while a process is taken down here, its tasks may still close files.
        image = _image_of(member.home)
        shutil.rmtree(image, ignore_errors=True)
        shutil.copytree(member.home, image)
        self._hub.remove(member.peer_id)
        self._died.set()
        raise ProcessDied(f"{member.name} at {step}")

    async def run(self, steps: Sequence[str], victims: Callable[[], list[str]], rng: Random) -> None:
        """Somebody dies at each step in turn, and comes back from its home; where nobody came by, it is tried again."""
        left = deque([*steps])
        for _try in range(TRIES * len(steps)):
            if not left:
                return
            step = left.popleft()
            running = victims()
            if not running:
                left.append(step)
                await trio.sleep(PATIENCE_S)
                continue
            name = rng.choice(running)
            self._died = trio.Event()
            self._armed = (name, step)
            with trio.move_on_after(PATIENCE_S) as patience:
                await self._died.wait()
            self._armed = None
            if patience.cancelled_caught:
                left.append(step)
                continue
            await self._stack.members[name]._ended.wait()
            await trio.sleep(rng.choice(DOWN_S))
            self._bury(self._stack.members[name])
            await self._stack.start(name)

    def _bury(self, member: Member) -> None:
        shutil.rmtree(member.home)
        _image_of(member.home).rename(member.home)


def _image_of(home: Path) -> Path:
    return home.with_name(f"{home.name}.image")

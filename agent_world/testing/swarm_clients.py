"""Agents who act through a swarm's faults, the time to settle after them, and the judgement at the end."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import Refused
from agent_world.node.views import NodeViews
from agent_world.testing.node_swarm import NodeSwarm, make_key
from agent_world.testing.stack_actions import grant, pay, register
from agent_world.wire.ids import Hash32

SETTLE_S: Final = 60.0
"""Virtual seconds in which the chain must have grown and everybody must have all of it; left as soon as it is so."""
GROWTH_BLOCKS: Final = 3
BEAT_S: Final = 0.4
"""Between two actions."""
AGAIN_S: Final = 4.0
"""An action without a receipt after so long is handed in again, elsewhere: its node may have died with it."""
MEMORY: Final = Path("/dev/shm")


@contextmanager
def temporary_homes() -> Iterator[Path]:
    """A directory for the homes, in memory where there is such a place: none of this is about a power cut."""
    with tempfile.TemporaryDirectory(prefix="aw-sim-", dir=MEMORY if MEMORY.is_dir() else None) as path:
        yield Path(path)


class Clients:
    """Alice comes into the world and pays Bob again and again, at any node that runs."""

    def __init__(self, swarm: NodeSwarm, rng: random.Random) -> None:
        self._swarm = swarm
        self._rng = rng
        self.is_acting = True
        self.open: dict[Hash32, tuple[bytes, float]] = {}
        """Without a receipt: the action, and when it was handed in last."""
        self.committed: list[Hash32] = []
        self.counts: Counter[str] = Counter()

    @property
    def all_ids(self) -> set[Hash32]:
        """Of everything that was handed in."""
        return {*self.committed, *self.open}

    async def run(self) -> None:
        """Until cancelled."""
        for payload in (register("alice"), register("bob"), grant("alice", 1_000_000)):
            self._act(self._swarm.authority, payload)
        while True:
            await trio.sleep(BEAT_S)
            self._look()
            if self.is_acting:
                self._act(make_key("alice"), pay("bob", 1))

    def _act(self, key: KeyPair, payload: object) -> None:
        self._hand_in(self._swarm.sign(key, payload))

    def _anybody(self) -> NodeViews:
        running = [name for name, member in self._swarm.members.items() if member.node is not None]
        return NodeViews(self._swarm.node(self._rng.choice(running)))

    def _hand_in(self, data: bytes) -> None:
        try:
            self._anybody().submit(data)
            self.counts["handed_in"] += 1
        except Refused as error:
            # A node that is behind does not know Alice yet, or sees a nonce too far ahead.
            self.counts[f"refused.{error.rule}"] += 1
        self.open[hash32(data)] = (data, trio.current_time())

    def _look(self) -> None:
        for action_id, (data, since_s) in list(self.open.items()):
            if any(
                member.node is not None and member.node.ledger.receipt(action_id) is not None
                for member in self._swarm.members.values()
            ):
                del self.open[action_id]
                self.committed.append(action_id)
            elif trio.current_time() - since_s > AGAIN_S:
                self._hand_in(data)


async def settle(swarm: NodeSwarm, clients: Clients, names: Collection[str]) -> None:
    """Faults are over: let these members grow and take in everything, for at most SETTLE_S."""
    before = swarm.top()
    ended_s = trio.current_time()
    while trio.current_time() < ended_s + SETTLE_S:
        await trio.sleep(BEAT_S)
        heights = swarm.checker.heights
        grown = all(heights.get(name, 0) >= before + GROWTH_BLOCKS for name in names)
        if grown and not clients.open and not any(_missing(swarm, clients, name) for name in names):
            break
    clients.counts["settled_ms"] = round(1000 * (trio.current_time() - ended_s))
    clients.counts["height_before"] = before
    clients.counts["height"] = swarm.top()
    for name in names:
        swarm.checker.grown(name, before=before, wanted=before + GROWTH_BLOCKS)


def _missing(swarm: NodeSwarm, clients: Clients, name: str) -> set[Hash32]:
    ledger = swarm.node(name).ledger
    return {action_id for action_id in clients.all_ids if ledger.receipt(action_id) is None}


def judge(swarm: NodeSwarm, clients: Clients, names: Collection[str]) -> None:
    """One state root a height over all, and everything handed in is committed at each of these members."""
    wanted = clients.all_ids
    clients.counts["actions"] = len(wanted)
    swarm.checker.same_roots(swarm.history)
    for name in names:
        swarm.checker.all_committed(name, wanted, wanted - _missing(swarm, clients, name))

"""Agents that pay each other through whatever nodes live, and what they were promised: receipts and acceptances."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import deque
from random import Random
from types import TracebackType
from typing import Final, Self

import attrs

from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import Refused, Unavailable
from agent_world.node.provision import MadeSwarm
from agent_world.testing.processes import Processes
from agent_world.testing.signer import Signer
from agent_world.wire.action import GrantResource, RegisterAgent, TransferResource
from agent_world.wire.ids import U64, Hash32, Name

RESOURCE: Final = Name("sou")
PURSE: Final = 1_000_000
OPEN_MAX: Final = 64
"""Actions of one agent without a receipt; above it the agent waits. A quarter of the window for nonces."""
LOOK_S: Final = 0.2
"""Time between two looks at the receipts of one agent's oldest actions."""
PAUSE_S: Final = 0.02
"""After a node was not there or had no room."""
JOIN_S: Final = 30.0


@attrs.define(slots=True)
class _Open:
    """An action without a receipt, and the process that has accepted it."""

    data: bytes
    action_id: Hash32
    node: str = ""
    pid: int = 0


@attrs.define(slots=True)
class _Agent:
    signer: Signer
    open: deque[_Open] = attrs.Factory(deque)
    looked_at: float = 0.0


class Payments:
    """One thread that signs, hands in and asks for receipts. Leaving the context stops the paying.

    An action is handed in a second time only if the very process that has accepted it is gone: a node that lives on
    must not lose what it has accepted, and would be found out by an action that never comes to a receipt.
    """

    def __init__(self, made: MadeSwarm, processes: Processes, *, agents: int, per_s: float, seed: int) -> None:
        self._processes = processes
        self._random = Random(seed)
        self._per_s = per_s
        self._authority = _Agent(Signer.authority(made))
        self._agents = [
            _Agent(Signer(made.world_id, made.genesis_hash, KeyPair(os.urandom(32)))) for _ in range(agents)
        ]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="payments", daemon=True)
        self.acknowledged: dict[Hash32, int] = {}
        """Height by action, as a receipt told it."""
        self.handed_in_again = 0
        """Actions whose accepting process was killed before there was a receipt."""
        self.failure = ""
        """What ended the thread before its time; empty if nothing did."""

    @property
    def open_count(self) -> int:
        """Actions that a node has accepted and that have no receipt yet."""
        return sum(len(agent.open) for agent in (self._authority, *self._agents))

    def prepare(self, within_s: float) -> None:
        """Register the agents and fill their purses; raises Unavailable if that takes longer."""
        for number, agent in enumerate(self._agents):
            public = agent.signer.public_key
            name = Name(f"payer-{number}")
            self._hand_in(self._authority, RegisterAgent(name=name, public_key=public, registration_quota=U64(0)))
            grant = GrantResource(resource=RESOURCE, to_actor_id=agent.signer.actor_id, amount=U64(PURSE))
            self._hand_in(self._authority, grant)
        self.settle(within_s)

    def settle(self, within_s: float) -> None:
        """Until every action has a receipt; raises Unavailable if that takes longer."""
        deadline = time.monotonic() + within_s
        while self.open_count:
            for agent in (self._authority, *self._agents):
                self._look(agent)
            if time.monotonic() > deadline:
                raise Unavailable(f"{self.open_count} accepted actions have no receipt after {within_s:.0f} s")
            time.sleep(PAUSE_S)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        try:
            self._pay()
        except Exception as error:  # told to whoever reads the report: a thread must not end unseen
            self.failure = f"{type(error).__name__}: {error}"
            raise

    def _pay(self) -> None:
        due = time.monotonic()
        for number in itertools.count():
            if self._stop.is_set():
                return
            agent = self._agents[number % len(self._agents)]
            if len(agent.open) < OPEN_MAX:
                to = self._agents[(number + 1) % len(self._agents)].signer.actor_id
                payment = TransferResource(resource=RESOURCE, to_actor_id=to, amount=U64(1))
                self._hand_in(agent, payment)
            if time.monotonic() - agent.looked_at > LOOK_S:
                self._look(agent)
            due = max(due + 1 / self._per_s, time.monotonic() - 1)  # one second of delay is made up for, not more
            self._stop.wait(max(0.0, due - time.monotonic()))

    def _hand_in(self, agent: _Agent, payload: object) -> None:
        data = agent.signer.sign(payload)
        made = _Open(data, hash32(data))
        self._submit(made)
        agent.open.append(made)

    def _submit(self, made: _Open) -> None:
        """At a random live node, another one if that is not up or refuses for now; gives up when told to stop."""
        while True:
            name = self._any_node()
            pid = self._processes.pid(name)
            try:
                if name in self._processes.running() and self._processes.post(name, "/actions", made.data):
                    made.node, made.pid = name, pid
                    return
            except Refused as error:
                # A node that catches up sees the nonce far ahead of its state.
                if error.rule not in ("A7", "A10", "A11", "A12"):
                    raise
            if self._stop.is_set():
                return  # ``_look`` hands it in, since no process has accepted it
            time.sleep(PAUSE_S)

    def _any_node(self) -> str:
        return self._random.choice(self._processes.running() or list(self._processes.nodes))

    def _look(self, agent: _Agent) -> None:
        """Note receipts of the oldest actions; hand in again what has died with its node."""
        agent.looked_at = time.monotonic()
        while agent.open:
            oldest = agent.open[0]
            receipt = self._processes.get(self._any_node(), f"/receipts/{oldest.action_id.hex()}")
            if receipt is None:
                break
            self.acknowledged[oldest.action_id] = int(receipt["height"])
            agent.open.popleft()
        for made in agent.open:
            if made.node not in self._processes.running() or self._processes.pid(made.node) != made.pid:
                self.handed_in_again += 1
                self._submit(made)

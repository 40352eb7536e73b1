"""A swarm of processes whose nodes are killed and started again while agents act; who lost what, and for how long."""

from __future__ import annotations

import os
import sqlite3
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, Final

import attrs

from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import Refused, Unavailable
from agent_world.node.provision import MadeSwarm, NodeSpec, SwarmSpec, make_swarm
from agent_world.testing.processes import Processes
from agent_world.testing.signer import Signer
from agent_world.wire.action import GrantResource, RegisterAgent, TransferResource
from agent_world.wire.hello import Role
from agent_world.wire.ids import U64, ActorId, Hash32, Name, TimeMs, WorldId

PAYERS: Final = 8
"""Agents that act; each has its own row of nonces."""
PURSE: Final = 1_000_000
RESUBMIT_S: Final = 8.0
"""An action without a receipt after so long is handed in again elsewhere: its node may have died with it."""
LOOK_S: Final = 0.5
"""Time between two looks at receipts and at restarted nodes."""


@attrs.frozen(slots=True, kw_only=True)
class ChurnPlan:
    """What is done: ``waves`` times a third of the nodes is killed at once and started again after ``down_s``."""

    validators: int = 4
    storage: int = 8
    observers: int = 8
    actions: int = 1_000
    actions_per_s: float = 20.0
    waves: int = 2
    down_s: float = 5.0
    settle_s: float = 120.0
    """Longest time after the last action until all nodes have all of them."""
    start_s: float = 180.0
    """Longest time until every process is up and linked."""
    seed: int = 1


@attrs.define(slots=True)
class ChurnReport:
    """What came of it; times in seconds."""

    nodes: int
    started_s: float = 0.0
    submitted: int = 0
    resubmitted: int = 0
    kills: int = 0
    reconnect_s: list[float] = attrs.Factory(list)
    """From a restarted node's listener to its first greeted peer."""
    three_links_s: list[float] = attrs.Factory(list)
    """From there to three of them."""
    acting_s: float = 0.0
    settled_s: float = 0.0
    """From the last action handed in to equal heads with all actions everywhere."""
    heights: list[int] = attrs.Factory(list)
    roots: list[str] = attrs.Factory(list)
    missing: dict[str, int] = attrs.Factory(dict)
    """Actions without a receipt in a home, by node; only nodes that lack any."""
    links: list[int] = attrs.Factory(list)
    """Peers of every node at the end."""
    counters: dict[str, int] = attrs.Factory(dict)
    """Sums over the nodes at the end, of those that tell of losses and repairs."""

    @property
    def is_good(self) -> bool:
        """Whether every node has every action in one and the same chain."""
        return not self.missing and len(set(self.heights)) == 1 == len(set(self.roots))

    def shown(self) -> dict[str, Any]:
        """Plain values, with medians."""
        return {
            **attrs.asdict(self),
            "is_good": self.is_good,
            "reconnect_median_s": _median(self.reconnect_s),
            "three_links_median_s": _median(self.three_links_s),
        }


def _median(values: list[float]) -> float | None:
    return round(statistics.median(values), 2) if values else None


COUNTED: Final = (
    "repair.asked", "repair.differed", "repair.actions", "repair.not_admitted", "gossip.actions_dropped",
    "links.dialled", "links.let_go", "links.surplus", "net.gossip_queue_dropped", "net.gossip_overflow",
    "net.gossip_accept", "net.gossip_ignore", "net.gossip_reject", "net.dial_failed", "sync.heights",
    "net.gossip_inbox_dropped", "consensus.gossiped", "action.duplicate",
)  # fmt: skip


def run_churn(directory: Path, plan: ChurnPlan, say: Callable[[str], None] = lambda _line: None) -> ChurnReport:
    """Make the swarm below ``directory``, run the plan, stop; raises Unavailable if it does not come up or settle."""
    kinds = ((Role.SEQUENCER, plan.validators), (Role.STORAGE, plan.storage), (Role.OBSERVER, plan.observers))
    nodes = tuple(
        NodeSpec(name=f"{role.value}-{number}", role=role, validator=role is Role.SEQUENCER)
        for role, count in kinds
        for number in range(1, count + 1)
    )
    spec = SwarmSpec(world_id=WorldId("churn"), nodes=nodes, genesis_time_ms=TimeMs(time.time_ns() // 1_000_000))
    made = make_swarm(directory / "swarm", spec)
    with Processes(made.nodes) as processes:
        run = _Run(plan, made, processes, say)
        run.start_all()
        run.make_payers()
        run.act()
        run.settle()
        run.look_at_all()
        processes.stop()
        run.count_receipts()
        return run.report


@attrs.define(slots=True)
class _Restarted:
    name: str
    has_first: bool = False


class _Run:
    """One run of a plan."""

    def __init__(self, plan: ChurnPlan, made: MadeSwarm, processes: Processes, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._made = made
        self._processes = processes
        self._say = say
        self._random = Random(plan.seed)
        self._actions: dict[Hash32, tuple[bytes, float]] = {}
        """Every action with its bytes and when it was handed in last."""
        self._open: dict[Hash32, tuple[ActorId, int]] = {}
        """Who signed what is not known to be committed, and with which nonce."""
        self._coming: list[_Restarted] = []
        self._payers: list[Signer] = []
        self.report = ChurnReport(nodes=len(made.nodes))

    def start_all(self) -> None:
        """Every process up and linked with somebody."""
        started = time.monotonic()
        first, *others = self._processes.nodes
        self._processes.start(first)
        self._wait("the first node is up", lambda: self._processes.get(first, "/head") is not None)
        self._processes.start(*others)
        for name in self._processes.nodes:
            self._wait(f"{name} is linked", lambda name=name: len(self._greeted(name)) > 0)  # type: ignore[misc]
        self.report.started_s = round(time.monotonic() - started, 1)
        self._say(f"{len(self._processes.nodes)} nodes linked after {self.report.started_s} s")

    def _wait(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._plan.start_s
        while not condition():
            if time.monotonic() > deadline:
                raise Unavailable(f"not within {self._plan.start_s:.0f} s: {what}")
            time.sleep(LOOK_S / 2)

    def _greeted(self, name: str) -> list[dict[str, Any]]:
        status = self._processes.get(name, "/status")
        return [peer for peer in status["peers"] if peer["role"] is not None] if status else []

    def make_payers(self) -> None:
        """Agents with a purse each, committed."""
        authority = Signer.authority(self._made)
        for number in range(PAYERS):
            payer = Signer(self._made.world_id, self._made.genesis_hash, KeyPair(os.urandom(32)))
            name = Name(f"payer-{number}")
            self._hand_in(authority, RegisterAgent(name=name, public_key=payer.public_key, registration_quota=U64(0)))
            self._hand_in(authority, GrantResource(resource=Name("sou"), to_actor_id=payer.actor_id, amount=U64(PURSE)))
            self._payers.append(payer)
        self._wait("the payers are known", self._nothing_open)

    def _nothing_open(self) -> bool:
        self._look_at_nonces()
        return not self._open

    def _hand_in(self, signer: Signer, payload: object) -> None:
        data = signer.sign(payload)
        self._open[hash32(data)] = (signer.actor_id, signer.nonce)
        self._submit(data)

    def _submit(self, data: bytes) -> None:
        """At a random live node, another one if that is not up yet or refuses for now."""
        while True:
            name = self._random.choice(self._processes.running())
            try:
                if self._processes.post(name, "/actions", data):
                    break
            except Refused as error:
                # A node that is behind may not know the actor yet, or see a nonce beyond its window.
                self._say(f"{name} refuses for now: {error.rule} {error.message}")
                time.sleep(LOOK_S / 10)
        self._actions[hash32(data)] = (data, time.monotonic())

    def act(self) -> None:
        """Hand in all actions at an even pace; the waves of kills are spread over them."""
        started = time.monotonic()
        wave_at = {int(self._plan.actions * (wave + 0.5) / self._plan.waves) for wave in range(self._plan.waves)}
        down: list[str] = []
        back_at = looked_at = 0.0
        for number in range(self._plan.actions):
            if number in wave_at:
                down, back_at = self._kill_a_third(), time.monotonic() + self._plan.down_s
            if down and time.monotonic() > back_at:
                self._restart(down)
                down = []
            if time.monotonic() - looked_at > LOOK_S:
                self._look_at_nonces()
                self._look_at_restarted()
                looked_at = time.monotonic()
            payer = self._payers[number % PAYERS]
            to = self._payers[(number + 1) % PAYERS].actor_id
            self._hand_in(payer, TransferResource(resource=Name("sou"), to_actor_id=to, amount=U64(1)))
            self.report.submitted += 1
            pause_s = started + number / self._plan.actions_per_s - time.monotonic()
            time.sleep(max(0.0, pause_s))
        self._restart(down)
        self.report.acting_s = round(time.monotonic() - started, 1)

    def _kill_a_third(self) -> list[str]:
        """A random third, with at most the validators that a quorum can do without."""
        names = list(self._processes.nodes)
        self._random.shuffle(names)
        spare = (self._plan.validators - 1) // 3
        chosen: list[str] = []
        for name in names:
            if self._processes.nodes[name].role is Role.SEQUENCER:
                if spare == 0:
                    continue
                spare -= 1
            chosen.append(name)
        chosen = chosen[: round(len(names) / 3)]
        for name in chosen:
            self._processes.kill(name)
        self.report.kills += len(chosen)
        self._say(f"killed {', '.join(chosen)}")
        return chosen

    def _restart(self, names: list[str]) -> None:
        self._processes.start(*names)
        self._coming += [_Restarted(name) for name in names]

    def _look_at_restarted(self) -> None:
        for coming in list(self._coming):
            status = self._processes.get(coming.name, "/status")
            if status is None:
                continue
            # Ages of the links, not the time of this look: they tell when each came about.
            ages = sorted((peer["connected_s"] for peer in status["peers"] if peer["role"] is not None), reverse=True)
            up_s = status["uptime_ms"] / 1000
            if ages and not coming.has_first:
                coming.has_first = True
                self.report.reconnect_s.append(round(max(0.0, up_s - ages[0]), 2))
            if len(ages) >= min(3, len(self._processes.nodes) - 1):
                self.report.three_links_s.append(round(max(0.0, up_s - ages[2 if len(ages) > 2 else -1]), 2))
                self._coming.remove(coming)

    def _look_at_nonces(self) -> None:
        """Which actions are committed, as a live node says; hand in again what has waited long.

        One question for each actor: asking for every receipt would load the machine more than the swarm does.
        """
        now = time.monotonic()
        actors = {actor_id for actor_id, _nonce in self._open.values()}
        next_nonce = {actor_id: self._next_nonce(actor_id) for actor_id in actors}
        for action_id, (actor_id, nonce) in list(self._open.items()):
            data, since = self._actions[action_id]
            if nonce < next_nonce[actor_id]:
                del self._open[action_id]
            elif now - since > RESUBMIT_S:
                self.report.resubmitted += 1
                self._submit(data)

    def _next_nonce(self, actor_id: ActorId) -> int:
        actor = self._processes.get(self._random.choice(self._processes.running()), f"/actors/{actor_id}")
        return 0 if actor is None else int(actor["next_nonce"])

    def settle(self) -> None:
        """Until every action is committed and every node has the same head, which is reported.

        Blocks go on without actions too: heads that are looked at again later need not be equal any more.
        """
        started = time.monotonic()
        deadline = started + self._plan.settle_s
        heads: list[Any] = []
        while time.monotonic() < deadline:
            self._look_at_nonces()
            self._look_at_restarted()
            heads = [self._processes.get(name, "/head") for name in self._processes.nodes]
            known = {(head["height"], head["state_root"]) for head in heads if head}
            if not self._open and not self._coming and len(known) == 1 and all(heads):
                break
            time.sleep(LOOK_S)
        self.report.heights = [head["height"] if head else -1 for head in heads]
        self.report.roots = [head["state_root"] for head in heads if head]
        self.report.settled_s = round(time.monotonic() - started, 1)
        self._say(f"settled after {self.report.settled_s} s; without a receipt: {len(self._open)}")

    def look_at_all(self) -> None:
        """Links and counters at the end."""
        for name in self._processes.nodes:
            status = self._processes.get(name, "/status")
            if status is None:
                self._say(f"{name} does not answer at the end")
                continue
            self.report.links.append(len(status["peers"]))
            for counted in COUNTED:
                amount = status["counters"].get(counted, 0)
                self.report.counters[counted] = self.report.counters.get(counted, 0) + amount

    def count_receipts(self) -> None:
        """Actions that a home's database has no receipt of; the processes have ended by now."""
        for name, node in self._processes.nodes.items():
            with closing(sqlite3.connect(node.home / "world.db")) as database:
                stored = {row[0] for row in database.execute("SELECT action_id FROM receipts")}
            lacking = len(self._actions.keys() - stored)
            if lacking:
                self.report.missing[name] = lacking

"""Validators as processes: the proposer killed under load again and again, then all at once; how soon it goes on.

Who is killed is who the node status of the others names as the proposer of the round being decided. The kill comes
at a random moment of the pause before that round, so the victim never has proposed: its round is lost in full.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any, Final

import attrs

from agent_world.config import MAINNET, NodeConfig
from agent_world.errors import Unavailable
from agent_world.node.provision import NodeSpec, SwarmSpec, make_swarm
from agent_world.testing.payments import Payments
from agent_world.testing.processes import Processes
from agent_world.testing.promises import Audit, Auditor
from agent_world.wire.hello import Role
from agent_world.wire.ids import TimeMs, WorldId

LOOK_S: Final = 0.01
"""Time between two looks at heads: what every figure here is exact to."""


@attrs.frozen(slots=True, kw_only=True)
class FailoverPlan:
    """What is done: ``kills`` times the proposer is killed and started again, then all of them at once."""

    kills: int = 20
    validators: int = 4
    agents: int = 8
    actions_per_s: float = 20.0
    rest_s: float = 1.0
    """Between a victim's return and the next kill."""
    patience_s: float = 90.0
    """Longest wait for a start, a commit or a return; a run that exceeds it has failed."""
    config: NodeConfig = MAINNET
    seed: int = 1


@attrs.frozen(slots=True, kw_only=True)
class Kill:
    """One kill and what followed; times in seconds."""

    victim: str
    height: int
    """That was being decided, with the victim as its proposer."""
    after_commit_s: float
    """From the commit before it to the kill: some moment of the pause between blocks."""
    commit_s: float
    """From the kill to the next commit, seen at another node."""
    commit_round: int
    """The round in which that block was proposed; 1 when only the victim's turn was lost."""
    rejoin_s: float
    """From the victim's restart to the first block above the head of then whose certificate it has signed."""


@attrs.define(slots=True)
class FailoverReport:
    """What came of it; times in seconds."""

    kills: list[Kill] = attrs.Factory(list)
    all_killed_commit_s: float = 0.0
    """From the start of all validators after all were killed to their next commit."""
    acknowledged: int = 0
    """Actions with a receipt."""
    handed_in_again: int = 0
    """Actions whose accepting process was killed before their receipt."""
    never_committed: int = 0
    """Actions accepted by a process that lived on, or handed in again, without a receipt at the end."""
    failure: str = ""
    audit: Audit = attrs.Factory(Audit)
    counters: dict[str, int] = attrs.Factory(dict)
    """Sums over the nodes since their last start, of those that tell of the rounds."""

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, nothing signed twice, and all homes verify to one head."""
        return not self.failure and not self.never_committed and self.acknowledged > 0 and self.audit.is_good

    def shown(self) -> dict[str, Any]:
        """Plain values, with medians."""
        commits, rejoins = [kill.commit_s for kill in self.kills], [kill.rejoin_s for kill in self.kills]
        return {
            **attrs.asdict(self),
            "is_good": self.is_good,
            "commit_median_s": _median(commits),
            "commit_max_s": max(commits, default=None),
            "rejoin_median_s": _median(rejoins),
            "rejoin_max_s": max(rejoins, default=None),
        }


def _median(values: list[float]) -> float | None:
    return round(statistics.median(values), 2) if values else None


COUNTED: Final = (
    "consensus.committed", "consensus.equivocation_seen", "consensus.not_safe", "consensus.bodies_fetched",
    "consensus.shown", "consensus.gossiped", "sync.heights", "guard.floor_raised",
)  # fmt: skip


def run_failover(
    directory: Path, plan: FailoverPlan, say: Callable[[str], None] = lambda _line: None
) -> FailoverReport:
    """Make the swarm below ``directory``, run the plan, stop, audit the homes.

    Raises Unavailable if it does not start.
    """
    spec = SwarmSpec(
        world_id=WorldId("failover"),
        nodes=tuple(
            NodeSpec(name=f"v{number}", role=Role.SEQUENCER, validator=True) for number in range(plan.validators)
        ),
        genesis_time_ms=TimeMs(time.time_ns() // 1_000_000),
        config=plan.config,
    )
    made = make_swarm(directory / "swarm", spec)
    auditor, report = Auditor(made), FailoverReport()
    with Processes(made.nodes) as processes:
        payments = Payments(made, processes, agents=plan.agents, per_s=plan.actions_per_s, seed=plan.seed)
        run = _Run(plan, processes, auditor, report, say)
        run.start_all()
        payments.prepare(plan.patience_s)
        try:
            with payments:
                for number in range(plan.kills):
                    say(f"{number + 1}: {run.kill_proposer()}")
                run.kill_all()
            payments.settle(plan.patience_s)
            run.wait_one_head()
        except Unavailable as error:
            report.failure = str(error)
        run.count()
        processes.stop()
    report.acknowledged = len(payments.acknowledged)
    report.never_committed = payments.open_count
    report.handed_in_again = payments.handed_in_again
    report.failure = report.failure or payments.failure
    report.audit = auditor.audit(payments.acknowledged)
    return report


class _Run:
    """The kills of one run."""

    def __init__(
        self,
        plan: FailoverPlan,
        processes: Processes,
        auditor: Auditor,
        report: FailoverReport,
        say: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._processes = processes
        self._auditor = auditor
        self._report = report
        self._say = say
        self._random = Random(plan.seed)
        self._names = list(processes.nodes)

    def start_all(self) -> None:
        """Every process up and linked with every other."""
        started = time.monotonic()
        self._processes.start(*self._names)
        for name in self._names:
            self._until(f"{name} is linked to all", lambda name=name: self._is_linked(name))  # type: ignore[misc]
        self._say(f"{len(self._names)} nodes linked after {time.monotonic() - started:.1f} s")

    def _until(self, what: str, probe: Callable[[], Any]) -> Any:
        """What the probe gives once that is something."""
        deadline = time.monotonic() + self._plan.patience_s
        while not (found := probe()):
            if time.monotonic() > deadline:
                raise Unavailable(f"not within {self._plan.patience_s:.0f} s: {what}")
            time.sleep(LOOK_S)
        return found

    def _is_linked(self, name: str) -> bool:
        status = self._processes.get(name, "/status")
        linked = 0 if status is None else sum(bool(peer["validator"]) for peer in status["peers"])
        return linked == len(self._names) - 1

    def _height(self, names: Iterable[str]) -> int:
        """The highest committed height among these; 0 if none of them answers."""
        heads = [self._processes.get(name, "/head") for name in names]
        return max((int(head["height"]) for head in heads if head is not None), default=0)

    def kill_proposer(self) -> Kill:
        """One kill, up to the victim's return and the rest after it."""
        interval_s = self._plan.config.consensus.block_interval_ms / 1000
        begun = self._height(self._names)
        self._until("another block before the kill", lambda: self._height(self._names) > begun)
        committed_at = time.monotonic()
        pause_s = interval_s * self._random.random()
        witness, victim, height = self._until("somebody knows whose turn it is", self._expected)
        time.sleep(max(0.0, committed_at + pause_s - time.monotonic()))
        killed_at = time.monotonic()
        self._processes.kill(victim)
        others = [name for name in self._names if name != victim]
        at_kill = max(self._height(others), height - 1)
        self._until("a commit after the kill", lambda: self._height(others) > at_kill)
        commit_s = time.monotonic() - killed_at
        self._auditor.read_guard(victim)
        shown = self._until("the block", lambda: self._processes.get(witness, f"/blocks/{at_kill + 1}"))
        kill = Kill(
            victim=victim,
            height=height,
            after_commit_s=round(killed_at - committed_at, 3),
            commit_s=round(commit_s, 3),
            commit_round=int(shown["block"]["round"]),
            rejoin_s=round(self._restart(victim, others), 3),
        )
        self._report.kills.append(kill)
        time.sleep(self._plan.rest_s)
        return kill

    def _expected(self) -> tuple[str, str, int] | None:
        """A witness, the proposer of the round being decided, and its height; all nodes must say the same."""
        told = [self._processes.get(name, "/status") for name in self._names]
        places = [status["consensus"] for status in told if status is not None]
        turns = {(place.get("deciding_height"), place.get("expected_proposer")) for place in places}
        if len(turns) != 1 or len(places) < len(self._names):
            return None
        height, proposer = turns.pop()
        return next(name for name in self._names if name != proposer), proposer, height

    def _restart(self, victim: str, others: list[str]) -> float:
        """Seconds from the start of the process until it has signed a block above the head of then."""
        head = self._height(others)
        started = time.monotonic()
        self._processes.start(victim)
        self._until(f"{victim} votes again", lambda: self._has_signed(victim, head))
        rejoin_s = time.monotonic() - started
        self._auditor.read_guard(victim)
        return rejoin_s

    def _has_signed(self, validator: str, above: int) -> bool:
        """Whether the certificate of a higher block holds its signature; each node has a certificate of its own."""
        for name in self._names:
            head = self._processes.get(name, "/head")
            if head is not None and head["height"] > above and validator in head["certified_by"]:
                return True
        return False

    def kill_all(self) -> None:
        """SIGKILL to every validator, start them all, wait for the chain to go on."""
        height = self._height(self._names)
        for name in self._names:
            self._processes.kill(name)
        for name in self._names:
            self._auditor.read_guard(name)
        started = time.monotonic()
        self._processes.start(*self._names)
        # What was being decided may have been decided: only the height after it proves that new votes are cast.
        self._until("the chain goes on after all were killed", lambda: self._height(self._names) > height + 1)
        self._report.all_killed_commit_s = round(time.monotonic() - started, 3)
        self._say(f"all killed at height {height}; it goes on {self._report.all_killed_commit_s} s after the start")
        for name in self._names:
            self._until(f"{name} is linked to all", lambda name=name: self._is_linked(name))  # type: ignore[misc]

    def wait_one_head(self) -> None:
        """All nodes at one head, at least for a moment."""

        def is_one() -> bool:
            heads = [self._processes.get(name, "/head") for name in self._names]
            return all(heads) and len({(head["height"], head["state_root"]) for head in heads if head}) == 1

        self._until("one head", is_one)

    def count(self) -> None:
        """Sum the counters of all nodes."""
        for name in self._names:
            status = self._processes.get(name, "/status")
            for counted in COUNTED:
                amount = 0 if status is None else status["counters"].get(counted, 0)
                self._report.counters[counted] = self._report.counters.get(counted, 0) + amount

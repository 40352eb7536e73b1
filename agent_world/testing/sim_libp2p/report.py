"""What came of one seed of a scenario with libp2p hosts."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import trio

from agent_world.testing.checkers import Violation
from agent_world.testing.sim_libp2p.internet import SimInternet


@attrs.frozen(slots=True, kw_only=True)
class SimReport:
    """Equal for equal seeds and options, but for nothing."""

    scenario: str
    seed: int
    nodes: int
    violations: tuple[Violation, ...]
    digest: str
    """Of everything that happened, with its times."""
    virtual_s: float
    events: int
    counts: dict[str, int]
    """What was tried and what came of it."""


def make_report(
    scenario: str, seed: int, nodes: int, internet: SimInternet, violations: list[Violation], counts: Mapping[str, int]
) -> SimReport:
    """At the end of a run."""
    return SimReport(
        scenario=scenario,
        seed=seed,
        nodes=nodes,
        violations=tuple(violations),
        digest=internet.trace(),
        virtual_s=trio.current_time(),
        events=internet.events,
        counts=dict(sorted({**internet.counts, **counts}.items())),
    )

"""Whether what was replicated before is still there, before more is published (Gap 2, network-storage 8.7, K-8.8).

Samples are drawn over the whole log, without the newest records, which others may just be fetching. Only a peer that
gives the very bytes counts. How many matches are needed follows from the samples that exist, never from how many
peers have answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

import attrs

from agent_world.config import ReplicationConfig


class SampleOutcome(StrEnum):
    """What became of one question about one sample."""

    MATCH = "match"
    """The peer gave bytes that hash to the name and equal the own ones."""
    LOCAL_MISSING = "local_missing"
    LOCAL_DAMAGED = "local_damaged"
    """The own copy did not hash to its name; it is in quarantine."""
    NOT_FOUND = "not_found"
    HASH_MISMATCH = "hash_mismatch"
    """The peer gave other bytes."""
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    """Another refusal, such as of a peer that is busy."""
    NO_ANSWER = "no_answer"
    """An answer that cannot be read."""


LOCAL: tuple[SampleOutcome, ...] = (SampleOutcome.LOCAL_MISSING, SampleOutcome.LOCAL_DAMAGED)
"""The own store is at fault: then nothing is published, whatever peers have."""


@attrs.frozen(slots=True, kw_only=True)
class GateResult:
    """One check."""

    passed: bool
    samples: int
    """How many exist to be asked for: at most ``network_samples_per_check``."""
    required: int
    matches: int
    reasons: Mapping[str, int]
    """How often each failure was met."""
    detail: str
    """For people."""


def draw_positions(first: int, last: int, config: ReplicationConfig, draw: Callable[[int], int]) -> tuple[int, ...]:
    """Different positions of the log from ``first`` to ``last`` without the newest; none if there are no older ones.

    ``draw(n)`` gives a number from 0 to n - 1 that nobody can foresee.
    """
    count = last - config.gate_grace_records - first + 1
    if count <= 0:
        return ()
    drawn: dict[int, None] = {}
    wanted = min(config.network_samples_per_check, count)
    while len(drawn) < wanted:
        place = first + draw(count)
        while place in drawn:  # the next free one, so that this ends whatever is drawn
            place = first + (place - first + 1) % count
        drawn[place] = None
    return tuple(drawn)


def required_matches(available: int, config: ReplicationConfig) -> int:
    """max(1, min(2, available)); source: seed Gap 2."""
    return max(1, min(config.required_matches, available))


def decide_gate(samples: Sequence[Sequence[SampleOutcome]], peers: int, config: ReplicationConfig) -> GateResult:
    """Whether more may be published: outcomes of the questions for each sample that exists, and how many peers there
    were to ask."""
    reasons: Counter[str] = Counter()
    for outcomes in samples:
        reasons.update(item.value for item in outcomes if item is not SampleOutcome.MATCH)
    matches = sum(SampleOutcome.MATCH in outcomes for outcomes in samples)
    required = required_matches(len(samples), config)
    if peers == 0:
        reasons["no_peer"] += 1
        passed, detail = False, "no peer to ask"
    elif any(item in LOCAL for outcomes in samples for item in outcomes):
        passed, detail = False, "a sample is missing or damaged here"
    elif not samples:
        passed, detail, required = True, "nothing old enough to sample", 0
    elif matches < required:
        passed, detail = False, f"network threshold unmet: {matches} of {required} required matches"
    else:
        passed, detail = True, f"{matches} of {len(samples)} samples match"
    return GateResult(
        passed=passed,
        samples=len(samples),
        required=required,
        matches=matches,
        reasons=dict(sorted(reasons.items())),
        detail=detail,
    )

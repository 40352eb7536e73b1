"""The schedule that breaks careless vote rules (D8): who hears what while the schemers play their part.

Three schemes, each fatal to one missing rule:

LOCK    one group alone sees the precommits of round 0 and commits; the others see enough votes to move on, and a
        schemer proposes another block in round 1. Only the lock keeps them from committing it.
POLC    the same, but the other block is proposed again with a valid round that never justified it.
SPLIT   the proposer shows one block to these and another to those, who do not hear each other. Only the size of a
        quorum keeps both from committing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from random import Random
from typing import Final

import attrs

from agent_world.consensus.context import HeightContext
from agent_world.errors import DecodeError
from agent_world.testing.bus import Bus
from agent_world.testing.bus_messages import Consensus
from agent_world.testing.sim_node import SimNode
from agent_world.wire import cbor, record
from agent_world.wire.consensus import Step
from agent_world.wire.ids import ValidatorId
from agent_world.wire.limits import PROPOSAL_BYTES_MAX
from agent_world.wire.signed import Signed

SCHEME_MS: Final = 2_000
"""How long one scheme lasts; then everything is heard again."""
PRECOMMITTED: Final = "guard.after"
"""The step at which a validator has signed its precommit and has sent it to nobody."""
BACK_MS: Final = 10
"""After this a validator that died with its lock is up again."""
GROUP_TRIES: Final = 30
"""Drawn groups to look for one that suits a scheme."""


class Kind(StrEnum):
    """Which rule a scheme attacks."""

    LOCK = "lock"
    POLC = "polc"
    SPLIT = "split"


@attrs.define
class Scheme:
    """The plan for one height, known to all schemers."""

    kind: Kind
    height: int
    group: frozenset[ValidatorId]
    """Honest validators that are shown one thing; the other honest ones are shown the other."""
    end_ms: int
    crash_step: str | None
    """Where the first of the group to get there dies."""
    died: set[ValidatorId] = attrs.field(factory=set)
    """Of the others, who has died with the lock in its guard."""


class Adversary:
    """Plans schemes, filters the bus for them, and says when a process dies. Delays only: all may be sent again."""

    def __init__(self, bus: Bus, rng: Random, honest: frozenset[ValidatorId], counters: Counter[str]) -> None:
        self._bus = bus
        self._rng = rng
        self._honest = honest
        self._counters = counters
        self._schemes: dict[int, Scheme | None] = {}
        self._peeked: dict[bytes, tuple[int, int, str]] = {}
        self.nodes: Sequence[SimNode] = ()
        self.ruses = False
        """Whether schemers also forge votes of honest validators, and those who lock a block die with the lock."""

    def scheme_for(self, context: HeightContext) -> Scheme | None:
        """The scheme of this height, planned when the first schemer asks."""
        if context.height not in self._schemes:
            self._schemes[context.height] = self._plan(context)
        return self._schemes[context.height]

    def passes(self, source: int, target: int, message: object) -> bool:
        """Whether to let a message through."""
        now_ms = self._bus.now_ms
        sender, receiver = self.nodes[source], self.nodes[target]
        for scheme in self._schemes.values():
            if scheme is None or now_ms >= scheme.end_ms or not sender.is_honest:
                continue
            if sender.own not in scheme.group and scheme.kind is not Kind.SPLIT:
                continue
            if receiver.own in self._honest and (sender.own in scheme.group) == (receiver.own in scheme.group):
                continue
            if scheme.kind is Kind.SPLIT or not self._is_before_precommit(message, scheme.height):
                return False
        return True

    def keeps_from(self, target: int) -> bool:
        """Whether schemers keep from this node what others have committed, and will until its scheme is over."""
        own, now_ms = self.nodes[target].own, self._bus.now_ms
        lasting = [scheme for scheme in self._schemes.values() if scheme is not None and now_ms < scheme.end_ms]
        # The watcher, too, who would tell them.
        return self.ruses and any(scheme.kind is not Kind.SPLIT and own not in scheme.group for scheme in lasting)

    def crashes(self, node: SimNode, step: str) -> bool:
        """Whether the node dies between its decision and its commit, right after, or with its lock made durable."""
        if step == PRECOMMITTED:
            return self.ruses and self._dies_locked(node)
        scheme = self._schemes.get(node.height + (step == "commit.before"))
        if scheme is None or scheme.crash_step != step or node.own not in scheme.group:
            return False
        scheme.crash_step = None
        return True

    def _dies_locked(self, node: SimNode) -> bool:
        """Whether the node has just locked what only the group may commit: it is back before it is to be turned."""
        scheme = self._schemes.get(node.height + 1)
        if scheme is None or scheme.kind is Kind.SPLIT or node.own is None or self._bus.now_ms >= scheme.end_ms:
            return False
        signed = [(entry.round, entry.step) for entry in node.state.entries_at(scheme.height)]
        is_locked = node.state.lock is not None and signed[-1:] == [(0, Step.PRECOMMIT)]
        if not is_locked or node.own in scheme.group or node.own in scheme.died:
            return False
        scheme.died.add(node.own)
        return True

    def _plan(self, context: HeightContext) -> Scheme | None:
        first, second = (context.proposer(round_) in self._honest for round_ in (0, 1))
        if self._rng.randrange(100) < 20 or (first and second):
            return None
        kind = Kind.SPLIT if not first else self._rng.choice((Kind.LOCK, Kind.POLC))
        group = self._group(context, kind)
        if group is None:
            return None
        self._counters[f"scheme.{kind}"] += 1
        self._bus.note(f"scheme {kind} at {context.height}")
        return Scheme(
            kind=kind,
            height=context.height,
            group=group,
            end_ms=self._bus.now_ms + SCHEME_MS,
            crash_step=self._rng.choice((None, "commit.before", "commit.after")),
        )

    def _group(self, context: HeightContext, kind: Kind) -> frozenset[ValidatorId] | None:
        """Honest validators with the stake that the scheme needs, or None."""
        validators = context.validators
        stakes = {entry.validator_id: int(entry.stake) for entry in validators.record.validators}
        honest = [name for name in stakes if name in self._honest]
        liars = sum(stake for name, stake in stakes.items() if name not in self._honest)
        spare = validators.total_stake - validators.required_stake
        best: tuple[int, frozenset[ValidatorId]] | None = None
        for _ in range(GROUP_TRIES):
            group = frozenset(self._rng.sample(honest, self._rng.randint(1, len(honest) - 1)))
            stake = sum(stakes[name] for name in group)
            rest = validators.total_stake - liars - stake
            # The rest must be able to go on without the group, but not to commit what the group commits.
            if kind is not Kind.SPLIT and spare - liars < stake <= spare:
                return group
            if kind is Kind.SPLIT and (best is None or abs(stake - rest) < best[0]):
                best = (abs(stake - rest), group)
        return None if best is None else best[1]

    def _is_before_precommit(self, message: object, height: int) -> bool:
        """Whether it is a proposal or prevote of round 0: the group's part in what it will commit."""
        if not isinstance(message, Consensus):
            return False
        peeked = self._peeked.get(message.data)
        if peeked is None:
            peeked = self._peeked[message.data] = _peek(message.data)
        return peeked[:2] == (height, 0) and peeked[2] != "precommit"


def _peek(data: bytes) -> tuple[int, int, str]:
    """(height, round, step) of a signed proposal or vote."""
    try:
        signed = record.from_bytes(Signed, data, size_max=PROPOSAL_BYTES_MAX)
        body = cbor.decode(signed.body, size_max=PROPOSAL_BYTES_MAX)
        return body["height"], body["round"], body.get("step", "propose")
    except (DecodeError, KeyError, TypeError):
        return (-1, -1, "")

"""The schedule that breaks careless lock rules: one node alone sees the precommits, and a liar proposes next (D8)."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

import attrs

from agent_world.consensus.messages import VerifiedVote, open_message
from agent_world.errors import Ignored, RemoteError
from agent_world.testing.bus import Bus
from agent_world.testing.sim_node import Blocks, Consensus, Head, SimNode
from agent_world.wire.consensus import Step

WINDOW_MS: Final = (800, 3_000)
"""How long an attack on one height lasts."""
ROUND_MAX: Final = 5
"""Later rounds are left alone, so that a run gets on."""


@attrs.define
class _Attack:
    victim: SimNode
    round: int
    end_ms: int
    isolate: bool
    crash_step: str | None


class Adversary:
    """Filters the bus, and says when the victim's process dies. Delays only: every message may be sent again later."""

    def __init__(self, bus: Bus, nodes: Sequence[SimNode], rng: Random) -> None:
        self._bus = bus
        self._nodes = nodes
        self._rng = rng
        self._attacks: dict[int, _Attack] = {}
        self._peeked: dict[bytes, tuple[int, int] | None] = {}

    def passes(self, source: int, target: int, message: object) -> bool:
        """Whether to let a message through."""
        now_ms = self._bus.now_ms
        for attack in self._attacks.values():
            tells = isinstance(message, (Head, Blocks)) or attack.isolate
            if now_ms < attack.end_ms and source == attack.victim.number and tells:
                return False
        if not isinstance(message, Consensus):
            return True
        place = self._precommit_of(source, message.data)
        if place is None:
            return True
        height, round_ = place
        attack = self._attacks.get(height) or self._plan(height, round_)
        hidden = attack.round == round_ and now_ms < attack.end_ms
        return not hidden or (target == attack.victim.number and source != target)

    def crashes(self, node: SimNode, step: str) -> bool:
        """Whether the victim dies between its decision and its commit, or right after."""
        attack = self._attacks.get(node.height + (step == "commit.before"))
        if attack is None or attack.victim is not node or attack.crash_step != step:
            return False
        attack.crash_step = None
        return True

    def _plan(self, height: int, round_: int) -> _Attack:
        honest = [node for node in self._nodes if node.is_honest and node.own is not None and node.up]
        world = self._nodes[0].around.world
        longest = max(self._nodes, key=lambda node: node.height)
        chain = longest.disk.chain
        tip = chain[height - 2] if 0 <= height - 2 < len(chain) else None
        next_proposer = world.context_after(tip).proposer(round_ + 1)
        liar_next = all(node.is_honest is False for node in self._nodes if node.own == next_proposer)
        wanted = round_ <= ROUND_MAX and honest and (liar_next or self._rng.randrange(100) < 40)
        lasts_ms = self._rng.randint(*WINDOW_MS) if wanted else 0
        attack = _Attack(
            victim=self._rng.choice(honest or list(self._nodes)),
            round=round_,
            end_ms=self._bus.now_ms + lasts_ms,
            isolate=self._rng.randrange(2) == 0,
            crash_step=self._rng.choice((None, "commit.before", "commit.after")) if wanted else None,
        )
        self._attacks[height] = attack
        return attack

    def _precommit_of(self, source: int, data: bytes) -> tuple[int, int] | None:
        """(height, round) of a precommit for a block."""
        if data not in self._peeked:
            self._peeked[data] = None
            try:
                message = open_message(data, self._nodes[source].engine_context())
            except (RemoteError, Ignored):
                return None
            if isinstance(message, VerifiedVote) and message.vote.step is Step.PRECOMMIT and message.vote.block_hash:
                self._peeked[data] = (message.vote.height, message.vote.round)
        return self._peeked[data]

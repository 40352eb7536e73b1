"""Which claims to hold content a planner believes: some are challenged in every round, and who is caught more closely.

A claim that its holder has not made good counts no more until it does. Somebody who fails for one content may have a
damaged disk; who fails for most of several is believed nothing any more until it shows what it is asked for.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import attrs
import trio

from agent_world.errors import Refused
from agent_world.node.counters import Counters
from agent_world.node.replica_outside import Outside
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId

CHECKS_MAX: Final = 8
"""Claims to hold a content that are challenged in a round."""
AGAIN_MAX: Final = 2
"""Of those that do not count: challenged again in a round, so that what was healed counts again before long."""
CLOSER_MAX: Final = 4
"""Further claims that are challenged of somebody who has failed in this round, and of who is distrusted."""
CLOSER_PEERS_MAX: Final = 4
"""Of so many peers in a round; the others have their turn in later ones."""
CHECKS_S: Final = 10.0
"""So long a round waits for them; who is slow is not doubted for it."""
VOID_MAX: Final = 4_096
"""Claims remembered as not made good; the oldest is forgotten, and may be found out again."""
DISTRUSTED_MAX: Final = 1_024
"""Peers that are believed nothing; the oldest is forgotten, and may be found out again."""
Claim = tuple[PeerId, Cid]


@attrs.define(slots=True)
class _Checks:
    """Outcomes of one round, by peer."""

    failed: Counter[PeerId] = attrs.Factory(Counter)
    passed: set[Claim] = attrs.Factory(set)

    def passes(self, peer: PeerId) -> int:
        return sum(one == peer for one, _content in self.passed)


class ClaimChecks:
    """Of one planner; remembers from round to round who has not made good what."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._void: OrderedDict[Claim, None] = OrderedDict()
        """Claims that their holder has not made good, until it shows the content."""
        self._distrusted: OrderedDict[PeerId, None] = OrderedDict()
        self.counters = Counters()

    async def doubted(self, claims: Sequence[Claim]) -> set[Claim]:
        """Those of ``claims``, in a fixed order, that do not count, after some were challenged."""
        suspects = {peer: frozenset(self._outside.suspects(peer)) for peer, _content in claims}
        bad = [claim for claim in claims if claim in self._void or str(claim[1]) in suspects[claim[0]]]
        known_bad = set(bad)
        open_to_doubt = [claim for claim in claims if claim not in known_bad]
        believed = [claim for claim in open_to_doubt if claim[0] not in self._distrusted]
        found = _Checks()
        with trio.move_on_after(CHECKS_S):
            chosen = [*self._some(bad, AGAIN_MAX), *self._some(believed, CHECKS_MAX)]
            chosen += self._closer(self._distrusted, open_to_doubt)
            await self._check_all(chosen, found)
            asked = set(chosen)
            caught = [peer for peer in found.failed if peer not in self._distrusted]
            await self._check_all(self._closer(caught, [one for one in believed if one not in asked]), found)
        self._judge(found)
        return {
            claim
            for claim in claims
            if claim not in found.passed and (claim in known_bad or claim in self._void or claim[0] in self._distrusted)
        }

    def _some(self, claims: Sequence[Claim], count: int) -> list[Claim]:
        return self._outside.random.sample(claims, min(count, len(claims)))

    def _closer(self, peers: Collection[PeerId], claims: Sequence[Claim]) -> list[Claim]:
        chosen: list[Claim] = []
        for peer in self._outside.random.sample(sorted(peers), min(CLOSER_PEERS_MAX, len(peers))):
            chosen += self._some([claim for claim in claims if claim[0] == peer], CLOSER_MAX)
        return chosen

    def _judge(self, found: _Checks) -> None:
        """Who has failed at least twice and at least as often as it has passed is believed nothing; who has passed
        all is again."""
        for peer in sorted({*found.failed, *(peer for peer, _content in found.passed)}):
            failed, passed = found.failed[peer], found.passes(peer)
            if peer in self._distrusted:
                if passed >= 2 and not failed:
                    del self._distrusted[peer]
                    self.counters.add("replicas.trusted_again")
            elif failed >= 2 and failed >= passed:
                self._distrusted[peer] = None
                self.counters.add("replicas.distrusted")
                if len(self._distrusted) > DISTRUSTED_MAX:
                    self._distrusted.popitem(last=False)
                    self.counters.add("replicas.distrusted_forgotten")

    async def _check_all(self, claims: Iterable[Claim], found: _Checks) -> None:
        async with trio.open_nursery() as nursery:
            for claim in claims:
                nursery.start_soon(self._check, claim, found)

    async def _check(self, claim: Claim, found: _Checks) -> None:
        try:
            outcome = (await self._outside.challenge(*claim))["outcome"]
        except Refused as error:
            outcome = f"not_asked.{error.code.value}"
        self.counters.add(f"replicas.checked.{outcome}")
        if outcome in ("failed", "not_kept"):
            found.failed[claim[0]] += 1
            self._void[claim] = None
            if len(self._void) > VOID_MAX:
                self._void.popitem(last=False)
                self.counters.add("replicas.void_forgotten")
        elif outcome == "passed":
            found.passed.add(claim)
            self._void.pop(claim, None)

"""Validators that join and leave while the world goes on: changes filed and approved by whoever runs and is honest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from random import Random
from typing import Any, Final

import trio

from agent_world.errors import Refused
from agent_world.node.validator_views import ValidatorControl
from agent_world.testing.node_swarm import NodeSwarm
from agent_world.wire.consensus import ValidatorEntry
from agent_world.wire.ids import U64, Hash32, ValidatorId
from agent_world.wire.membership import ChangeKind, MembershipApproval, MembershipChange
from agent_world.world.epochs import coming_validators

PAUSE_S: Final = 0.5
DECISION_S: Final = 8.0
"""A change that is not approved by then is left to itself; another is tried."""
MEMBERS_MIN: Final = 3


class Seats:
    """Adds and removes honest validators, one at a time, so that the faulty ones stay below a third."""

    def __init__(self, swarm: NodeSwarm, honest: Collection[str], traitors: Collection[str], rng: Random) -> None:
        self._swarm = swarm
        self._honest = tuple(honest)
        self._traitors = frozenset(traitors)
        self._rng = rng
        self._leaving: set[str] = set()
        """Who may still leave by a change that was filed: one that was left to itself may be approved late."""
        self.counts: Counter[str] = Counter()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(PAUSE_S)
            members = self._members()
            change = self._pick(members)
            voters = [name for name in self._running() if name in members]
            if change is not None and voters:
                with trio.move_on_after(DECISION_S):
                    await self._decide(change, voters)

    def _running(self) -> list[str]:
        return [name for name in self._honest if self._swarm.members[name].node is not None]

    def _members(self) -> set[str]:
        """Of the coming set, as the honest node that is furthest knows it."""
        running = self._running()
        if not running:
            return set()
        furthest = max(running, key=lambda name: self._swarm.node(name).ledger.height)
        coming = coming_validators(self._swarm.node(furthest).ledger.state)
        return {str(entry.validator_id) for entry in coming.validators}

    def _pick(self, members: set[str]) -> MembershipChange | None:
        self._leaving &= members
        moves = [name for name in self._honest if name not in members or self._may_leave(name, members)]
        if not members or not moves:
            return None
        name = self._rng.choice(moves)
        if name in members:
            self._leaving.add(name)
            return MembershipChange(
                kind=ChangeKind.REMOVE, validators=(), removed=(ValidatorId(name),), with_lease=False, reason=None
            )
        key = self._swarm.members[name].validator_key
        assert key is not None, "the honest ones here are validators"
        entry = ValidatorEntry(validator_id=ValidatorId(name), public_key=key.public_key, stake=U64(100))
        return MembershipChange(kind=ChangeKind.ADD, validators=(entry,), removed=(), with_lease=False, reason=None)

    def _may_leave(self, name: str, members: set[str]) -> bool:
        left = len(members - self._leaving - {name})
        return left >= MEMBERS_MIN and 3 * len(members & self._traitors) < left

    async def _decide(self, change: MembershipChange, voters: list[str]) -> None:
        first, *others = self._rng.sample(voters, len(voters))
        filed = await self._file(first, change)
        if filed is None or filed["code"] != "ok":
            self.counts["change_refused"] += 1
            return
        self.counts["change_filed"] += 1
        approval = MembershipApproval(change_id=Hash32(filed["action_id"]), approve=True)
        async with trio.open_nursery() as nursery:
            for name in others:
                nursery.start_soon(self._file, name, approval)

    async def _file(self, name: str, payload: object) -> dict[str, Any] | None:
        node = self._swarm.members[name].node
        try:
            return None if node is None else await ValidatorControl(node).file(payload)
        except Refused as error:
            self.counts[f"filing_refused.{error.code}"] += 1
            return None

"""What stopped homes must show after a run: one chain, every promise kept, nothing signed twice.

That no validator has signed twice is judged by what it has signed, not by what others happened to hear. The guard makes
every message durable before it leaves, so the guard logs hold whatever can have left; copies taken at every death
of a process show what a log held before the start after it. What others have heard is judged as well, by themselves:
contradictions are in the evidence of their homes, and on record in the state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from agent_world.consensus.validators import ValidatorSet
from agent_world.node.provision import MadeSwarm
from agent_world.node.verify import verify_home
from agent_world.store import guard_log, keyfile
from agent_world.store.blobs import LocalCasStore
from agent_world.store.chain import ChainStore
from agent_world.store.evidence import EvidenceBook
from agent_world.store.home import Home, HomeLayout
from agent_world.testing.checkers import ChainChecker
from agent_world.wire.ids import Hash32
from agent_world.world import queries
from agent_world.world.genesis import parse_genesis
from agent_world.world.state import WorldState

SHOWN_MAX: Final = 20
"""Violations that a report names one by one."""


@attrs.define(slots=True)
class Audit:
    """What was found in the homes of a swarm."""

    places_signed: int = 0
    """Different (key, height, round, step) in all guard logs that were read."""
    violations: list[str] = attrs.Factory(list)
    """Broken invariants (``testing.checkers``), the first SHOWN_MAX of them."""
    violation_count: int = 0
    double_signs: int = 0
    """Places with two bodies in guard logs (I3), pieces of evidence in homes, equivocations on record."""
    lost: dict[str, int] = attrs.Factory(dict)
    """Acknowledged actions that a home has no receipt of at the height that was told, by node."""
    unverified: dict[str, str] = attrs.Factory(dict)
    """The first finding of ``world verify``, by node."""
    heights: dict[str, int] = attrs.Factory(dict)
    """Committed height by node; a stop may come between two nodes' commits of one block."""
    roots: list[str] = attrs.Factory(list)
    """State roots, from execution, at the lowest of these heights; one if all homes agree."""

    @property
    def is_good(self) -> bool:
        """Whether nothing at all is wrong, and all homes agree."""
        return len(self.roots) == 1 and not (self.violation_count or self.double_signs or self.lost or self.unverified)


class Auditor:
    """Reads guard logs while a swarm is run, and everything once it has stopped."""

    def __init__(self, made: MadeSwarm) -> None:
        self._made = made
        self._homes = {node.name: node.home for node in made.nodes}
        layout = HomeLayout(made.nodes[0].home)
        self._genesis = parse_genesis(layout.genesis_toml.read_text(encoding="utf-8"), str(layout.genesis_toml))
        members = ValidatorSet(self._genesis.validators)
        self._checker = ChainChecker(
            made.world_id, Hash32(made.genesis_hash), members.hash, {members.hash: members}.__getitem__
        )

    def read_guard(self, name: str) -> None:
        """Take in what a node's guard log holds; a running node's too, its last record may be half there."""
        files = HomeLayout(self._homes[name])
        if not files.guard_log.exists():
            return  # killed before it made one
        key = keyfile.read(files.validator_key).public_key
        content = guard_log.read(files.guard_log, Hash32(self._made.genesis_hash), key)
        if content.damage:
            self._checker.report("guard", name, content.damage)
        for made in content.records:
            if made.entry is not None:
                self._checker.signed(name, made.entry.signed)

    def audit(self, acknowledged: Mapping[Hash32, int]) -> Audit:
        """Of the stopped homes; ``acknowledged`` are the heights that receipts told."""
        found = Audit()
        for name, path in self._homes.items():
            self.read_guard(name)
            with Home.at_rest(path) as home:
                self._audit_home(name, home, acknowledged, found)
        lowest = min(found.heights.values())
        roots = set()
        for name, path in self._homes.items():
            report = verify_home(path, watch_height=lowest)
            roots.add(str(report.watched_root))
            if not report.ok:
                found.unverified[name] = f"{report.problems[0].what}: {report.problems[0].detail}"
        found.roots = sorted(roots)
        violations = self._checker.violations
        found.places_signed = len(self._checker.places)
        found.violation_count = len(violations)
        found.violations = [f"{each.invariant} {each.node}: {each.detail}" for each in violations[:SHOWN_MAX]]
        found.double_signs += sum(each.invariant == "I3" for each in violations)
        return found

    def _audit_home(self, name: str, home: Home, acknowledged: Mapping[Hash32, int], found: Audit) -> None:
        blobs = LocalCasStore(home)
        chain = ChainStore(home, blobs)
        found.heights[name] = chain.committed_height
        for height in range(1, chain.committed_height + 1):
            stored = chain.block(height)
            if stored is not None:  # I4 tells of the gap
                self._checker.committed(name, stored.block, stored.certificate)
        places = {action_id: chain.receipt_position(action_id) for action_id in acknowledged}
        lost = sum(place is None or place.height != acknowledged[key] for key, place in places.items())
        if lost:
            found.lost[name] = lost
        found.double_signs += len(EvidenceBook(home).all())
        head = chain.head()
        if head is not None:
            found.double_signs += queries.equivocations(WorldState(head.header.state_root, blobs.get)).count

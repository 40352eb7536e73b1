"""Storage challenges as one part of a node: the challenger, the handler, the probe of the own disk, what they show."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from agent_world.crypto.keys import KeyPair
from agent_world.distfs.challenge_json import cursor_to_json, reasons_to_json, target_to_json
from agent_world.distfs.challenge_stats import NodeStorageChallengeStats
from agent_world.distfs.probe import StorageChallengeProbeReport, probe
from agent_world.handlers.challenge import ChallengeHandler
from agent_world.node.challenge_draw import ContentDraw
from agent_world.node.challenger import ChallengeParts, Challenger, rounds_of
from agent_world.node.counters import Counters
from agent_world.store.blobs import LocalCasStore
from agent_world.store.challenges import ChallengeBook
from agent_world.store.home import Home
from agent_world.wire import rpc
from agent_world.wire.challenge import FailureReason
from agent_world.wire.cid import Cid
from agent_world.wire.hello import Role
from agent_world.wire.ids import Hash32, PeerId

if TYPE_CHECKING:
    from agent_world.node.node import Node

PROBE_BLOBS_MAX: Final = 4_096
"""Hashes looked through at a time; the walk goes on after them in the next round."""


class Challenges:
    """Of one node; ``use`` before ``run``."""

    def __init__(self, node_id: str, role: Role, blobs: LocalCasStore, parts: ChallengeParts) -> None:
        self._node_id = node_id
        self._role = role
        self._blobs = blobs
        self._parts = parts
        self.draw = parts.draw
        """What is asked for, and what is answered from."""
        self.challenger = Challenger(parts)
        self.cursor = parts.book.cursor()
        self.last_probe: StorageChallengeProbeReport | None = None
        self.counters = Counters()

    def use(self, key: KeyPair) -> None:
        """Answer and ask with this node key from now on."""
        parts = self._parts
        handler = ChallengeHandler(
            (parts.network.peer_id, key), parts.draw, parts.clock.wall_ms, skew_ms=parts.config.allowed_clock_skew_ms
        )
        handler.count = self.counters.add
        parts.network.serve(rpc.CHALLENGE, handler.serve_challenge)
        parts.network.serve(rpc.CHALLENGE_REVEAL, handler.serve_reveal)
        self.challenger.use(key)

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.challenger.run)
            if self._role is Role.STORAGE and self._parts.config.interval_ms:
                nursery.start_soon(self._probe_regularly)

    async def _probe_regularly(self) -> None:
        while True:
            await trio.sleep(self._parts.config.interval_ms / 1000)
            self.probe()

    def probe(self) -> StorageChallengeProbeReport:
        """Look at the next blobs of the own store; what is damaged is healed by who reads it."""
        config = self._parts.config
        before = self.cursor
        hashes = list(islice(self._blobs.iterate(after=before.last_hash), PROBE_BLOBS_MAX))
        if not hashes and before.last_hash is not None:
            before = attrs.evolve(before, last_hash=None, next_blob_cursor=0)
            hashes = list(islice(self._blobs.iterate(), PROBE_BLOBS_MAX))
        at = (self._node_id, self._parts.ledger.world_id, self._parts.clock.wall_ms())
        rounds = (rounds_of(config), self.challenger.policy)
        after, report = probe(before, hashes, self._parts.draw.read, rounds, at)
        # The list begins behind the cursor, so the place in the whole store is counted on from where it was.
        place = before.next_blob_cursor + report.total_checks
        self.cursor = attrs.evolve(after, next_blob_cursor=place % max(1, self._blobs.usage().blobs))
        self._parts.book.put_cursor(self.cursor)
        self.last_probe = report
        for reason, count in report.failure_reasons.items():
            self.counters.add(f"probe.failed.{reason.value}", count)
        return report

    def pass_ratio(self, peer: PeerId) -> int | None:
        """Passed challenges of a peer per mille of those that came to a verdict; None without any."""
        known = self.challenger.targets.get(peer)
        total = 0 if known is None else known.passed + known.failed
        return None if known is None or not total else 1_000 * known.passed // total

    def status(self) -> dict[str, Any]:
        """The four parts of a report that the reference system names, for ``node status``."""
        challenger = self.challenger
        targets = challenger.targets
        reasons: dict[FailureReason, int] = {}
        for known in targets.values():
            for reason, count in known.failures.items():
                reasons[reason] = reasons.get(reason, 0) + count
        passed = sum(known.passed for known in targets.values())
        failed = sum(reasons.values())
        config = self._parts.config
        return {
            "distfs_challenge_report": {
                "node_id": self._node_id,
                "world_id": self._parts.ledger.world_id,
                "observed_at_unix_ms": self._parts.clock.wall_ms(),
                "total_checks": passed + failed,
                "passed_checks": passed,
                "failed_checks": failed,
                "failure_reasons": reasons_to_json(reasons),
                "latest_proof_semantics": challenger.latest_proof,
                "targets": {
                    peer: {"total_checks": known.passed + known.failed, **target_to_json(known)}
                    for peer, known in sorted(targets.items())
                },
            },
            "distfs_probe_config": {
                **attrs.asdict(rounds_of(config)),
                "adaptive_policy": attrs.asdict(challenger.policy),
            },
            "distfs_probe_cursor_state": cursor_to_json(self.cursor),
            "distfs_network_challenge": {
                "mode": "network" if challenger.known_targets() or challenger.contained else "fallback_local",
                "request_method": rpc.CHALLENGE,
                "proof_method": rpc.CHALLENGE_REVEAL,
                "known_storage_targets": challenger.known_targets(),
                "issued_challenge_ids": challenger.last_round["issued"],
                "answered_challenge_ids": challenger.last_round["answered"],
                "accepted_proof_ids": challenger.last_round["accepted"],
                "timed_out_challenge_ids": challenger.last_round["timed_out"],
                "contained": challenger.contained,
                "probe_report": [_stats_shown(each) for each in challenger.last_statistics],
                "local_probe_report": None if self.last_probe is None else _shown(self.last_probe),
            },
        }

    async def challenge(self, target: PeerId | None, content: Cid | None) -> dict[str, Any]:
        """One challenge now; raises Refused."""
        return await self.challenger.challenge(target, content)

    def explain(self, challenge_id: Hash32) -> dict[str, Any]:
        """One of the last challenges; raises Refused if it is not remembered."""
        return self.challenger.explain(challenge_id)

    def shown(self, limit: int) -> dict[str, Any]:
        """``status`` and the last challenges, the latest first."""
        return {**self.status(), "recent": self.challenger.recent(limit)}

    def all_counters(self) -> dict[str, int]:
        """Of every part."""
        merged: dict[str, int] = {}
        for part in (self.counters, self.challenger.counters, self._parts.draw.counters):
            for name, count in part.items():
                merged[name] = merged.get(name, 0) + count
        return merged


def _shown(report: StorageChallengeProbeReport) -> dict[str, Any]:
    plain = {field.name: getattr(report, field.name) for field in attrs.fields(StorageChallengeProbeReport)}
    return {**plain, "failure_reasons": reasons_to_json(report.failure_reasons)}


def _stats_shown(stats: NodeStorageChallengeStats) -> dict[str, Any]:
    return {**attrs.asdict(stats), "failures_by_reason": reasons_to_json(stats.failures_by_reason)}


def challenges_of(node: Node, home: Home) -> Challenges:
    """The storage challenges of a node whose ledger and peering are built."""
    settings, config = node.settings, node.settings.config.challenge
    draw = ContentDraw(
        node.ledger, node.blobs, node.sources.keepers, node.clock, node.find_blobs, settle_ms=config.settle_ms
    )
    parts = ChallengeParts(config, node.network, node.ledger, node.peering, draw, ChallengeBook(home), node.clock)
    return Challenges(settings.node_id, settings.role, node.blobs, parts)

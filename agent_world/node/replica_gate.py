"""Carries out the storage challenge gate: asks peers for samples of what was replicated (Gap 2, K-8.8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import SystemRandom
from typing import Any

import structlog
import trio

from agent_world.crypto.hashing import content_hash
from agent_world.distfs.storage_gate import GateResult, SampleOutcome, decide_gate, draw_positions
from agent_world.errors import BlobHashMismatch, BlobNotFound, ErrorCode, Refused, RemoteError
from agent_world.node.counters import Counters
from agent_world.node.replica_parts import ReplicationParts
from agent_world.store.replication import ReplicationStore
from agent_world.wire import record, rpc
from agent_world.wire.blob import FetchBlobRequest, FetchBlobResponse
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import RPC_BODY_BYTES_MAX

_log = structlog.get_logger("agent_world.replication")

_OF_CODE = {
    ErrorCode.NOT_FOUND: SampleOutcome.NOT_FOUND,
    ErrorCode.TIMEOUT: SampleOutcome.TIMEOUT,
    ErrorCode.NOT_AVAILABLE: SampleOutcome.UNREACHABLE,
}


class StorageGate:
    """One writer's gate."""

    def __init__(self, store: ReplicationStore, parts: ReplicationParts) -> None:
        self._store = store
        self._network = parts.network
        self._blobs = parts.blobs
        self._healer = parts.healer
        self._config = parts.config
        self._peers = parts.neighbours
        self._turn = 0
        self.draw: Callable[[int], int] = SystemRandom().randrange
        """A number below the given one that no peer can foresee; a simulation sets a seeded one."""
        self.last: GateResult | None = None
        self.counters = Counters()

    async def check(self) -> GateResult:
        """Look whether what was replicated is still there; never raises for what peers do."""
        first, last = self._store.bounds()
        positions = draw_positions(first, last, self._config, self.draw)
        entries = filter(None, map(self._store.sample, positions))
        drawn = [entry.content.digest for entry in entries if entry.content is not None]
        samples: list[list[SampleOutcome]] = [[] for _entry in drawn]
        peers = self._rotated()
        async with trio.open_nursery() as nursery:
            for content, outcomes in zip(drawn, samples, strict=True):
                nursery.start_soon(self._ask_for, content, peers, outcomes)
        result = self.last = decide_gate(samples, len(peers), self._config)
        self.counters.add("replication.gate.passed" if result.passed else "replication.gate.failed")
        for reason, count in result.reasons.items():
            self.counters.add(f"replication.gate.{reason}", count)
        if not result.passed:
            _log.warning("nothing is published for now: %s", result.detail, reasons=dict(result.reasons))
        return result

    def _rotated(self) -> list[PeerId]:
        """Another neighbour first each time."""
        peers = sorted(self._peers())
        self._turn += 1
        start = self._turn % len(peers) if peers else 0
        return peers[start:] + peers[:start]

    async def _ask_for(self, content: ContentHash, peers: Sequence[PeerId], outcomes: list[SampleOutcome]) -> None:
        """One peer after the other until one has it; what came of each goes into ``outcomes``."""
        try:
            own = self._blobs.get(content)
        except BlobNotFound:
            self._healer.lost(content)
            outcomes.append(SampleOutcome.LOCAL_MISSING)
            return
        except BlobHashMismatch:
            self._healer.lost(content)
            outcomes.append(SampleOutcome.LOCAL_DAMAGED)
            return
        for peer in peers[: self._config.gate_peers_per_sample]:
            outcomes.append(await self._ask(peer, content, own))
            if outcomes[-1] is SampleOutcome.MATCH:
                return

    async def _ask(self, peer: PeerId, content: ContentHash, own: bytes) -> SampleOutcome:
        request = record.to_bytes(FetchBlobRequest(content_hash=content))
        timeout_s = self._config.gate_timeout_ms / 1000
        try:
            answer = await self._network.request(peer, rpc.FETCH_BLOB, request, timeout_s=timeout_s)
            given = record.from_bytes(FetchBlobResponse, answer, size_max=RPC_BODY_BYTES_MAX).blob
        except Refused as error:
            return _OF_CODE.get(error.code, SampleOutcome.REFUSED)
        except RemoteError:
            return SampleOutcome.NO_ANSWER
        return SampleOutcome.MATCH if given == own and content_hash(given) == content else SampleOutcome.HASH_MISMATCH

    def status(self) -> dict[str, Any]:
        """The last result and how often each reason was met, for status pages."""
        last = self.last
        prefix = "replication.gate."
        return {
            "passed": None if last is None else last.passed,
            "detail": "not checked yet" if last is None else last.detail,
            "samples": 0 if last is None else last.samples,
            "required": 0 if last is None else last.required,
            "matches": 0 if last is None else last.matches,
            "reasons": {} if last is None else dict(last.reasons),
            "counts": {name.removeprefix(prefix): count for name, count in self.counters.items()},
        }

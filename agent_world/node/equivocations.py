"""Equivocations that this node has seen: kept, told by gossip, and brought into a block by a validator (D4)."""

from __future__ import annotations

from typing import Any, Final

import attrs
import structlog
import trio

from agent_world.consensus.evidence import Equivocation, make_evidence, verify_evidence
from agent_world.errors import Refused, RemoteError, StoreNotWritable
from agent_world.net.interface import DistributedNetwork
from agent_world.node.counters import Counters
from agent_world.node.filing import Filing
from agent_world.node.ledger import Ledger
from agent_world.store.evidence import EvidenceBook
from agent_world.wire import record, rpc
from agent_world.wire.evidence import EquivocationEvidence
from agent_world.wire.ids import PublicKey, ValidatorId
from agent_world.wire.limits import PROPOSAL_BYTES_MAX
from agent_world.wire.signed import Signed
from agent_world.world import queries
from agent_world.world.reasons import EVIDENCE_KNOWN, OK

_log = structlog.get_logger("agent_world.consensus")

TURN_HEIGHTS: Final = 3
"""Blocks that each validator waits longer than the one before it, so that one of them files the evidence."""
TELL_HEIGHTS: Final = 20
"""Evidence that no block has taken is told again after so many heights."""
FILE_S: Final = 60.0
"""Longest wait for the block; after it the next turn comes."""


@attrs.define(slots=True)
class _Open:
    """Evidence that is on no record yet."""

    evidence: EquivocationEvidence
    since_height: int
    told_at_height: int


class Equivocations:
    """Satisfies ``handlers.evidence.EvidenceView``."""

    def __init__(self, ledger: Ledger, book: EvidenceBook, network: DistributedNetwork) -> None:
        self._ledger = ledger
        self._book = book
        self._network = network
        self.world_id = ledger.world_id
        self.genesis_hash = ledger.genesis_hash
        self.filing: Filing | None = None
        """How a validator brings evidence into a block; None on a node without a vote."""
        self.counters = Counters()
        self._open: dict[Equivocation, _Open] = {}
        self._news = trio.Event()
        for _key, _height, _round, evidence in book.all():
            self._reopen(evidence)
        if damaged := book.damaged():
            self.counters.add("evidence.damaged", damaged)

    def _reopen(self, evidence: EquivocationEvidence) -> None:
        try:
            proved = verify_evidence(evidence, self.world_id, self.genesis_hash)
        except RemoteError as error:
            self.counters.add("evidence.damaged")
            _log.error("stored evidence does not verify any more", error=str(error))
            return
        if not self._is_on_record(proved):
            self._open[proved] = _Open(evidence, self._ledger.height, self._ledger.height)

    def key_owner(self, key: PublicKey) -> ValidatorId | None:
        """Whose validator key this is or was."""
        return queries.key_owner(self._ledger.state, key)

    def is_recorded(self, proved: Equivocation) -> bool:
        """Whether a block has recorded it, or it waits here for one."""
        return self._is_on_record(proved) or self._book.has(proved.key, proved.height, proved.round)

    def _is_on_record(self, proved: Equivocation) -> bool:
        return queries.equivocation(self._ledger.state, proved.key, proved.height, proved.round) is not None

    def found(self, first: bytes, second: bytes) -> None:
        """The engine of this node was sent two messages for one place."""
        key = record.from_bytes(Signed, first, size_max=PROPOSAL_BYTES_MAX).key
        owner = self.key_owner(key)
        if owner is None:
            self.counters.add("evidence.of_nobody")
            return
        evidence = make_evidence(self.world_id, owner, first, second)
        proved = verify_evidence(evidence, self.world_id, self.genesis_hash)
        if not self.is_recorded(proved):
            self.counters.add("evidence.found")
            self.take(evidence, proved)

    def take(self, evidence: EquivocationEvidence, proved: Equivocation) -> None:
        """True and new evidence: keep it, and see that it gets into a block."""
        try:
            is_kept = self._book.add(proved.key, proved.height, proved.round, evidence)
        except StoreNotWritable:
            is_kept = False  # others have the two messages too, and tell of them
        if not is_kept:
            self.counters.add("evidence.not_kept")
            return
        self.counters.add("evidence.kept")
        _log.warning(
            "a validator contradicted itself",
            validator=evidence.validator_id,
            kind=proved.kind.value,
            height=proved.height,
            round=proved.round,
        )
        never = self._ledger.height - TELL_HEIGHTS
        self._open[proved] = _Open(evidence, self._ledger.height, never)
        self._news.set()

    async def run(self) -> None:
        """Until cancelled: at every height, tell and file what no block has taken."""
        while True:
            for proved, waiting in list(self._open.items()):
                if self._is_on_record(proved):
                    del self._open[proved]
                    continue
                await self._tell(waiting)
                await self._file(proved, waiting)
            self._news = trio.Event()
            if self._open:
                await self._until_news_or_height()
            else:
                await self._news.wait()

    async def _until_news_or_height(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_news, nursery.cancel_scope)
            await self._ledger.wait_above(self._ledger.height)
            nursery.cancel_scope.cancel()

    async def _until_news(self, scope: trio.CancelScope) -> None:
        await self._news.wait()
        scope.cancel()

    async def _tell(self, waiting: _Open) -> None:
        if self._ledger.height - waiting.told_at_height < TELL_HEIGHTS:
            return
        waiting.told_at_height = self._ledger.height
        await self._network.publish(rpc.topic(self.world_id, "consensus.evidence"), record.to_bytes(waiting.evidence))
        self.counters.add("evidence.told")

    async def _file(self, proved: Equivocation, waiting: _Open) -> None:
        turn = self._turn(proved)
        if self.filing is None or turn is None or self._ledger.height < waiting.since_height + turn * TURN_HEIGHTS:
            return
        try:
            _action_id, height, receipt = await self.filing.file(waiting.evidence, timeout_s=FILE_S)
        except Refused as error:
            self.counters.add(f"evidence.not_filed.{error.code}")
            waiting.since_height = self._ledger.height
            return
        if receipt.code in (OK, EVIDENCE_KNOWN):
            self.counters.add("evidence.filed")
            return
        self.counters.add("evidence.refused")
        _log.error("a block refused evidence that verifies here", code=receipt.code, height=height)
        self._open.pop(proved, None)

    def _turn(self, proved: Equivocation) -> int | None:
        """This validator's place in the order of those who may file it, 0 for the first; None if it is none."""
        if self.filing is None:
            return None
        members = [entry.public_key for entry in self._ledger.validators.record.validators]
        # Everybody begins elsewhere in the circle, so that not one validator files all.
        own = self.filing.key.public_key
        if own not in members:
            return None
        return (members.index(own) - proved.height) % len(members)

    def status(self) -> dict[str, Any]:
        """For ``node status``: what is on record, and what waits for a block."""
        listed = queries.equivocations(self._ledger.state)
        return {
            "on_record": listed.count,
            "newest": [
                {
                    "validator_id": self.key_owner(place.key),
                    "height": place.height,
                    "round": place.round,
                }
                for place in listed.newest[:8]
            ],
            "waiting": len(self._open),
        }

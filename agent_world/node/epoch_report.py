"""What happened in one epoch: who decided, proposed and signed, which sets changed hands, and who equivocated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

import trio

from agent_world.consensus.validators import ValidatorSet
from agent_world.errors import ChainError, ErrorCode, Refused
from agent_world.node.chain_views import Committed
from agent_world.store.chain_rows import StoredBlock
from agent_world.wire import record
from agent_world.wire.block import Event, WorldBlock
from agent_world.wire.cid import ContentHash
from agent_world.wire.consensus import CommitCertificate, ValidatorSetRecord, Vote
from agent_world.wire.genesis import Genesis
from agent_world.wire.limits import BLOB_BYTES_MAX, CERTIFICATE_BYTES_MAX
from agent_world.wire.membership import EpochBoundary
from agent_world.world.events import (
    EQUIVOCATION_RECORDED,
    EVENTS,
    LEASE_CHANGED,
    MEMBERSHIP_DECIDED,
    VALIDATORS_CHANGED,
)
from agent_world.world.journal import assemble_journal

HEIGHTS_MAX: Final = 10_000
"""Heights of an epoch that are looked at, the last ones; about a second's work."""
ROWS_MAX: Final = 1_000
"""Events of one kind that are listed; ``omitted`` counts the rest."""
HEIGHTS_AT_ONCE: Final = 16
"""Between two chances for other tasks."""
_BOUNDARIES_AT_ONCE: Final = 256
_LISTED: Final = {
    EQUIVOCATION_RECORDED: "equivocations",
    MEMBERSHIP_DECIDED: "changes_decided",
    VALIDATORS_CHANGED: "sets_taking_over",
    LEASE_CHANGED: "lease_changes",
}


class EpochChain(Committed, Protocol):
    """A committed chain that knows where sets took over; satisfied as ``Committed`` is."""

    @property
    def genesis(self) -> Genesis:
        """The world."""
        ...

    def boundaries(self, from_height: int, count_max: int) -> tuple[EpochBoundary, ...]:
        """Where other sets took over."""
        ...


async def epoch_report(chain: EpochChain, get: Callable[[ContentHash], bytes], epoch: int | None) -> dict[str, Any]:
    """The report of an epoch, by default of the one under way, as far as its blocks are kept here.

    Shares of stake are in parts per thousand, times in ms. ``get`` gives blobs. Raises Refused (ERR_NOT_FOUND) for an
    epoch without a block here, DataError and DecodeError for damage.
    """
    newest = chain.header
    asked = (0 if newest is None else newest.epoch) if epoch is None else epoch
    first = _first_of(chain, asked)
    last = _first_of(chain, asked + 1) - 1
    if newest is None or last < first:
        raise Refused(ErrorCode.NOT_FOUND, f"no block of epoch {asked} is kept here", rule="B5")
    scan = _Scan(first=max(first, last - HEIGHTS_MAX + 1), sets=_sets(chain, first))
    for height in range(scan.first, last + 1):
        found = chain.stored(height)
        if found is None:
            raise ChainError(height, "block", "not held between heights that are")
        scan.add(found, assemble_journal(found.header.journal_ref, height, get))
        if height % HEIGHTS_AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    return {
        "world_id": newest.world_id,
        "epoch": asked,
        "is_over": last < chain.height,
        "first_height": first,
        "last_height": last,
        "looked_at_from": scan.first,
        **scan.result(),
    }


class _Scan:
    """Counts over consecutive heights."""

    def __init__(self, *, first: int, sets: Iterator[tuple[int, ValidatorSet]]) -> None:
        self.first = first
        self._sets = sets
        self._next = next(sets, None)
        self._current: ValidatorSet | None = None
        self._owners: dict[bytes, str] = {}
        self._stakes: dict[str, int] = {}
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in ("seated", "proposed", "signed")}
        self._listed: dict[str, list[dict[str, Any]]] = {name: [] for name in _LISTED.values()}
        self._figures: Counter[str] = Counter()
        self._times: list[int] = []

    def add(self, stored: StoredBlock, events: Iterable[Event]) -> None:
        """The next height."""
        header = stored.header
        self._seat(header.height)
        certificate = record.from_bytes(CommitCertificate, stored.certificate, size_max=CERTIFICATE_BYTES_MAX)
        vote = record.from_bytes(Vote, certificate.body, size_max=CERTIFICATE_BYTES_MAX)
        self._counts["seated"].update(self._owners.values())
        self._counts["proposed"][header.proposer_id] += 1
        strangers = [item.key for item in certificate.signatures if item.key not in self._owners]
        if strangers:
            raise ChainError(header.height, "certificate", f"{strangers[0].hex()} signed and is not in the set")
        self._counts["signed"].update(self._owners[item.key] for item in certificate.signatures)
        self._figures["blocks"] += 1
        self._figures["blocks_after_round_0"] += vote.round > 0
        self._figures["highest_round"] = max(self._figures["highest_round"], vote.round)
        self._times = [*self._times[:1], header.timestamp_ms]
        for event in events:
            self._figures["events"] += 1
            if event.kind in _LISTED:
                self._list(event)

    def _seat(self, height: int) -> None:
        while self._next is not None and self._next[0] <= height:
            self._current = self._next[1]
            self._next = next(self._sets, None)
            members = self._current.record.validators
            self._owners = {member.public_key: member.validator_id for member in members}
            self._stakes.update({member.validator_id: member.stake for member in members})

    def _list(self, event: Event) -> None:
        rows = self._listed[_LISTED[event.kind]]
        if len(rows) == ROWS_MAX:
            self._figures["omitted"] += 1
            return
        payload: object = record.from_bytes(EVENTS[event.kind], event.payload_cbor, size_max=BLOB_BYTES_MAX)
        rows.append({"recorded_at_height": event.height, "caused_by": event.caused_by, **record.unstructure(payload)})

    def result(self) -> dict[str, Any]:
        """What was counted."""
        assert self._current is not None, "the set of genesis begins at height 1"
        blocks = self._figures["blocks"]
        return {
            "began_at_ms": self._times[0],
            "last_block_at_ms": self._times[-1],
            **{name: self._figures[name] for name in ("blocks", "blocks_after_round_0", "highest_round", "events")},
            "total_stake": self._current.total_stake,
            "validators": [
                {
                    "validator_id": name,
                    "stake": self._stakes[name],
                    "heights_in_set": seated,
                    "proposed": self._counts["proposed"][name],
                    "proposed_per_mille": 1000 * self._counts["proposed"][name] // blocks,
                    "stake_per_mille": 1000 * self._stakes[name] // self._current.total_stake,
                    "signed": self._counts["signed"][name],
                }
                for name, seated in sorted(self._counts["seated"].items())
            ],
            **self._listed,
            "omitted": self._figures["omitted"],
        }


def _first_of(chain: EpochChain, epoch: int) -> int:
    """The lowest height kept here whose epoch is at least this; one above the head if the chain is not so far."""
    low, high = 1, chain.height + 1
    while low < high:
        middle = (low + high) // 2
        stored = chain.stored(middle)
        if stored is None or stored.header.epoch < epoch:  # what is not kept is older than what is
            low = middle + 1
        else:
            high = middle
    return low


def _sets(chain: EpochChain, height: int) -> Iterator[tuple[int, ValidatorSet]]:
    """The set of ``height`` and those after it, each with the height from which it decides."""
    start, current = 1, ValidatorSet(chain.genesis.validators)
    place = 1
    while boundaries := chain.boundaries(place, _BOUNDARIES_AT_ONCE):
        for boundary in boundaries:
            begins = _height_of(boundary) + 1
            if begins > height:
                yield start, current
            named = record.from_bytes(ValidatorSetRecord, boundary.validators, size_max=BLOB_BYTES_MAX)
            start, current, place = begins, ValidatorSet(named), begins
    yield start, current


def _height_of(boundary: EpochBoundary) -> int:
    return record.from_bytes(WorldBlock, boundary.block, size_max=BLOB_BYTES_MAX).height

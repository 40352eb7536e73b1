"""``world replay``: a range of a home's heights executed again, with what each did and where it differs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import attrs

from agent_world.errors import BlobHashMismatch, BlobNotFound, ChainError, DecodeError, UsageError
from agent_world.node.replaying import Difference, Replay, need_block, row_differences
from agent_world.node.stopped import read_genesis
from agent_world.store.blobs import LocalCasStore
from agent_world.store.chain import ChainStore
from agent_world.store.home import Home
from agent_world.wire.block import Outcome
from agent_world.wire.cid import Cid
from agent_world.world.block import SealedBlock

Progress = Callable[[int, int], None]
"""Called with the height executed last and the height of the end."""


@attrs.frozen(slots=True, kw_only=True)
class HeightReport:
    """What executing one height again gave."""

    height: int
    actions: int
    applied: int
    rejected: int
    events: int
    state_root: Cid | None
    """Of the execution; None if it gave something else than the block says."""
    seconds: float
    differences: tuple[Difference, ...]


class RangeReplay:
    """Executes ``first`` to ``last`` of a home that is open for reading."""

    def __init__(
        self, home: Home, first: int, last: int | None = None, progress: Progress = lambda _done, _all: None
    ) -> None:
        """``last`` None is the committed height. Raises UsageError for heights that are not committed, DataError."""
        self._genesis = read_genesis(home)
        self._blobs = LocalCasStore(home)
        self._chain = ChainStore(home, self._blobs)
        height = self._chain.committed_height
        self.first, self.last = first, height if last is None else last
        if not height:
            raise UsageError("no height is committed in this home: there is nothing to execute again")
        if not 1 <= self.first <= height or (last is not None and last > height):
            raise UsageError(f"this home has committed heights 1 to {height}, and not {max(self.first, last or 0)}")
        if self.last < self.first:
            raise UsageError(f"the last height, {self.last}, is below the first, {self.first}")
        self._progress = progress
        self.origin = ""
        """Where the execution began, and why not nearer; for people. Set once the first height is reported."""
        self._replay = self._begin()

    def heights(self) -> Iterator[HeightReport]:
        """A report a height, in order; ends after the first that cannot be executed as its block says."""
        for height in range(self.first, self.last + 1):
            started = time.perf_counter()
            try:
                sealed = self._execute(height)
            except ChainError as error:
                found = Difference(error.what, None, error.detail)
                yield _report(height, None, time.perf_counter() - started, (found,))
                return
            seconds = time.perf_counter() - started
            self._progress(height, self.last)
            yield _report(height, sealed, seconds, tuple(row_differences(self._chain, sealed)))

    def _execute(self, height: int) -> SealedBlock:
        stored = need_block(self._chain, height)
        try:
            return self._replay.execute(stored, self._blobs.get)
        except (BlobNotFound, BlobHashMismatch, DecodeError) as error:
            if self._replay.is_from_genesis:
                raise ChainError(height, "state", str(error)) from None
            self._from_genesis(height - 1, f"the state of height {self.first - 1} is damaged here: {error}")
            return self._replay.execute(stored, self._blobs.get)

    def _begin(self) -> Replay:
        if self.first == 1:
            self.origin = "genesis"
            return Replay.from_genesis(self._genesis)
        parent = self._chain.block(self.first - 1)
        why = f"block {self.first - 1} is not here"
        if parent is not None:
            try:
                replay = Replay.after(self._genesis, parent, self._blobs.get)
            except (BlobNotFound, BlobHashMismatch, DecodeError, ChainError) as error:
                why = f"the state of height {self.first - 1} is not here: {error}"
            else:
                self.origin = f"the stored state of height {self.first - 1}"
                return replay
        return self._from_genesis(self.first - 1, why)

    def _from_genesis(self, up_to: int, why: str) -> Replay:
        """Execute all heights below the range, without a report. Raises ChainError at the first that differs."""
        self.origin = f"genesis ({why})"
        self._replay = Replay.from_genesis(self._genesis)
        for height in range(1, up_to + 1):
            self._replay.execute(need_block(self._chain, height), self._blobs.get)
            self._progress(height, self.last)
        return self._replay


def _report(
    height: int, sealed: SealedBlock | None, seconds: float, differences: tuple[Difference, ...]
) -> HeightReport:
    receipts = () if sealed is None else sealed.execution.receipts
    applied = sum(receipt.outcome is Outcome.APPLIED for receipt in receipts)
    return HeightReport(
        height=height,
        actions=len(receipts),
        applied=applied,
        rejected=len(receipts) - applied,
        events=0 if sealed is None else len(sealed.execution.events),
        state_root=None if sealed is None else sealed.block.state_root,
        seconds=seconds,
        differences=differences,
    )

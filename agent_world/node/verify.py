"""``world verify``: everything in a home checked without trusting anything but its genesis.

The chain is executed again from genesis on a state held in memory; every certificate, header and root is compared,
and every stored row and blob must be what the execution says. Damage is reported with its height; as much as
possible is checked after the first finding.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs

from agent_world.errors import (
    AgentWorldError,
    BlobHashMismatch,
    BlobNotFound,
    ChainError,
    HomeError,
)
from agent_world.node.replaying import Replay, need_block, row_differences
from agent_world.node.verify_log import log_findings
from agent_world.store.blobs import LocalCasStore
from agent_world.store.chain import ChainStore
from agent_world.store.home import Home
from agent_world.wire import record
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.genesis import Genesis
from agent_world.wire.ids import Hash32
from agent_world.wire.limits import BLOB_BYTES_MAX
from agent_world.world.block import SealedBlock
from agent_world.world.events import OBJECT_CREATED, ObjectCreated
from agent_world.world.genesis import genesis_hash, parse_genesis

PROBLEMS_MAX: Final = 100
"""Findings listed; further ones are only counted."""


@attrs.frozen(slots=True)
class Problem:
    """One finding: ``height`` is None for a blob that no block refers to."""

    height: int | None
    what: str
    detail: str


@attrs.define(slots=True)
class Report:
    """What a verification found."""

    world_id: str
    genesis_hash: Hash32
    height: int = 0
    """Height up to which everything was executed and compared."""
    stored_height: int = 0
    state_root: Cid | None = None
    actions: int = 0
    blobs_checked: int = 0
    content_missing: int = 0
    """Content of objects that is not stored here; only storage nodes hold it."""
    watched_root: Cid | None = None
    """State root at the height that was asked for."""
    reachable: int = 0
    """Blobs that the executed chain refers to."""
    held: int = 0
    """How many of them are here and sound."""
    problem_count: int = 0
    problems: list[Problem] = attrs.Factory(list)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return self.problem_count == 0

    def add(self, height: int | None, what: str, detail: str) -> None:
        """Note a finding."""
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(height, what, detail))


def verify_home(
    path: Path, progress: Callable[[int, int], None] = lambda _done, _all: None, *, watch_height: int = 0
) -> Report:
    """Verify a home, also while a node runs on it; raises HomeError if it cannot even be read as one.

    ``progress`` is called with heights done and heights in all. The root at ``watch_height`` is reported apart.
    """
    with Home.read_only(path) as home:
        genesis = parse_genesis(home.genesis_toml(), str(home.files.genesis_toml))
        report = Report(world_id=genesis.world_id, genesis_hash=genesis_hash(genesis))
        if home.genesis_hash != report.genesis_hash:
            report.add(None, "genesis.toml", f"the home was made for genesis {home.genesis_hash.hex()}")
            return report
        try:
            verification = _Verification(home, genesis, report, watch_height)
        except ChainError as error:
            report.add(error.height, error.what, error.detail)
        else:
            verification.run(progress)
        return report


class _Verification:
    def __init__(self, home: Home, genesis: Genesis, report: Report, watch_height: int) -> None:
        self._watch_height = watch_height
        self._home = home
        self._database = home.database
        self._genesis = genesis
        self._report = report
        self._blobs = LocalCasStore(home)
        self._chain = ChainStore(home, self._blobs)
        self._referrer: dict[ContentHash, int] = {}
        self._sound: set[ContentHash] = set()

    def run(self, progress: Callable[[int, int], None]) -> None:
        report = self._report
        report.stored_height = self._chain.committed_height
        self._replay(progress)
        report.reachable = len(self._referrer) + report.content_missing
        report.held = len(self._sound)
        self._check_rows()
        for height, detail in log_findings(self._home, self._chain, self._blobs, self._genesis):
            report.add(height, "record log", detail)
        self._check_all_blobs()

    def _replay(self, progress: Callable[[int, int], None]) -> None:
        report = self._report
        replay = Replay.from_genesis(self._genesis)
        for digest in list(replay.made):
            self._expect(digest, 0)
        report.state_root = replay.head.state_root
        for height in range(1, report.stored_height + 1):
            try:
                sealed = replay.execute(need_block(self._chain, height), self._read_for(height))
            except ChainError as error:
                report.add(height, error.what, error.detail)
                return
            except (AgentWorldError, ValueError) as error:
                report.add(height, type(error).__name__, str(error))
                return
            self._note(height, sealed)
            report.height, report.state_root = height, sealed.block.state_root
            if height == self._watch_height:
                report.watched_root = sealed.block.state_root
            report.actions += len(sealed.execution.receipts)
            progress(height, report.stored_height)

    def _read_for(self, height: int) -> Callable[[ContentHash], bytes]:
        """Reads a blob that the block itself needs; if it is damaged, the replay's own finding names it."""

        def read(content: ContentHash) -> bytes:
            try:
                return self._blobs.get(content)
            except (BlobNotFound, BlobHashMismatch):
                self._referrer.setdefault(content, height)
                raise

        return read

    def _note(self, height: int, sealed: SealedBlock) -> None:
        """Everything this height put into the store must be there, byte for byte."""
        for digest in sealed.blobs:
            self._expect(digest, height)
        for event in sealed.execution.events:
            if event.kind == OBJECT_CREATED:
                created = record.from_bytes(ObjectCreated, event.payload_cbor, size_max=BLOB_BYTES_MAX)
                if self._blobs.has(created.content.digest):
                    self._expect(created.content.digest, height)
                else:
                    self._report.content_missing += 1
        for difference in row_differences(self._chain, sealed):
            self._compare(height, difference.what, difference.stored, difference.executed)

    def _compare(self, height: int, what: str, found: object, expected: object) -> None:
        if found != expected:
            self._report.add(height, what, f"stored {found}, execution gives {expected}")

    def _expect(self, digest: ContentHash, height: int) -> None:
        """A blob that ``height`` needs; the first height that does is the one named."""
        if digest in self._referrer:
            return
        self._referrer[digest] = height
        try:
            self._blobs.get(digest)
        except (BlobNotFound, BlobHashMismatch) as error:
            self._report.add(height, "blob", str(error))
        else:
            self._sound.add(digest)
            self._report.blobs_checked += 1

    def _check_rows(self) -> None:
        report = self._report
        blocks, receipts = self._chain.row_counts(report.stored_height)
        if report.height == report.stored_height:
            self._compare(report.height, "receipt rows", receipts, report.actions)
        self._compare(report.stored_height, "block rows", blocks, report.stored_height)
        self._compare(report.stored_height, "base height", self._chain.base_height, min(1, report.stored_height))
        try:
            self._database.check()
        except HomeError as error:
            report.add(None, "world.db", str(error))

    def _check_all_blobs(self) -> None:
        """The blobs that no executed height named: content held for others, or of heights beyond the damage."""
        for digest in list(self._blobs.iterate()):
            if digest in self._referrer:
                continue
            self._report.blobs_checked += 1
            try:
                self._blobs.get(digest)
            except (BlobNotFound, BlobHashMismatch) as error:
                self._report.add(None, "blob", f"{error} (no verified block refers to it)")

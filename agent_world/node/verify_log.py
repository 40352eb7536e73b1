"""The record log of a home checked: every signature, lease, place, block, content and row of the index."""

from __future__ import annotations

from collections.abc import Iterator

from agent_world.distfs.replication import (
    BEFORE_FIRST,
    FileEntry,
    OpenedRecord,
    SingleWriterReplicationGuard,
    WriterLease,
    check_block,
    check_content,
    check_writer,
    commit_height,
    open_record,
    validate_and_advance,
)
from agent_world.errors import AgentWorldError
from agent_world.node.replica_log import writer_lease
from agent_world.store.blobs import LocalCasStore
from agent_world.store.chain import ChainStore
from agent_world.store.home import Home
from agent_world.store.replication import ReplicationStore
from agent_world.wire.file_index import FileMetadata
from agent_world.wire.genesis import Genesis
from agent_world.world.genesis import genesis_hash
from agent_world.world.state import WorldState
from agent_world.world.trie import NodeCache

Finding = tuple[int | None, str]
"""(height of the record's lease, what is wrong)."""


def log_findings(home: Home, chain: ChainStore, blobs: LocalCasStore, genesis: Genesis) -> Iterator[Finding]:
    """What is wrong with the log of a home; blocks and states are checked elsewhere and are believed here."""
    check = _LogCheck(home, chain, blobs, genesis)
    yield from check.records()
    yield from check.end()


class _LogCheck:
    def __init__(self, home: Home, chain: ChainStore, blobs: LocalCasStore, genesis: Genesis) -> None:
        self._chain = chain
        self._blobs = blobs
        self._genesis = genesis
        self._genesis_hash = genesis_hash(genesis)
        self._store = ReplicationStore(home, blobs, genesis.world_id)
        self._began_at = self._store.guard()
        self._nodes = NodeCache(blobs.get)
        self._guard = SingleWriterReplicationGuard(world_id=genesis.world_id)
        self._newest: dict[str, FileEntry] = {}
        self._removed: dict[str, FileEntry | None] = {}
        """What was at a path before its newest record removed it."""

    def records(self) -> Iterator[Finding]:
        """Of the records, one after the other; behind one that cannot be read nothing can be said."""
        place = BEFORE_FIRST
        while page := self._store.records_after(place):
            for data in page:
                try:
                    opened = open_record(data, self._genesis.world_id, self._genesis_hash)
                except AgentWorldError as error:
                    yield None, f"the record after {place}: {error}"
                    return
                place = opened.place
                try:
                    self._check(opened)
                except AgentWorldError as error:
                    yield opened.record.height, f"record {place}: {error}"

    def _check(self, opened: OpenedRecord) -> None:
        said = opened.record
        if said.content is None:
            self._removed[said.path] = self._newest.pop(said.path, None)
        else:
            self._newest[said.path] = opened.entry
            self._removed.pop(said.path, None)
        self._guard = validate_and_advance(self._guard, said)
        check_writer(opened, self._lease_at(said.height))
        height = commit_height(said.path)
        if height is not None:
            stored = self._chain.block(height) if height <= said.height else None
            check_block(said, None if stored is None else stored.block_hash)
        if said.content is not None:
            check_content(said, self._blobs.get(said.content.digest))

    def _lease_at(self, height: int) -> WriterLease | None:
        stored = self._chain.block(height)
        return None if stored is None else writer_lease(WorldState(stored.header.state_root, self._nodes), height)

    def end(self) -> Iterator[Finding]:
        """Of what must agree with the log: where it ends, and the index. A log that a running node goes on with is
        left at that."""
        guard = self._store.guard()
        if guard != self._began_at:
            return
        if guard != self._guard:
            yield None, f"the log ends at {self._guard.place}, the guard says {guard.place}"
        indexed = {file.path: file for file in self._store.indexed()}
        waiting = {entry.path for entry in self._store.waiting()}
        for path, entry in self._newest.items():
            found = indexed.get(path)
            content = None if found is None else found.content
            if content != entry.content and path not in waiting:
                yield None, f"the index has {content} at {path}, the log {entry.content}"
        for path, before in self._removed.items():
            found = indexed.get(path)
            # Anything else that is there was put there since, by a node's user, at a path that the log does not hold.
            if found is not None and before is not None and path not in waiting and _is_same(found, before):
                yield None, f"the index still has {found.content} at {path}, which the log removes"


def _is_same(file: FileMetadata, entry: FileEntry) -> bool:
    return (file.content, file.updated_at_ms) == (entry.content, entry.updated_at_ms)

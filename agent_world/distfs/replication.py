"""The record log of the world's single writer, as pure functions (network-storage 7.10, 8.3; D4).

Who may write is said by the committed lease and by nothing else. Records have places (term, sequence) without a gap,
so that a lost one is noticed and asked for (K-7.11); a record says which one its writer had before it, so that this
also holds over a change of writers. What a writer had signed and its successor never got is void.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Protocol

import attrs

from agent_world.crypto.hashing import verify_blob
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, require_valid, sign_record
from agent_world.distfs.manifest import manifest_size
from agent_world.distfs.paths import is_reserved, normalise
from agent_world.errors import (
    AgentWorldError,
    BlobHashMismatch,
    DecodeError,
    ErrorCode,
    Refused,
    RemoteError,
    UsageError,
)
from agent_world.wire import record
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import U64, Hash32, PublicKey, TimeMs, ValidatorId, WorldId
from agent_world.wire.limits import I64_MAX, REPLICATION_BYTES_MAX
from agent_world.wire.replication import FileReplicationRecord
from agent_world.wire.signed import Signed

Place = tuple[int, int]
"""(term, sequence): where in the log a record stands; (0, 0) is before the first."""
BEFORE_FIRST: Final[Place] = (0, 0)

COMMITS: Final = "consensus/commits/"
"""Below it stand the committed blocks, by height."""
_COMMIT: Final = re.compile(rf"{COMMITS}([0-9]{{20}})")


@attrs.frozen(slots=True, kw_only=True)
class WriterLease:
    """Who may write as of a committed height, by the state after it."""

    height: U64
    holder_id: ValidatorId
    term: U64
    key: PublicKey
    """The holder's validator key at that height."""


@attrs.frozen(slots=True, kw_only=True)
class FileEntry:
    """One file of the index, or that there is none."""

    path: str
    content: Cid | None
    """None: the file is removed."""
    size_bytes: U64
    updated_at_ms: TimeMs


@attrs.frozen(slots=True, kw_only=True)
class OpenedRecord:
    """A record whose form and signature were verified; whether its signer may write is another question."""

    record: FileReplicationRecord
    key: PublicKey
    data: bytes
    """The encoded Signed, as it travels and is kept."""

    @property
    def place(self) -> Place:
        """Where in the log it stands."""
        return (self.record.writer_epoch, self.record.sequence)

    @property
    def entry(self) -> FileEntry:
        """What it puts into the index."""
        said = self.record
        return FileEntry(
            path=said.path, content=said.content, size_bytes=said.size_bytes, updated_at_ms=said.updated_at_ms
        )


@attrs.frozen(slots=True, kw_only=True)
class SingleWriterReplicationGuard:
    """The last record accepted of one world."""

    world_id: WorldId
    writer_id: ValidatorId | None = None
    """None before the first record."""
    writer_epoch: U64 = U64(1)
    last_sequence: U64 = U64(0)

    @property
    def place(self) -> Place:
        """Of the last record."""
        return BEFORE_FIRST if self.writer_id is None else (self.writer_epoch, self.last_sequence)


@attrs.frozen(slots=True)
class Accepted:
    """The record is the next one; ``guard`` is what the guard becomes."""

    guard: SingleWriterReplicationGuard


@attrs.frozen(slots=True)
class Gap:
    """Records after ``after`` and up to ``up_to`` are missing: ask for them, then this one is welcome."""

    after: Place
    up_to: Place


@attrs.frozen(slots=True)
class Known:
    """It, or a later one of its term, was accepted before."""


@attrs.frozen(slots=True)
class Superseded:
    """Its term is over, or is another writer's."""

    term: U64
    writer_id: ValidatorId


Judgement = Accepted | Gap | Known | Superseded


def judge(guard: SingleWriterReplicationGuard, said: FileReplicationRecord) -> Judgement:
    """What the guard says to a record whose writer's lease was checked (``check_writer``)."""
    place = (said.writer_epoch, said.sequence)
    before = (said.prev_epoch, said.prev_sequence)
    if guard.writer_id is not None and said.writer_epoch <= guard.writer_epoch:
        if said.writer_epoch < guard.writer_epoch or said.writer_id != guard.writer_id:
            return Superseded(guard.writer_epoch, guard.writer_id)
        if place <= guard.place:
            return Known()
        if said.sequence != guard.last_sequence + 1:
            return Gap(guard.place, before)
    # A new term begins where its writer says that the log was: what is missing up to there exists.
    elif said.sequence != 1 or before > guard.place:
        return Gap(guard.place, before)
    return Accepted(
        attrs.evolve(guard, writer_id=said.writer_id, writer_epoch=said.writer_epoch, last_sequence=said.sequence)
    )


def validate_and_advance(
    guard: SingleWriterReplicationGuard, said: FileReplicationRecord
) -> SingleWriterReplicationGuard:
    """The guard after an accepted record.

    Raises Refused: ERR_UNAUTHORIZED (W9) for a superseded writer, ERR_STATE_MISMATCH (W10) for one that is known or
    has others missing before it.
    """
    judgement = judge(guard, said)
    if isinstance(judgement, Accepted):
        return judgement.guard
    if isinstance(judgement, Superseded):
        raise superseded(said, judgement.term, judgement.writer_id)
    # [IGNORE] W10: it is the next one after the last that is here.
    detail = "is here already" if isinstance(judgement, Known) else f"comes before {guard.place} is followed up"
    raise Refused(ErrorCode.STATE_MISMATCH, f"record {(said.writer_epoch, said.sequence)} {detail}", rule="W10")


def superseded(said: FileReplicationRecord, term: int, holder_id: ValidatorId | None) -> Refused:
    """What a writer is told whose term is over."""
    holder = "nobody" if holder_id is None else holder_id
    return Refused(
        ErrorCode.UNAUTHORIZED,
        f"{said.writer_id} writes under term {said.writer_epoch}, the current term is {term}, held by {holder}",
        rule="W9",
    )


def build_replication_record(
    guard: SingleWriterReplicationGuard, lease: WriterLease, entry: FileEntry
) -> FileReplicationRecord:
    """The next record of a writer under its lease, after whatever the guard has accepted last.

    Raises Refused: ERR_UNAUTHORIZED (W9) for a term that is over or another's, ERR_STATE_MISMATCH at the end of all
    sequences; RemoteError (W4, W13) for a path or a removal that is none.
    """
    check_path(entry.path)
    check_removal(entry.path, entry.content, entry.size_bytes)
    term, sequence = lease.term, 1
    if guard.writer_id is not None and term <= guard.writer_epoch:
        if term < guard.writer_epoch or lease.holder_id != guard.writer_id:
            raise Refused(
                ErrorCode.UNAUTHORIZED,
                f"term {term} of {lease.holder_id} is over: {guard.writer_id} has written under {guard.writer_epoch}",
                rule="W9",
            )
        sequence = guard.last_sequence + 1
    if sequence > I64_MAX or not 1 <= term <= I64_MAX:
        raise Refused(ErrorCode.STATE_MISMATCH, f"no record fits after {guard.place} under term {term}")
    prev_epoch, prev_sequence = guard.place
    return FileReplicationRecord(
        world_id=guard.world_id,
        writer_id=lease.holder_id,
        writer_epoch=term,
        sequence=U64(sequence),
        prev_epoch=U64(prev_epoch),
        prev_sequence=U64(prev_sequence),
        height=lease.height,
        path=entry.path,
        content=entry.content,
        size_bytes=entry.size_bytes,
        updated_at_ms=entry.updated_at_ms,
    )


def sign_replication_record(said: FileReplicationRecord, genesis_hash: Hash32, key: KeyPair) -> OpenedRecord:
    """A record as its writer lets it out."""
    data = sign_record(Domain.REPLICATION, genesis_hash, said, key)
    return OpenedRecord(record=said, key=key.public_key, data=data)


def open_record(data: bytes, world_id: WorldId, genesis_hash: Hash32) -> OpenedRecord:
    """A record of this world with its signature verified; raises RemoteError (W1 to W5, W13)."""
    # [REJECT] W1: a strict Signed of at most 2 KiB around a strict FileReplicationRecord.
    try:
        signed = record.from_bytes(Signed, data, size_max=REPLICATION_BYTES_MAX)
        said = record.from_bytes(FileReplicationRecord, signed.body, size_max=REPLICATION_BYTES_MAX)
    except DecodeError as error:
        raise RemoteError("W1", str(error)) from None
    # [REJECT] W2: it is of this world.
    if said.world_id != world_id:
        raise RemoteError("W2", f"world {said.world_id!r}")
    _check_place(said)
    check_path(said.path)
    check_removal(said.path, said.content, said.size_bytes)
    # [REJECT] W5: it is signed with ``key`` for the domain replication.
    require_valid(Domain.REPLICATION, genesis_hash, signed, "W5")
    return OpenedRecord(record=said, key=signed.key, data=data)


def _check_place(said: FileReplicationRecord) -> None:
    place, before = (said.writer_epoch, said.sequence), (said.prev_epoch, said.prev_sequence)
    # [REJECT] W3: term and sequence are from 1 to 2^63-1, and the record before it is the one with the sequence below
    # it, or, for sequence 1, one of an earlier term.
    in_range = 1 <= said.writer_epoch <= I64_MAX and 1 <= said.sequence <= I64_MAX
    follows = before == (place[0], place[1] - 1) if said.sequence > 1 else said.prev_epoch < said.writer_epoch
    if not in_range or not follows or (said.prev_epoch == 0) != (said.prev_sequence == 0):
        raise RemoteError("W3", f"record {place} after {before}")


def check_path(path: str) -> None:
    """Raise RemoteError (W4) unless a path is in normal form, and below ``consensus/commits/`` a height."""
    # [REJECT] W4: the path is in normal form; below consensus/commits/ it ends in a height from 1 as 20 digits.
    try:
        normal = normalise(path)
    except UsageError as error:
        raise RemoteError("W4", str(error)) from None
    if normal != path:
        raise RemoteError("W4", f"{path[:80]!r} is not in normal form, which is {normal[:80]!r}")
    if path.startswith(COMMITS) and not 1 <= (commit_height(path) or 0) <= I64_MAX:
        raise RemoteError("W4", f"{path[:80]!r} names no height")


def check_removal(path: str, content: Cid | None, size_bytes: int) -> None:
    """Raise RemoteError (W13) for a removal that states bytes or is of a commit."""
    # [REJECT] W13: a removal, whose content is null, has size_bytes 0, and its path is not below consensus/.
    if content is None and (size_bytes or is_reserved(path)):
        raise RemoteError("W13", f"a removal of {path[:80]!r} with {size_bytes} bytes")


def commit_path(height: int) -> str:
    """Where the block of a height stands."""
    return f"{COMMITS}{height:020}"


def commit_height(path: str) -> int | None:
    """The height whose block stands at a path; None for any other file."""
    found = _COMMIT.fullmatch(path)
    return None if found is None else int(found[1])


def check_writer(opened: OpenedRecord, lease: WriterLease | None) -> None:
    """Raise RemoteError (W7) unless the lease as of the record's height is the signer's; None: nobody holds it."""
    said = opened.record
    # [REJECT] W7: the state after ``height`` names the writer as holder of an active lease with this term, and the
    # signer as the validator's key.
    named = None if lease is None else (lease.height, lease.holder_id, lease.term, lease.key)
    if named != (said.height, said.writer_id, said.writer_epoch, opened.key):
        raise RemoteError("W7", f"term {said.writer_epoch} was not {said.writer_id}'s at height {said.height}")


def check_block(said: FileReplicationRecord, block_hash: Hash32 | None) -> None:
    """Raise RemoteError (W8) unless a commit names the block that is committed here; ``block_hash`` is its hash."""
    # [REJECT] W8: a commit's content is the raw CID of the encoded block that is committed at its height, which is
    # not above ``height``; any other content has the size that is stated.
    if block_hash is None or said.content != Cid(Codec.RAW, ContentHash(block_hash)):
        raise RemoteError("W8", f"{said.content} is not the block of {said.path}")


def check_content(said: FileReplicationRecord, data: bytes) -> None:
    """Raise RemoteError (W8) unless these are the bytes, or the manifest, that a record names; of a removal none."""
    if said.content is None:
        return
    try:
        verify_blob(data, said.content.digest)
    except BlobHashMismatch as error:
        raise RemoteError("W8", str(error)) from None
    file_size = manifest_size(said.content, data)
    size = len(data) if file_size is None else file_size
    if size != said.size_bytes:
        raise RemoteError("W8", f"{said.path} states {said.size_bytes} bytes, its content has {size}")


class ReplicaStore(Protocol):
    """Where accepted records go."""

    def guard(self) -> SingleWriterReplicationGuard:
        """As of the last accepted record."""
        ...

    def accept(self, opened: OpenedRecord, guard: SingleWriterReplicationGuard, data: bytes) -> None:
        """Store content, record, index row and the new guard as one; after an error nothing has changed."""
        ...


def apply_replication_record(
    store: ReplicaStore, opened: OpenedRecord, lease: WriterLease | None, data: bytes
) -> SingleWriterReplicationGuard:
    """Check everything, then store it all at once; ``data`` is the content, of a removal nothing. The guard now.

    Raises RemoteError (W7, W8), Refused (W9, W10), and HomeError of the disk; nothing has changed then.
    """
    check_writer(opened, lease)
    guard = validate_and_advance(store.guard(), opened.record)
    check_content(opened.record, data)
    store.accept(opened, guard, data)
    return guard


@attrs.frozen(slots=True)
class Replayed:
    """What came of several records."""

    applied: tuple[FileEntry, ...]
    stopped_by: AgentWorldError | None
    """Why the next one was not applied."""


def replay_replication_records(
    store: ReplicaStore, items: Iterable[tuple[OpenedRecord, WriterLease | None, bytes]]
) -> Replayed:
    """Apply (record, lease, content) in order; the first that fails ends it, and those before it stay applied."""
    applied: list[FileEntry] = []
    for opened, lease, data in items:
        try:
            apply_replication_record(store, opened, lease, data)
        except (RemoteError, Refused) as error:
            return Replayed(tuple(applied), error)
        applied.append(opened.entry)
    return Replayed(tuple(applied), None)

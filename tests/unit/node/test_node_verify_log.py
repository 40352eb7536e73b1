from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent_world.crypto.hashing import cid_of, hash32
from agent_world.distfs.replication import (
    FileEntry,
    WriterLease,
    build_replication_record,
    commit_path,
    sign_replication_record,
    validate_and_advance,
)
from agent_world.errors import ErrorCode, Refused
from agent_world.node.verify import Report, verify_home
from agent_world.store.file_index import FileIndex
from agent_world.store.replication import ReplicationStore
from agent_world.testing.ledger_chain import BLOCK_MS, VALIDATOR, LedgerChain
from agent_world.testing.node_swarm import WORLD_ID, make_key
from agent_world.wire.cid import Codec
from agent_world.wire.ids import U64, TimeMs
from agent_world.wire.lease import AcquireLease


def write(chain: LedgerChain, path: str, data: bytes | None, *, key: str = "", height: int = 1) -> None:
    store = ReplicationStore(chain.home, chain.blobs, WORLD_ID)
    signer = make_key(key) if key else chain.voter
    lease = WriterLease(height=U64(height), holder_id=VALIDATOR, term=U64(1), key=signer.public_key)
    content, data = (None, b"") if data is None else (cid_of(data, Codec.RAW), data)
    entry = FileEntry(path=path, content=content, size_bytes=U64(len(data)), updated_at_ms=TimeMs(0))
    said = build_replication_record(store.guard(), lease, entry)
    opened = sign_replication_record(said, chain.genesis_hash, signer)
    store.accept(opened, validate_and_advance(store.guard(), said), data)


@pytest.fixture
def chain(empty_chain: LedgerChain) -> LedgerChain:
    """Three heights; the lease is held from the first on; the log has two of the blocks and a file, twice."""
    empty_chain.do(empty_chain.voter, AcquireLease(ttl_ms=U64(2 * BLOCK_MS)))
    empty_chain.commit()
    empty_chain.commit()
    for height in (1, 2):
        stored = empty_chain.ledger.stored(height)
        assert stored is not None
        write(empty_chain, commit_path(height), stored.block, height=2)
    write(empty_chain, "file", b"old")
    write(empty_chain, "file", b"new")
    return empty_chain


def verified(chain: LedgerChain) -> Report:
    chain.close()
    return verify_home(chain.path)


def test_a_sound_log(chain: LedgerChain) -> None:
    report = verified(chain)
    assert (report.problems, report.height) == ([], 3)


def test_a_file_of_its_own_that_waits_is_no_finding(chain: LedgerChain) -> None:
    entry = FileEntry(path="file", content=cid_of(b"3", Codec.RAW), size_bytes=U64(1), updated_at_ms=TimeMs(0))
    index, store = FileIndex(chain.home, chain.blobs), ReplicationStore(chain.home, chain.blobs, WORLD_ID)
    index.written = lambda _file: store.queue_file(entry)
    index.check_writer = lambda _path: None
    index.write_file("file", b"3")
    assert verified(chain).ok


def test_a_removal_of_its_own_that_waits_is_no_finding(chain: LedgerChain) -> None:
    index, store = FileIndex(chain.home, chain.blobs), ReplicationStore(chain.home, chain.blobs, WORLD_ID)
    index.removed = lambda file, at_ms: store.queue_file(
        FileEntry(path=file.path, content=None, size_bytes=U64(0), updated_at_ms=at_ms)
    )
    index.check_writer = lambda _path: None
    assert index.delete_file("file")
    assert verified(chain).ok


def test_a_removal_that_was_applied_is_sound_and_leaves_the_path_to_the_nodes_user(chain: LedgerChain) -> None:
    write(chain, "file", None)
    index = FileIndex(chain.home, chain.blobs)
    assert index.stat_file("file") is None
    index.write_file("file", b"my own")
    index.write_file("other", b"my own")
    assert verified(chain).ok


def test_what_a_node_had_on_its_own_gives_way_to_the_record(chain: LedgerChain) -> None:
    index = FileIndex(chain.home, chain.blobs)
    index.write_file("x", b"my own")
    write(chain, "x", b"the writer's")
    assert index.read_file("x") == b"the writer's"
    assert verified(chain).ok


def test_nobody_but_the_writer_changes_what_the_log_has(chain: LedgerChain) -> None:
    index = FileIndex(chain.home, chain.blobs)
    changes: list[Callable[[], object]] = [
        lambda: index.write_file("file", b"my own"),
        lambda: index.put_content("file", None, cid_of(b"new", Codec.RAW), 3),
        lambda: index.delete_file("file"),
        lambda: index.replace(lambda: iter(())),
        lambda: index.check("file", None),
    ]
    index.write_file("own", b"my own")
    for change in changes:
        with pytest.raises(Refused, match="lease acquire") as caught:
            change()
        assert (caught.value.code, caught.value.rule) == (ErrorCode.UNAUTHORIZED, "W9")
    index.copy("file", "copied")
    assert [file.path for file in index.list_files()] == ["copied", "file", "own"]
    assert verified(chain).ok


def test_a_log_that_goes_on_meanwhile_is_no_finding(chain: LedgerChain, monkeypatch: pytest.MonkeyPatch) -> None:
    read = ReplicationStore.records_after

    def while_it_grows(store: ReplicationStore, place: tuple[int, int], count_max: int = 256) -> tuple[bytes, ...]:
        found = read(store, place, count_max)
        if not found:
            write(chain, "file", b"%d" % store.guard().last_sequence)
        return found

    monkeypatch.setattr(ReplicationStore, "records_after", while_it_grows)
    assert verify_home(chain.path).ok


def execute(sql: str) -> Callable[[LedgerChain], None]:
    def damage(chain: LedgerChain) -> None:
        assert chain.home.database.execute(sql) > 0

    return damage


def drop_content(chain: LedgerChain) -> None:
    assert chain.blobs.delete(cid_of(b"new", Codec.RAW).digest)


def keep_removed(chain: LedgerChain) -> None:
    rows = chain.home.database.query("SELECT * FROM file_index WHERE path = 'file'")
    write(chain, "file", None)
    chain.home.database.execute("INSERT INTO file_index VALUES (?, ?, ?, ?)", rows[0])


LAST = "(SELECT max(position) FROM replication_records)"


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (lambda chain: write(chain, "x", b"x", key="stranger"), "record (1, 5): W7"),
        (lambda chain: write(chain, "x", b"x", height=3), "record (1, 5): W7"),  # the lease had run out
        (lambda chain: write(chain, commit_path(2), b"another block", height=2), "record (1, 5): W8"),
        (lambda chain: write(chain, commit_path(3), b"too early", height=2), "record (1, 5): W8"),
        (drop_content, "record (1, 4): no blob"),
        (execute("UPDATE replication_records SET record = x'00' WHERE sequence = 3"), "the record after (1, 2): W1"),
        (execute("DELETE FROM replication_records WHERE sequence = 3"), "record (1, 4): ERR_STATE_MISMATCH"),
        (execute(f"DELETE FROM replication_records WHERE position = {LAST}"), "the log ends at (1, 3), the guard says"),
        (execute("UPDATE replication_guard SET last_sequence = 3"), "the log ends at (1, 4), the guard says (1, 3)"),
        (execute("DELETE FROM file_index WHERE path = 'file'"), "the index has None at file"),
        (keep_removed, "the index still has"),
    ],
)
def test_damage_is_found(chain: LedgerChain, damage: Callable[[LedgerChain], None], finding: str) -> None:
    damage(chain)
    problems = [problem for problem in verified(chain).problems if problem.what == "record log"]
    assert any(problem.detail.startswith(finding) for problem in problems), problems


def test_the_log_of_another_world_is_none(chain: LedgerChain, tmp_path: Path) -> None:
    entry = FileEntry(path="x", content=cid_of(b"x", Codec.RAW), size_bytes=U64(1), updated_at_ms=TimeMs(0))
    store = ReplicationStore(chain.home, chain.blobs, WORLD_ID)
    lease = WriterLease(height=U64(1), holder_id=VALIDATOR, term=U64(1), key=chain.voter.public_key)
    said = build_replication_record(store.guard(), lease, entry)
    opened = sign_replication_record(said, hash32(b"other"), chain.voter)
    store.accept(opened, validate_and_advance(store.guard(), said), b"x")
    assert any("W5" in problem.detail for problem in verified(chain).problems)

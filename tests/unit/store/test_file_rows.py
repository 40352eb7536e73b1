"""Rows of the index, and whether a path is the record log's."""

from __future__ import annotations

import attrs
import pytest

from agent_world.crypto.hashing import cid_of
from agent_world.distfs.replication import validate_and_advance
from agent_world.errors import HomeError
from agent_world.store.blobs import LocalCasStore
from agent_world.store.file_rows import file_at, file_of, is_logged, put_file, record_of, remove_file
from agent_world.store.home import Home
from agent_world.store.replication import ReplicationStore
from agent_world.testing.record_log import WORLD, A, entry, removal, written
from agent_world.wire.cid import Codec
from agent_world.wire.file_index import FileMetadata
from agent_world.wire.ids import U64, TimeMs

FILE = FileMetadata(path="a/b", content=cid_of(b"1", Codec.RAW), size_bytes=U64(1), updated_at_ms=TimeMs(5))


def test_a_row_is_put_over_another_and_taken_away(home: Home) -> None:
    database = home.database
    assert file_at(database, "a/b") is None
    other = attrs.evolve(FILE, content=cid_of(b"22", Codec.RAW), size_bytes=U64(2), updated_at_ms=TimeMs(6))
    for file in (FILE, other):
        put_file(database, file)
        assert file_at(database, "a/b") == file
    assert [remove_file(database, "a/b"), remove_file(database, "a/b")] == [True, False]


def test_a_damaged_row_or_record_is_named() -> None:
    with pytest.raises(HomeError, match="index is damaged"):
        file_of(("a", b"no cid", 1, 1))
    with pytest.raises(HomeError, match="log is damaged"):
        record_of(b"no record")


def test_a_path_is_the_logs_from_the_outbox_on_until_it_is_removed(home: Home) -> None:
    store = ReplicationStore(home, LocalCasStore(home), WORLD)
    assert not is_logged(home.database, "file")
    store.queue_file(entry("file"))
    assert is_logged(home.database, "file")
    position = store.outgoing(1)[0].position
    opened = written(store.guard(), A, 1, "file")
    store.accept(opened, validate_and_advance(store.guard(), opened.record), b"data", published=position)
    assert is_logged(home.database, "file")
    assert not is_logged(home.database, "fil")
    gone = removal(store.guard(), A, 1, "file")
    store.accept(gone, validate_and_advance(store.guard(), gone.record), b"")
    assert not is_logged(home.database, "file")

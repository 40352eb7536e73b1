from __future__ import annotations

from random import Random

import pytest

from agent_world.errors import FileConflict
from agent_world.store.blobs import LocalCasStore
from agent_world.store.file_index import FileIndex
from agent_world.store.file_update import Backoff, update_file
from agent_world.store.home import Home


@pytest.fixture
def index(home: Home) -> FileIndex:
    return FileIndex(home, LocalCasStore(home))


def test_a_change_is_made_again_on_what_another_has_written(index: FileIndex) -> None:
    seen: list[bytes | None] = []
    slept: list[float] = []

    def change(data: bytes | None) -> bytes:
        seen.append(data)
        if len(seen) <= 3:
            index.write_file("f", b"other %d" % len(seen))
        return b"mine after " + (data or b"nothing")

    file, conflicts = update_file(index, "f", change, slept.append, Random(1), Backoff(first_s=1.0, longest_s=3.0))
    assert conflicts == 3
    assert seen == [None, b"other 1", b"other 2", b"other 3"]
    assert index.read_file("f") == b"mine after other 3"
    assert file == index.stat_file("f")
    assert len(slept) == 3
    assert all(0 <= pause <= bound for pause, bound in zip(slept, (2.0, 3.0, 3.0), strict=True))


def test_it_gives_up_after_the_last_try(index: FileIndex) -> None:
    tries = 0

    def change(_data: bytes | None) -> bytes:
        nonlocal tries
        tries += 1
        index.write_file("f", b"other %d" % tries)
        return b"mine"

    with pytest.raises(FileConflict):
        update_file(index, "f", change, lambda _s: None, Random(1), Backoff(tries=4))
    assert (tries, index.read_file("f")) == (4, b"other 4")

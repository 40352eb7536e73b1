"""How large a guard becomes, and what it does on a disk that is full."""

from __future__ import annotations

import errno
import os

import attrs
import pytest
from guard_requests import BLOCK, OTHER, opened, reopened, vote

from agent_world.consensus.guard import GUARD_ENTRIES_MAX, GUARD_HEIGHTS_MAX
from agent_world.consensus.guard_records import SignRequest, ValidValue
from agent_world.errors import HomeError, NotSafe
from agent_world.store import guard_log
from agent_world.store.guard import GUARD_STEPS, GuardStore
from agent_world.store.home import Home
from agent_world.wire.consensus import Step
from agent_world.wire.ids import U32

# --- bounds ----------------------------------------------------------------------------------------------------------


def test_old_heights_are_pruned_and_the_log_rewritten(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_log, "COMPACT_BYTES", 4_000)
    sizes = []
    with opened(home) as store:
        for height in range(1, 60):
            store.permit(vote(height))
            signed = store.permit(vote(height, step=Step.PRECOMMIT))
            sizes.append(home.files.guard_log.stat().st_size)
        state = store.load()
    assert max(sizes) < 8_000
    assert sizes != sorted(sizes)
    with opened(home) as store:
        assert store.load() == state
        assert store.disagreement == ""
        assert {entry.height for entry in state.entries} == {56, 57, 58, 59}
        assert store.permit(vote(59, step=Step.PRECOMMIT)) == signed


def test_ten_thousand_heights_take_no_more_room_than_a_hundred(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """With votes at most heights, long heights, catch-ups and restarts; the disk is a fast one."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(guard_log, "COMPACT_BYTES", 20_000)
    files = home.files
    largest: dict[str, int] = {}
    rows_max = 0

    def opened_fast(height: int) -> GuardStore:
        store = opened(home, committed_height=height)
        store._database._database.execute("PRAGMA synchronous = OFF")
        return store

    store = opened_fast(0)
    for height in range(1, 10_001):
        if height % 10 == 9:
            store.raise_floor(height)
        else:
            for round_ in range(60 if height % 1_000 == 500 else 1):
                signed = store.permit(vote(height, round_))
        if height % 250 == 0:
            rows = store._database._database.query("SELECT count(*) FROM records")[0][0]
            rows_max = max(rows_max, rows)
            assert rows <= len(store.load().entries) <= GUARD_ENTRIES_MAX
            for path in (files.guard_db, files.guard_db.with_name("guard.db-wal"), files.guard_log):
                largest[path.name] = max(largest.get(path.name, 0), path.stat().st_size)
        if height % 2_500 == 0:
            state = store.load()
            store.close()
            store = opened_fast(height)
            assert (store.load(), store.disagreement) == (state, "")
    assert largest["guard.log"] < 60_000
    assert largest["guard.db"] < 200_000
    assert largest["guard.db-wal"] < 8_000_000  # SQLite folds it into the file from 1,000 pages on
    assert {entry.height for entry in store.load().entries} == set(range(10_001 - GUARD_HEIGHTS_MAX - 1, 10_001)) - {
        9_999
    }
    assert store.permit(vote(10_000)) == signed
    store.close()


def test_a_crash_while_the_log_is_written_anew(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is whole then, and the log is the old one or the new one."""
    store = opened(home)
    store.permit(vote(1))
    with monkeypatch.context() as patch:
        patch.setattr(guard_log.GuardLog, "is_long", True)
        patch.setattr(guard_log, "replace_file", refuse)
        with pytest.raises(HomeError, match="space"):
            store.permit(vote(2))
    with pytest.raises(NotSafe):
        store.permit(vote(3))
    store.close()
    with opened(home) as store:
        assert (store.load().height, store.disagreement) == (2, "")
        with pytest.raises(NotSafe):
            store.permit(vote(2, block=OTHER))


def refuse(*_arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


# --- the disk --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", GUARD_STEPS)
def test_a_disk_that_is_full_at_any_step_of_a_permit(home: Home, step: str) -> None:
    def full(at: str) -> None:
        if at == step:
            raise HomeError("the disk is full")

    reopened(home, vote(1))
    with opened(home, fault=full) as store:
        with pytest.raises(HomeError):
            store.permit(vote(2))
        for request in (vote(2), vote(2, block=OTHER), vote(3)):
            with pytest.raises(NotSafe):
                store.permit(request)
    with opened(home) as store:
        # The log had it, so it counts as signed although it never left.
        assert (store.load().height, store.load().watching, store.disagreement) == (2, False, "")
        with pytest.raises(NotSafe):
            store.permit(vote(2, block=OTHER))
        store.permit(vote(2))


@pytest.mark.parametrize("written", [0, 1, 40])
def test_a_log_that_takes_only_part_of_a_record(home: Home, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    real_write = os.write

    def write(descriptor: int, data: bytes) -> int:
        if written == 0:
            refuse()
        return real_write(descriptor, data[:written])

    state = reopened(home, vote(1))
    with opened(home) as store:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            with pytest.raises(HomeError, match="space"):
                store.permit(vote(2))
        with pytest.raises(NotSafe):
            store.permit(vote(2))
    with opened(home) as store:
        assert (store.load(), store.disagreement) == (state, "")
        store.permit(vote(2, block=OTHER))  # the first was in neither file and never left


def test_a_database_that_refuses_to_grow(home: Home) -> None:
    reopened(home, vote(1))
    with opened(home) as store:
        pages = store._database._database.query("PRAGMA page_count")[0][0]
        store._database._database.query(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(HomeError, match="free space"):
            sign_until_full(store)
        refused = store.load().height + 1
        with pytest.raises(NotSafe):
            store.permit(vote(refused, block=OTHER))
    with opened(home) as store:
        assert (store.load().height, store.load().watching) == (refused, False)
        with pytest.raises(NotSafe):
            store.permit(vote(refused, block=OTHER))


def sign_until_full(store: GuardStore) -> None:
    for height in range(2, 200):
        store.permit(large_vote(height))


def large_vote(height: int) -> SignRequest:
    """With a valid value that takes pages of its own."""
    value = ValidValue(round=U32(0), block_hash=BLOCK, block=b"b" * 4_000, actions=(), proof=(b"p" * 1_000,) * height)
    return attrs.evolve(vote(height), valid=value)

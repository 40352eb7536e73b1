"""What a power cut can take of the guard's files, and that no vote that was sent can be contradicted after it."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from guard_requests import GENESIS, KEY, OTHER, opened, reopened, vote

from agent_world.errors import NotSafe
from agent_world.store import guard_log
from agent_world.store.guard import GUARD_STEPS
from agent_world.store.guard_database import GuardDatabase
from agent_world.store.home import Home


class PowerCuts:
    """Knows what of guard.log is on the disk: what it held at its last fsync. Of guard.db a cut may also take what
    SQLite has only in its write-ahead log, where nothing says when that was synced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = b""
        self._real = os.fsync
        monkeypatch.setattr("os.fsync", self._fsync)

    def _fsync(self, descriptor: int) -> None:
        self._real(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.name == "guard.log":
            self.log = path.read_bytes()

    def cut(self, home: Home, target: Path, *, with_wal: bool) -> Path:
        """The home as it is after a power cut now."""
        shutil.copytree(home.files.path, target, ignore=shutil.ignore_patterns("*-shm" if with_wal else "guard.db-*"))
        (target / home.files.guard_log.name).write_bytes(self.log)
        return target


def test_a_start_makes_durable_what_a_killed_process_has_only_written(
    home: Home, tmp_path: Path, crash_images: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signature of such a record is sent by the start, and may be contradicted after a power cut if it is lost."""
    power = PowerCuts(monkeypatch)
    with opened(home) as store:
        store.permit(vote(1))
    before = power.log
    home.close()
    with Home.open(home.files.path, GENESIS) as again, opened(again, fault=crash_images) as store:
        store.permit(vote(2))
    images: dict[str, Path] = crash_images.taken  # type: ignore[attr-defined]
    assert tuple(images) == GUARD_STEPS
    for step, image in images.items():
        power.log = before
        with Home.open(image, GENESIS) as killed, opened(killed) as store:
            assert store.load().height == 2
            # Only what the killed process has committed was never synced; what the start commits is.
            left = power.cut(killed, tmp_path / f"cut-{step}", with_wal=step != GUARD_STEPS[-1])
        with Home.open(left, GENESIS) as after:
            read = guard_log.read(after.files.guard_log, GENESIS, KEY.public_key)
            assert [made.sequence for made in read.records] == [1, 2], f"the log after {step}"
            database = GuardDatabase.open(after.files.guard_db, GENESIS, KEY.public_key)
            assert database.read().state.height == 2, f"the database after {step}"
            database.close()


@pytest.mark.parametrize("left", [True, False])
def test_no_part_of_the_last_record_can_be_lost_so_that_a_sent_vote_may_be_contradicted(home: Home, left: bool) -> None:
    """Every run of 64-byte pieces of the log's last record that the disk may not have got, beside either database:
    the signature has ``left`` only if the database has the record."""
    reopened(home, vote(1))
    start, before = home.files.guard_log.stat().st_size, home.files.guard_db.read_bytes()
    reopened(home, vote(2))
    whole, after = home.files.guard_log.read_bytes(), home.files.guard_db.read_bytes()
    cuts = [*range(start, len(whole), 64), len(whole)]
    for lost_from, lost_to in itertools.combinations_with_replacement(cuts, 2):
        home.files.guard_db.write_bytes(after if left else before)
        home.files.guard_log.write_bytes(whole[:lost_from] + bytes(lost_to - lost_from) + whole[lost_to:])
        with opened(home) as store:
            if left or lost_from == lost_to:
                with pytest.raises(NotSafe):
                    store.permit(vote(2, block=OTHER))
            assert store.load().height >= 1
            if store.load().watching:
                with pytest.raises(NotSafe):
                    store.permit(vote(3))
                store.settle(2)
            store.permit(vote(3))

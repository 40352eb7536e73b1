"""What is left of a guard whose files were cut, changed, lost or are older than the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from guard_requests import GENESIS, KEY, OTHER, opened, reopened, vote

from agent_world.consensus.guard import GuardState
from agent_world.errors import GuardLost, HomeError, NotSafe
from agent_world.store import guard_log, schema
from agent_world.store.database import Database
from agent_world.store.home import Home
from agent_world.wire.consensus import Step

# --- the two files ---------------------------------------------------------------------------------------------------


def cut_log(home: Home, records: int) -> None:
    """Cut the last records off the log, as an older copy of it would be."""
    content = guard_log.read(home.files.guard_log, GENESIS, KEY.public_key)
    guard_log.GuardLog.rewrite(home.files.guard_log, GENESIS, KEY.public_key, content.records[:-records]).close()


def execute(home: Home, sql: str) -> None:
    database = Database.open(home.files.guard_db, schema.GUARD)
    database.execute(sql)
    database.close()


def test_a_log_cut_at_every_byte_of_its_last_record_loses_nothing(home: Home) -> None:
    state = reopened(home, vote(1), vote(2))
    size = home.files.guard_log.stat().st_size
    whole = home.files.guard_log.read_bytes()
    cut_log(home, 1)
    start = home.files.guard_log.stat().st_size
    for cut in range(start, size):
        home.files.guard_log.write_bytes(whole[:cut])
        with opened(home) as store:
            assert store.load() == state
            assert store.disagreement == ""
        assert home.files.guard_log.read_bytes() == whole


def test_a_torn_record_that_the_database_does_not_hold_may_have_been_lost_by_both(home: Home) -> None:
    """Either a crash tore it before it was handed out, or the database was cut as well: nothing tells which."""
    databases, starts = [], []
    for height in (1, 2, 3):
        reopened(home, vote(height))
        databases.append(home.files.guard_db.read_bytes())
        starts.append(home.files.guard_log.stat().st_size)
    whole = home.files.guard_log.read_bytes()
    cuts = {*range(starts[0], starts[2], 29), *starts[:2], starts[0] + 1, starts[1] - 1, starts[1] + 1, starts[2] - 1}
    for held, cut in itertools.product((1, 2), sorted(cuts)):
        home.files.guard_db.write_bytes(databases[held - 1])
        home.files.guard_log.write_bytes(whole[:cut])
        lacks = 2 if cut < starts[1] else 3
        is_explained = cut in starts or held == lacks
        with opened(home) as store:
            assert store.load().watching is not is_explained, (held, cut)
            if not is_explained:
                assert store.disagreement == "guard.log: its last record is torn and not in guard.db"
                assert store.load().sign_floor == store.load().height >= 1
                for height in (1, 2, 3):
                    with pytest.raises(NotSafe):
                        store.permit(vote(height, block=OTHER))


def test_a_whole_record_that_the_database_does_not_hold_was_never_handed_out(home: Home) -> None:
    reopened(home, vote(1))
    before = home.files.guard_db.read_bytes()
    reopened(home, vote(2))
    home.files.guard_db.write_bytes(before)
    with opened(home) as store:
        assert (store.load().height, store.load().watching) == (2, False)
        with pytest.raises(NotSafe):
            store.permit(vote(2, block=OTHER))


OLDER = {
    "log two records behind": lambda home: cut_log(home, 2),
    "database two records behind": lambda home: execute(home, "DELETE FROM records WHERE sequence >= 2"),
    "log gone": lambda home: home.files.guard_log.unlink(),
    "log empty": lambda home: home.files.guard_log.write_bytes(b""),
    "database gone": lambda home: home.files.guard_db.unlink(),
    "database empty": lambda home: home.files.guard_db.write_bytes(b""),
    "database scrambled": lambda home: home.files.guard_db.write_bytes(bytes(40_000)),
    "a row changed": lambda home: execute(home, "UPDATE records SET checksum = x'00' WHERE sequence = 2"),
    "the first row gone": lambda home: execute(home, "DELETE FROM records WHERE sequence = 2"),
    "log flipped": lambda home: flip(home.files.guard_log, guard_log.HEADER_BYTES + 20),
    "log header flipped": lambda home: flip(home.files.guard_log, 20),
}


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("what", OLDER)
def test_files_that_disagree_forbid_every_height_they_name(home: Home, what: str) -> None:
    reopened(home, vote(1), vote(2), vote(3), vote(3, step=Step.PRECOMMIT))
    OLDER[what](home)
    with opened(home, committed_height=2) as store:
        assert store.load().sign_floor == 3
        assert store.disagreement.startswith(("guard.db", "guard.log"))
        for height in (1, 2, 3, 4, 5):
            with pytest.raises(NotSafe):
                store.permit(vote(height, round_=5))
        state = store.load()
    with opened(home, committed_height=2) as store:
        assert store.load() == state
        assert store.disagreement == ""
        store.settle(3)
        signed = store.permit(vote(4))
        state = store.load()
    with opened(home, committed_height=2) as store:
        assert store.load() == state
        assert store.disagreement == ""
        assert store.permit(vote(4)) == signed


def test_a_damaged_file_is_kept_for_inspection(home: Home) -> None:
    reopened(home, vote(1))
    home.files.guard_db.write_bytes(b"scrambled")
    opened(home).close()
    flip(home.files.guard_log, guard_log.HEADER_BYTES - 1)
    opened(home).close()
    assert home.files.path.joinpath("guard.db.aside-1").read_bytes() == b"scrambled"
    # The log was sound when the database was not, and yet what it said then is kept too.
    assert {path.name for path in home.files.path.glob("guard.log.aside-*")} == {
        "guard.log.aside-1",
        "guard.log.aside-2",
    }


def test_two_damaged_files_are_refused_until_the_operator_gives_up_their_heights(home: Home) -> None:
    reopened(home, vote(1), vote(2), vote(5))
    flip(home.files.guard_log, guard_log.HEADER_BYTES + 20)
    execute(home, "UPDATE records SET checksum = x'00' WHERE sequence = 1")
    before = home.files.guard_log.read_bytes()
    with pytest.raises(HomeError, match="both files"):
        opened(home, committed_height=2)
    assert home.files.guard_log.read_bytes() == before
    with opened(home, committed_height=2, lost=True) as store:
        assert (store.load().sign_floor, store.load().watching) == (5, True)
        for height in (5, 6):
            with pytest.raises(NotSafe):
                store.permit(vote(height))


def test_both_files_scrambled_forbid_the_height_after_the_last_committed(home: Home) -> None:
    reopened(home, vote(1))
    for path in (home.files.guard_db, home.files.guard_log):
        path.write_bytes(b"scrambled")
    with pytest.raises(HomeError, match="both files"):
        opened(home, committed_height=7)
    with opened(home, committed_height=7, lost=True) as store:
        assert store.load().sign_floor == 8


def test_a_crash_while_the_guard_is_made(home: Home) -> None:
    """The log comes first; without the database, or with an empty one, there is nothing to be afraid of."""
    opened(home).close()
    home.database.execute("DELETE FROM guard_made")  # noted last
    for database in (None, b""):
        home.files.guard_db.unlink()
        if database is not None:
            home.files.guard_db.write_bytes(database)
        with opened(home) as store:
            assert (store.load().sign_floor, store.load().watching, store.disagreement) == (0, False, "")
            if database is not None:
                store.permit(vote(1))
        home.database.execute("DELETE FROM guard_made")


# --- cut and changed files -------------------------------------------------------------------------------------------


def contradicts(home: Home, before: GuardState, *, lost_ok: bool) -> str:
    """Open damaged files and try to contradict what was signed; what became of it."""
    try:
        store = opened(home, committed_height=2)
    except GuardLost:
        assert lost_ok
        return "lost"
    except HomeError:  # any other error fails the test
        return "refused"
    with store:
        for entry in before.entries:
            with pytest.raises(NotSafe):
                store.permit(vote(entry.height, int(entry.round), entry.step, OTHER))
        if store.load().watching:
            with pytest.raises(NotSafe):
                store.permit(vote(before.height + 1))
            store.settle(before.height)
        store.permit(vote(before.height + 1))
        return "watched" if store.disagreement else "whole"


@pytest.fixture
def images(home: Home) -> Callable[[], GuardState]:
    """Signs at two heights; calling it puts the sound files back."""
    state = reopened(home, vote(1), vote(2), vote(2, step=Step.PRECOMMIT))
    saved = {path: path.read_bytes() for path in (home.files.guard_db, home.files.guard_log)}

    def put_back() -> GuardState:
        for path in home.files.path.glob("guard.*"):
            path.unlink()
        for path, data in saved.items():
            path.write_bytes(data)
        return state

    return put_back


def test_a_database_cut_anywhere_in_its_last_page(home: Home, images: Callable[[], GuardState]) -> None:
    state = images()
    whole = home.files.guard_db.read_bytes()
    outcomes = set()
    for cut in range(len(whole) - 4_096, len(whole), 61):
        images()
        home.files.guard_db.write_bytes(whole[:cut])
        outcomes.add(contradicts(home, state, lost_ok=False))
    assert outcomes == {"watched"}


@pytest.mark.parametrize("name", ["guard.db", "guard.log"])
def test_flipped_bits_anywhere_in_one_file(home: Home, images: Callable[[], GuardState], name: str) -> None:
    state = images()
    path = home.files.path / name
    size = path.stat().st_size
    outcomes: dict[str, int] = {}
    for position in range(0, size, max(1, size // 150)):
        images()
        flip(path, position)
        outcome = contradicts(home, state, lost_ok=False)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    # "whole": unused parts of SQLite's pages. "refused": the identity of the file.
    assert outcomes["watched"] > 0
    assert set(outcomes) <= {"watched", "whole", "refused"}


def test_flipped_bits_in_both_files(home: Home, images: Callable[[], GuardState]) -> None:
    state = images()
    sizes = {name: (home.files.path / name).stat().st_size for name in ("guard.db", "guard.log")}
    outcomes = set()
    for step in range(60):
        images()
        for name, size in sizes.items():
            flip(home.files.path / name, step * 7_919 % size)
        outcomes.add(contradicts(home, state, lost_ok=True))
    assert "lost" in outcomes
    assert "watched" in outcomes


def test_both_files_cut_never_forget_silently(home: Home, images: Callable[[], GuardState]) -> None:
    """The log loses its last record and the database all that its last page held."""
    state = images()
    log, database = home.files.guard_log.read_bytes(), home.files.guard_db.read_bytes()
    for cut in range(1, len(log) - guard_log.HEADER_BYTES, 37):
        images()
        home.files.guard_log.write_bytes(log[:-cut])
        home.files.guard_db.write_bytes(database[: len(database) - 4_096])
        with opened(home, committed_height=2) as store:
            assert store.load().watching
            for height in (1, 2, 3):
                with pytest.raises(NotSafe):
                    store.permit(vote(height, 9))
    assert state.height == 2

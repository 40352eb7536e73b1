from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent_world.errors import ChainError, UsageError
from agent_world.node.replay_range import HeightReport, RangeReplay
from agent_world.store.home import Home
from agent_world.testing.ledger_chain import LedgerChain

Reports = tuple[str, list[HeightReport]]


@pytest.fixture
def home(grown_home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(grown_home, tmp_path / "copy"))


def replayed(home: Path, first: int, last: int | None = None) -> Reports:
    with Home.read_only(home) as opened:
        replay = RangeReplay(opened, first, last)
        reports = list(replay.heights())
        return replay.origin, reports


def change(home: Path, sql: str, *parameters: object) -> None:
    with closing(sqlite3.connect(home / "world.db")) as database, database:
        assert database.execute(sql, parameters).rowcount > 0


def state_root(home: Path, height: int) -> bytes:
    (report,) = replayed(home, height, height)[1]
    assert report.state_root is not None
    return bytes(report.state_root.digest)


def test_a_range_begins_at_the_stored_state_before_it(home: Path) -> None:
    origin, reports = replayed(home, 3, 4)
    assert origin == "the stored state of height 2"
    counts = [(report.height, report.actions, report.applied, report.rejected) for report in reports]
    assert counts == [(3, 2, 1, 1), (4, 2, 2, 0)]
    assert all(report.seconds > 0 and not report.differences for report in reports)
    origin, reports = replayed(home, 1)
    assert (origin, len(reports), sum(report.events for report in reports)) == ("genesis", 5, 6)


@pytest.mark.parametrize("damage", ["DELETE FROM blobs", "UPDATE blobs SET data = x'00'"])
def test_without_that_state_it_begins_at_genesis(home: Path, damage: str) -> None:
    expected = replayed(home, 4)[1]
    change(home, f"{damage} WHERE content_hash = ?", state_root(home, 3))
    progress: list[tuple[int, int]] = []
    with Home.read_only(home) as opened:
        replay = RangeReplay(opened, 4, 5, lambda done, total: progress.append((done, total)))
        reports = list(replay.heights())
    assert replay.origin.startswith("genesis (the state of height 3 is not here")
    assert [report.state_root for report in reports] == [report.state_root for report in expected]
    assert progress == [(height, 5) for height in (1, 2, 3, 4, 5)]


def test_a_node_that_turns_out_to_be_damaged_later_also_leads_to_genesis(home: Path) -> None:
    root = state_root(home, 3)
    with Home.read_only(home) as opened:
        nodes = {row[0] for row in opened.database.query("SELECT content_hash FROM blobs")} - {root}
    found = []
    for digest in sorted(nodes):
        copy = Path(shutil.copytree(home, home.with_name("one")))
        change(copy, "UPDATE blobs SET data = x'00' WHERE content_hash = ?", digest)
        origin, reports = replayed(copy, 4, 4)
        found += [origin] if "is damaged here" in origin and not reports[0].differences else []
        shutil.rmtree(copy)
    assert found, "at least one of them is read while height 4 is executed"


def test_the_first_difference_of_an_execution_ends_it(home: Path) -> None:
    change(home, "DELETE FROM blocks WHERE height = 4")
    _, reports = replayed(home, 2)
    assert [report.height for report in reports] == [2, 3, 4]
    (difference,) = reports[-1].differences
    assert (difference.what, reports[-1].state_root) == ("block", None)


def test_rows_that_differ_are_listed_and_do_not_end_it(home: Path) -> None:
    change(home, "UPDATE receipts SET position = 7 WHERE height = 3 AND position = 1")
    change(home, "UPDATE blocks SET last_event_id = last_event_id + 1 WHERE height = 1")
    _, reports = replayed(home, 1)
    found = {report.height: [item.what.split(" of ")[0] for item in report.differences] for report in reports}
    assert found == {1: ["event range"], 2: [], 3: ["receipt row"], 4: [], 5: []}


def test_heights_that_are_not_there(home: Path, tmp_path: Path) -> None:
    beyond = "committed heights 1 to 5"
    cases = ((0, 1, beyond), (3, 2, "2, is below the first, 3"), (1, 6, "5, and not 6"), (6, None, "5, and not 6"))
    for first, last, expected in cases:
        with pytest.raises(UsageError, match=expected):
            replayed(home, first, last)
    change(home, "DELETE FROM blocks WHERE height < 3")
    with pytest.raises(ChainError, match="height 1: block"):
        replayed(home, 3)
    assert replayed(home, 4)[0] == "the stored state of height 3"
    with LedgerChain(tmp_path / "new"):
        pass
    with pytest.raises(UsageError, match="no height is committed"):
        replayed(tmp_path / "new", 1)

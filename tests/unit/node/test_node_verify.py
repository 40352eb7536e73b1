from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agent_world.crypto.hashing import content_hash, hash32
from agent_world.errors import HomeError
from agent_world.node.verify import Report, verify_home
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.stack_actions import register

HEIGHT = 5


@pytest.fixture
def home(grown_home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(grown_home, tmp_path / "copy"))


@pytest.fixture
def change(home: Path) -> Callable[..., int]:
    """Run a statement in the copy, as damage would: without the triggers and checks of the schema."""

    def run(sql: str, *parameters: object) -> int:
        with closing(sqlite3.connect(home / "world.db")) as database, database:
            database.execute("PRAGMA ignore_check_constraints = ON")
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                database.execute(f"DROP TRIGGER {name}")
            return database.execute(sql, parameters).rowcount

    return run


def rows(home: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{home / 'world.db'}?mode=ro", uri=True)) as database:
        return database.execute(sql).fetchall()


def findings(report: Report) -> str:
    return "\n".join(f"{problem.height}: {problem.what}: {problem.detail}" for problem in report.problems)


def test_an_untouched_home_is_sound(home: Path) -> None:
    done: list[tuple[int, int]] = []
    report = verify_home(home, lambda height, total: done.append((height, total)), watch_height=3)
    assert report.ok, findings(report)
    assert (report.height, report.stored_height, report.actions) == (HEIGHT, HEIGHT, 7)
    assert report.content_missing == 1
    assert report.held == report.reachable - 1
    assert done == [(height, HEIGHT) for height in range(1, HEIGHT + 1)]
    assert report.watched_root is not None
    assert report.watched_root != report.state_root


def test_what_is_committed_meanwhile_is_no_damage(tmp_path: Path) -> None:
    with LedgerChain(tmp_path / "home") as chain:
        chain.do(chain.authority, register("alice"))

        def go_on(_height: int, _total: int) -> None:
            chain.do(chain.authority, register("bob"), register("carol"))

        report = verify_home(chain.path, go_on)
        assert report.ok, findings(report)
        assert (report.height, report.stored_height, chain.ledger.height) == (1, 1, 2)
        assert verify_home(chain.path).ok


def test_a_home_of_genesis_only_is_sound(tmp_path: Path) -> None:
    with LedgerChain(tmp_path / "home"):
        pass
    report = verify_home(tmp_path / "home")
    assert report.ok, findings(report)
    assert (report.height, report.actions) == (0, 0)


def test_verifying_writes_nothing(home: Path) -> None:
    before = {path: path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}
    assert verify_home(home).ok
    after = {path: path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}
    assert {path: after[path] for path in before} == before


def flipped(value: object) -> object:
    """The value with one bit of it changed."""
    if isinstance(value, bytes):
        middle = len(value) // 2
        return value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :]
    assert isinstance(value, int)
    return value ^ 64


BLOCK_COLUMNS = ["block_hash", "block", "certificate", "certificate_hash", "first_event_id", "last_event_id"]


@pytest.mark.parametrize("height", [1, 3, 4])
@pytest.mark.parametrize("column", BLOCK_COLUMNS)
def test_one_bit_of_any_column_of_a_block_is_found(
    home: Path, change: Callable[..., int], column: str, height: int
) -> None:
    ((value,),) = rows(home, f"SELECT {column} FROM blocks WHERE height = {height}")
    assert change(f"UPDATE blocks SET {column} = ? WHERE height = ?", flipped(value), height) == 1
    report = verify_home(home)
    assert not report.ok
    assert height in {problem.height for problem in report.problems}, findings(report)


@pytest.mark.parametrize("height", [1, 4, HEIGHT])
def test_another_height_in_a_block_row_is_found(home: Path, change: Callable[..., int], height: int) -> None:
    change("UPDATE blocks SET height = ? WHERE height = ?", height + 64, height)
    report = verify_home(home)
    assert not report.ok
    assert {height, height + 64, HEIGHT} & {problem.height for problem in report.problems}, findings(report)


@pytest.mark.parametrize("height", [1, 3, HEIGHT])
def test_a_block_that_is_gone_is_found(home: Path, change: Callable[..., int], height: int) -> None:
    change("DELETE FROM blocks WHERE height = ?", height)
    report = verify_home(home)
    assert height in {problem.height for problem in report.problems}, findings(report)


def test_a_block_replaced_by_another_sound_looking_one_is_found(home: Path, change: Callable[..., int]) -> None:
    ((block, certificate),) = rows(home, "SELECT block, certificate FROM blocks WHERE height = 2")
    assert isinstance(block, bytes)
    assert isinstance(certificate, bytes)
    change(
        "UPDATE blocks SET block = ?, block_hash = ?, certificate = ?, certificate_hash = ? WHERE height = 3",
        block, bytes(32), certificate, hash32(certificate),
    )  # fmt: skip
    assert 3 in {problem.height for problem in verify_home(home).problems}


@pytest.mark.parametrize("column", ["base_height", "height", "block_hash"])
def test_one_bit_of_the_head_is_found(home: Path, change: Callable[..., int], column: str) -> None:
    ((value,),) = rows(home, f"SELECT {column} FROM chain_head")
    change(f"UPDATE chain_head SET {column} = ?", flipped(value))
    report = verify_home(home)
    assert not report.ok, column


def test_a_head_that_is_gone_is_found(home: Path, change: Callable[..., int]) -> None:
    change("DELETE FROM chain_head")
    report = verify_home(home)
    assert not report.ok


def receipts(home: Path) -> list[tuple[object, ...]]:
    return rows(home, "SELECT action_id, height, position FROM receipts ORDER BY height, position")


@pytest.mark.parametrize("index", range(7))
@pytest.mark.parametrize("column", ["action_id", "height", "position"])
def test_one_bit_of_any_receipt_row_is_found(home: Path, change: Callable[..., int], index: int, column: str) -> None:
    row = dict(zip(("action_id", "height", "position"), receipts(home)[index], strict=True))
    change(f"UPDATE receipts SET {column} = ? WHERE action_id = ?", flipped(row[column]), row["action_id"])
    report = verify_home(home)
    assert row["height"] in {problem.height for problem in report.problems}, findings(report)


def test_a_receipt_row_too_many_or_too_few_is_found(home: Path, change: Callable[..., int]) -> None:
    change("INSERT INTO receipts VALUES (?, 2, 9)", bytes(32))
    assert "receipt rows" in findings(verify_home(home))
    change("DELETE FROM receipts WHERE position = 9")
    change("DELETE FROM receipts WHERE height = 1 AND position = 0")
    assert 1 in {problem.height for problem in verify_home(home).problems}


def test_one_bit_of_any_blob_is_found(home: Path, change: Callable[..., int]) -> None:
    blobs = rows(home, "SELECT content_hash, data FROM blobs")
    assert len(blobs) > 20
    for digest, data in blobs:
        if data in (None, b""):
            continue
        change("UPDATE blobs SET data = ? WHERE content_hash = ?", flipped(data), digest)
        report = verify_home(home)
        assert isinstance(digest, bytes)
        assert digest.hex() in findings(report), digest.hex()
        named = {problem.height for problem in report.problems if digest.hex() in problem.detail}
        assert named <= set(range(HEIGHT + 1)), findings(report)
        change("UPDATE blobs SET data = ? WHERE content_hash = ?", data, digest)
    assert verify_home(home).ok


def test_any_blob_that_is_gone_is_found(home: Path, change: Callable[..., int]) -> None:
    held_for_others = content_hash(b"content held here")
    for digest, size_bytes, data in rows(home, "SELECT content_hash, size_bytes, data FROM blobs"):
        change("DELETE FROM blobs WHERE content_hash = ?", digest)
        report = verify_home(home)
        if digest == held_for_others:
            assert report.ok, "content may be elsewhere"
            assert report.content_missing == 2
        else:
            assert isinstance(digest, bytes)
            assert digest.hex() in findings(report)
        change("INSERT INTO blobs VALUES (?, ?, ?, 0)", digest, size_bytes, data)
    assert verify_home(home).ok


def test_a_damaged_blob_that_nothing_refers_to_is_found(home: Path, change: Callable[..., int]) -> None:
    change("INSERT INTO blobs VALUES (?, 3, ?, 0)", bytes(32), b"odd")
    (problem,) = verify_home(home).problems
    assert problem.height is None
    assert "no verified block refers to it" in problem.detail


def test_a_damaged_file_of_a_large_blob_is_found(tmp_path: Path) -> None:
    with LedgerChain(tmp_path / "home") as chain:
        chain.commit()
        large = chain.blobs.put(b"x" * 100_000)
    file = next(path for path in (tmp_path / "home" / "blobs").rglob("*") if path.is_file())
    data = bytearray(file.read_bytes())
    data[50_000] ^= 1
    file.write_bytes(data)
    assert large.hex() in findings(verify_home(tmp_path / "home"))


def test_another_genesis_is_found(home: Path) -> None:
    text = (home / "genesis.toml").read_text()
    (home / "genesis.toml").write_text(text.replace("epoch_length_slots = 32", "epoch_length_slots = 33"))
    (problem,) = verify_home(home).problems
    assert problem.what == "genesis.toml"


def test_a_certificate_of_nobody_is_found(tmp_path: Path) -> None:
    from agent_world.testing.stack import make_key

    with LedgerChain(tmp_path / "home") as chain:
        chain.commit()
        chain.voter = make_key("an impostor")
        chain.commit()
    report = verify_home(tmp_path / "home")
    assert (report.height, report.problems[0].height, report.problems[0].what) == (1, 2, "certificate")


@pytest.mark.parametrize("name", ["genesis.toml", "node.toml", "node.key", "world.db"])
def test_what_is_no_home_is_an_error_and_stays_as_it_is(home: Path, name: str) -> None:
    (home / name).unlink()
    with pytest.raises(HomeError, match="half made"):
        verify_home(home)
    assert not (home / name).exists()


def test_findings_are_listed_up_to_a_bound_and_counted_beyond() -> None:
    report = Report(world_id="w", genesis_hash=hash32(b""))
    for number in range(150):
        report.add(number, "what", "detail")
    assert (len(report.problems), report.problem_count, report.ok) == (100, 150, False)

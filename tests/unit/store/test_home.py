from __future__ import annotations

import errno
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import HomeError, StoreNotWritable, UsageError
from agent_world.store.home import SETTINGS_BYTES_MAX, Home, HomeLayout
from agent_world.testing.faulty_disk import FaultyDisk

GENESIS = hash32(b"genesis")
NODE_KEY = KeyPair(bytes(range(32)))
VALIDATOR_KEY = KeyPair(bytes(range(32, 64)))


def content_of(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_layout(tmp_path: Path) -> None:
    files = HomeLayout(tmp_path)
    names = {
        "node_toml": "node.toml", "genesis_toml": "genesis.toml", "node_key": "node.key", "blobs": "blobs",
        "validator_key": "validator.key", "world_db": "world.db", "guard_db": "guard.db", "guard_log": "guard.log",
        "quarantine": "quarantine", "control_socket": "control.sock", "lock": "lock",
    }  # fmt: skip
    assert {name: getattr(files, name) for name in names} == {name: tmp_path / file for name, file in names.items()}


def test_a_new_home_opens_with_what_it_was_made_of(home_path: Path) -> None:
    assert stat.S_IMODE(home_path.stat().st_mode) == 0o700
    for key in ("node.key", "validator.key", "world.db"):
        assert stat.S_IMODE((home_path / key).stat().st_mode) == 0o600
    with Home.open(home_path, GENESIS) as home:
        assert home.writable
        assert home.genesis_hash == GENESIS
        assert home.node_key().public_key == NODE_KEY.public_key
        validator_key = home.validator_key()
        assert validator_key is not None
        assert validator_key.public_key == VALIDATOR_KEY.public_key
        assert home.genesis_toml() == "world_id = 'w'\n"
        assert home.node_toml() == "[net]\n"


def test_a_home_without_a_validator(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "observer"
    Home.create(path, genesis_hash=GENESIS, genesis_toml="", node_toml="", node_key=NODE_KEY)
    with Home.open(path, GENESIS) as home:
        assert home.validator_key() is None


def test_create_takes_an_empty_directory_and_nothing_else(tmp_path: Path, make_home: Callable[[Path], Path]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    make_home(empty)
    before = content_of(empty)
    file = tmp_path / "file"
    file.write_text("mine")
    for taken in (empty, file):
        with pytest.raises(HomeError, match="not overwritten"):
            make_home(taken)
    assert content_of(empty) == before
    assert file.read_text() == "mine"


def test_a_home_that_could_not_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> None:
        raise HomeError("no")

    monkeypatch.setattr("agent_world.store.home.Database.create", broken)
    with pytest.raises(HomeError, match="no"):
        Home.create(tmp_path / "h", genesis_hash=GENESIS, genesis_toml="", node_toml="", node_key=NODE_KEY)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_a_home_is_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="there is no home"):
        Home.open(tmp_path / "absent", GENESIS)
    (tmp_path / "letter.txt").write_text("hello")
    with pytest.raises(HomeError, match="not a home"):
        Home.open(tmp_path, GENESIS)
    assert content_of(tmp_path) == {"letter.txt": b"hello"}


@pytest.mark.parametrize("name", ["genesis.toml", "node.toml", "node.key", "world.db"])
def test_a_half_made_home_says_what_is_missing(home_path: Path, name: str) -> None:
    (home_path / name).unlink()
    for opening in (lambda: Home.open(home_path, GENESIS), lambda: Home.read_only(home_path)):
        with pytest.raises(HomeError, match=f"half made: {name}"):
            opening()


def test_another_world_is_refused(home_path: Path) -> None:
    with pytest.raises(HomeError, match="another world"):
        Home.open(home_path, hash32(b"other"))
    with pytest.raises(HomeError, match="another world"):
        Home.read_only(home_path, hash32(b"other"))
    Home.open(home_path, GENESIS).close()


def test_a_newer_schema_is_refused(home_path: Path) -> None:
    connection = sqlite3.connect(home_path / "world.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(HomeError, match="newer agent-world"):
        Home.open(home_path, GENESIS)


@pytest.mark.parametrize("damage", [b"", b"not a database", None])
def test_a_damaged_database_is_refused_and_left_alone(home_path: Path, damage: bytes | None) -> None:
    file = home_path / "world.db"
    file.write_bytes(file.read_bytes()[:5000] if damage is None else damage)
    before = content_of(home_path)
    with pytest.raises(HomeError, match="restore the home"):
        Home.open(home_path, GENESIS)
    after = content_of(home_path)
    after.pop("lock")
    assert after == before
    file.unlink()


def test_one_process_at_a_time(home_path: Path) -> None:
    with Home.open(home_path, GENESIS):
        with pytest.raises(HomeError, match=r"in use by another process \(pid \d+\)"):
            Home.open(home_path, GENESIS)
        script = (
            "import sys, pathlib\nfrom agent_world.store.home import Home\nfrom agent_world.errors import HomeError\n"
            "try:\n    Home.open(pathlib.Path(sys.argv[1]), bytes.fromhex(sys.argv[2]))\n"
            "except HomeError as error:\n    print(error)\n"
        )
        ran = subprocess.run(
            [sys.executable, "-c", script, str(home_path), GENESIS.hex()], capture_output=True, text=True, check=True
        )
        assert "in use by another process" in ran.stdout
    Home.open(home_path, GENESIS).close()


def test_a_refused_opening_frees_the_lock(home_path: Path) -> None:
    with pytest.raises(HomeError):
        Home.open(home_path, hash32(b"other"))
    Home.open(home_path, GENESIS).close()


def test_reading_works_beside_a_running_node(home_path: Path) -> None:
    with Home.open(home_path, GENESIS):
        readers = [Home.read_only(home_path) for _ in range(3)]
        assert {reader.genesis_hash for reader in readers} == {GENESIS}
        assert not any(reader.writable for reader in readers)
        for reader in readers:
            reader.close()
            reader.close()


def test_reading_makes_no_lock(home_path: Path) -> None:
    Home.read_only(home_path).close()
    assert not (home_path / "lock").exists()


def test_settings_must_be_readable_text(home: Home) -> None:
    home.files.node_toml.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="cannot be read as text"):
        home.node_toml()
    home.files.node_toml.write_bytes(b"#" * (SETTINGS_BYTES_MAX + 1))
    with pytest.raises(UsageError, match="larger than"):
        home.node_toml()


def test_reading_leaves_a_home_at_rest_as_it_was(home_path: Path) -> None:
    before = content_of(home_path)
    Home.read_only(home_path).close()
    assert {name for name in content_of(home_path) if not name.startswith("world.db-")} == set(before)
    assert content_of(home_path)["world.db"] == before["world.db"]


def test_a_home_on_a_read_only_disk_can_be_read(home_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content_of(home_path)
    monkeypatch.setattr("os.access", lambda *_args, **_options: False)
    with Home.read_only(home_path) as home:
        assert home.database.query("SELECT count(*) FROM blocks") == [(0,)]
        assert content_of(home_path) == before


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_home_that_cannot_be_written_says_whose_fault_it_is_and_who_can_read_it(home_path: Path, number: int) -> None:
    disk = FaultyDisk(home_path)
    before = content_of(home_path)
    with disk.active():
        disk.break_after(0, number, lasting=True)
        with pytest.raises(StoreNotWritable, match=r"node inspect does not.*lock") as caught:
            Home.open(home_path, GENESIS)
        assert caught.value.exit_code == 74
        with Home.at_rest(home_path) as home:
            assert home.database.query("SELECT count(*) FROM blocks") == [(0,)]
    assert content_of(home_path) == before


@pytest.mark.parametrize("writes", range(0, 40, 3))
def test_a_home_is_made_whole_or_not_at_all_whatever_the_disk_refuses(
    tmp_path: Path, make_home: Callable[[Path], Path], writes: int
) -> None:
    disk = FaultyDisk(tmp_path)
    with disk.active():
        disk.break_after(writes, errno.ENOSPC, lasting=True)
        with pytest.raises(StoreNotWritable):
            make_home(tmp_path / "home")
        disk.mend()
        assert not (tmp_path / "home").exists()
        Home.open(make_home(tmp_path / "home"), GENESIS).close()

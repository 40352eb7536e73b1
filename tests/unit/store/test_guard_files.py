from __future__ import annotations

from pathlib import Path

import pytest

from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import HomeError
from agent_world.store import guard_files, keyfile
from agent_world.store.guard import GuardStore
from agent_world.store.home import Home

GENESIS = hash32(b"genesis")
OLD, NEW = KeyPair(bytes(range(32, 64))), KeyPair(bytes(32))


def public(key: KeyPair | None) -> bytes | None:
    return None if key is None else key.public_key


def test_the_home_notes_whose_guard_it_has(home: Home) -> None:
    assert guard_files.made_for(home) is None
    for key in (OLD, OLD, NEW):
        guard_files.note_made(home, key.public_key)
        assert guard_files.made_for(home) == key.public_key


def test_an_opened_guard_is_noted_also_one_that_was_copied_here(home: Home) -> None:
    GuardStore.open(home, OLD, committed_height=0).close()
    assert guard_files.made_for(home) == OLD.public_key
    home.database.execute("DELETE FROM guard_made")
    GuardStore.open(home, OLD, committed_height=0).close()
    assert guard_files.made_for(home) == OLD.public_key


def test_a_retired_guard_is_kept_whole(home: Home) -> None:
    GuardStore.open(home, OLD, committed_height=0).close()
    before = {name: (home.files.path / name).read_bytes() for name in ("guard.db", "guard.log")}
    home.files.guard_db.with_name("guard.db-wal").write_bytes(b"left by a crash")
    guard_files.retire_guard(home, 7)
    for name, data in before.items():
        assert (home.files.path / f"{name}.retired-7").read_bytes() == data
    assert (home.files.path / "guard.db.retired-7-wal").read_bytes() == b"left by a crash"
    assert not home.files.guard_db.exists()
    guard_files.retire_guard(home, 7)  # nothing is left to move


def test_what_a_crash_left_of_a_new_guard_does_not_take_the_place_of_the_old_one(home: Home) -> None:
    home.files.guard_log.write_bytes(b"old")
    guard_files.retire_guard(home, 7)
    home.files.guard_log.write_bytes(b"half of a new one")
    guard_files.retire_guard(home, 7)
    assert (home.files.path / "guard.log.retired-7").read_bytes() == b"old"
    assert (home.files.path / "guard.log.aside-1").read_bytes() == b"half of a new one"


def test_keys_are_exchanged_and_none_is_lost(home: Home) -> None:
    keyfile.write(home.files.validator_next_key, NEW)
    guard_files.exchange_key(home, 7)
    assert public(home.validator_key()) == NEW.public_key
    assert home.validator_next_key() is None
    assert public(keyfile.read(home.files.path / "validator.key.retired-7")) == OLD.public_key
    assert home.files.validator_key.stat().st_mode & 0o777 == 0o600


def test_an_exchange_that_was_broken_off_is_finished(home: Home) -> None:
    keyfile.write(home.files.validator_next_key, NEW)
    (home.files.path / "validator.key.retired-7").hardlink_to(home.files.validator_key)
    guard_files.exchange_key(home, 7)
    assert (public(home.validator_key()), home.validator_next_key()) == (NEW.public_key, None)


def test_what_cannot_be_moved_is_a_home_error(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HomeError, match="exchanged"):
        guard_files.exchange_key(home, 7)  # there is no next key
    assert public(home.validator_key()) == OLD.public_key

    def refuse(_self: Path, _target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    home.files.guard_log.write_bytes(b"old")
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(HomeError, match="moved away"):
        guard_files.retire_guard(home, 8)

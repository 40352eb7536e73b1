from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import GuardLost, HomeError
from agent_world.store import guard_files, keyfile
from agent_world.store.guard import GuardStore
from agent_world.store.home import Home
from agent_world.store.key_rotation import ROTATION_STEPS, take_over

GENESIS = hash32(b"genesis")
OLD, NEW = KeyPair(bytes(range(32, 64))), KeyPair(bytes(32))
HEIGHT = 9


def check_done(home: Home) -> None:
    key = home.validator_key()
    assert key is not None
    assert key.public_key == NEW.public_key
    assert home.validator_next_key() is None
    assert guard_files.made_for(home) == NEW.public_key
    assert keyfile.read(home.files.path / f"validator.key.retired-{HEIGHT}").public_key == OLD.public_key
    with GuardStore.open(home, NEW, committed_height=HEIGHT) as guard:
        assert (guard.load().sign_floor, guard.load().watching, guard.disagreement) == (HEIGHT, False, "")
    for name in ("guard.db", "guard.log"):
        (home.files.path / f"{name}.retired-{HEIGHT}").rename(home.files.path / name)
    home.database.execute("DELETE FROM guard_made")
    with GuardStore.open(home, OLD, committed_height=0) as old:
        assert (old.load().sign_floor, old.disagreement) == (4, "")


@pytest.fixture
def ready(home: Home) -> Home:
    with GuardStore.open(home, OLD, committed_height=0) as guard:
        guard.raise_floor(4)
    keyfile.write(home.files.validator_next_key, NEW)
    return home


def test_the_key_and_its_guard_are_exchanged(ready: Home) -> None:
    with take_over(ready, NEW, HEIGHT) as guard:
        assert guard.load().sign_floor == HEIGHT
    check_done(ready)


def test_after_a_crash_at_any_step_it_is_finished(ready: Home, crash_images: Callable[[str], None]) -> None:
    take_over(ready, NEW, HEIGHT, crash_images).close()
    images: dict[str, Path] = crash_images.taken  # type: ignore[attr-defined]
    assert tuple(images) == ROTATION_STEPS
    for step, image in images.items():
        with Home.open(image, GENESIS) as home:
            if step != "key_exchanged":  # then the set names the home's key, and nothing is left to do
                take_over(home, NEW, HEIGHT).close()
            check_done(home)


def test_half_of_a_new_guard_does_not_stand_in_the_way(ready: Home) -> None:
    guard_files.retire_guard(ready, HEIGHT)
    GuardStore.open(ready, NEW, committed_height=0, was_seated=False).close()
    ready.files.guard_db.unlink()
    guard_files.note_made(ready, OLD.public_key)  # the crash came before it was noted
    take_over(ready, NEW, HEIGHT).close()
    check_done(ready)


def test_a_new_guard_that_was_lost_meanwhile_is_missed(ready: Home) -> None:
    guard_files.retire_guard(ready, HEIGHT)
    guard_files.note_made(ready, NEW.public_key)
    with pytest.raises(GuardLost):
        take_over(ready, NEW, HEIGHT)


def test_what_fails_leaves_the_old_key(ready: Home) -> None:
    ready.files.validator_next_key.unlink()
    with pytest.raises(HomeError):
        take_over(ready, NEW, HEIGHT)
    key = ready.validator_key()
    assert key is not None
    assert key.public_key == OLD.public_key

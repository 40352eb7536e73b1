"""A world saved and restored (T-8.14)."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_world.errors import DataError, HomeError
from agent_world.node.saving import put_back, restore, save_home
from agent_world.node.stopped import StoppedHome
from agent_world.node.verify import verify_home
from agent_world.store import world_dir
from agent_world.store.home import Home
from agent_world.store.world_dir import AUDIT, CONTENT, FALLBACK, JOURNAL, MANIFEST, RESTORED, SEGMENTS, SNAPSHOT
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.stack import make_key
from agent_world.testing.stack_actions import register
from agent_world.world.snapshot import state_blobs


def quiet(_done: int, _total: int) -> None:
    pass


def audit(directory: Path) -> Any:
    return json.loads((directory / AUDIT).read_text())


def content_files(directory: Path) -> list[Path]:
    return sorted(path for path in (directory / CONTENT).rglob("*") if path.is_file())


@pytest.fixture
def saved(grown_home: Path, tmp_path: Path) -> Path:
    save_home(grown_home, tmp_path / "saved", quiet)
    return tmp_path / "saved"


def test_content_alone_restores_the_world_and_the_audit_says_so(grown_home: Path, saved: Path) -> None:
    for name in (SNAPSHOT, JOURNAL):
        (saved / name).unlink()
    restored = restore(saved)
    assert (restored.status, restored.reason, restored.audited) == (RESTORED, None, True)
    assert audit(saved).keys() == {"timestamp_ms", "status"}
    assert audit(saved)["timestamp_ms"] > 1_700_000_000_000
    with StoppedHome(grown_home) as home:
        assert restored.world.head.state_root == home.head.state_root
        assert restored.world.blobs == dict(state_blobs(home.head.state_root, home.blobs.get))
        assert [event.event_id for event in restored.world.events] == list(range(1, home.state.clock.last_event_id + 1))


def test_json_alone_restores_the_same_world_and_is_not_audited(saved: Path) -> None:
    whole = restore(saved).world
    shutil.rmtree(saved / CONTENT)
    (saved / AUDIT).unlink()
    restored = restore(saved)
    assert (restored.status, restored.audited, restored.world) == (None, False, whole)
    assert not (saved / AUDIT).exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def no_json(path: Path) -> None:
    path.write_text("[" * 100_000)


def a_list(path: Path) -> None:
    path.write_text("[]")


def another_height(path: Path) -> None:
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, "height": found["height"] + 1}))


LISTS = ("packs", "segments", "entries", "journal")


def without_rows(path: Path) -> None:
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, **{name: [] for name in LISTS if name in found}}))


def odd_rows(path: Path) -> None:
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, **{name: [{"content": 7}] for name in LISTS if name in found}}))


DAMAGE: list[Callable[[Path], None]] = [
    cut, flip, no_json, a_list, another_height, without_rows, odd_rows, Path.unlink,
]  # fmt: skip


@pytest.mark.parametrize("damage", [damage for damage in DAMAGE if damage is not Path.unlink])
@pytest.mark.parametrize("name", [MANIFEST, SEGMENTS])
def test_a_broken_manifest_falls_back_to_json(saved: Path, name: str, damage: Callable[[Path], None]) -> None:
    whole = restore(saved).world
    damage(saved / name)
    restored = restore(saved)
    assert (restored.status, restored.world, restored.audited) == (FALLBACK, whole, True)
    assert audit(saved)["status"] == FALLBACK
    assert "distfs_restore_failed" in audit(saved)["reason"]
    log = (saved / AUDIT).with_suffix(".jsonl").read_text().splitlines()
    assert [json.loads(line)["status"] for line in log] == [RESTORED, FALLBACK]


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_any_damaged_content_falls_back_to_json(saved: Path, damage: Callable[[Path], None]) -> None:
    for number in range(len(content_files(saved))):
        copy = saved.with_name(f"copy-{number}")
        shutil.copytree(saved, copy)
        damage(content_files(copy)[number])
        assert restore(copy).status == FALLBACK


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", [SNAPSHOT, JOURNAL])
def test_damaged_json_beside_whole_content_harms_nothing(
    saved: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(saved / name)
    assert restore(saved).status == RESTORED


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", [SNAPSHOT, JOURNAL])
def test_when_neither_is_whole_both_faults_are_named(saved: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(saved / name)
    cut(content_files(saved)[0])
    with pytest.raises(DataError, match=r"distfs_restore_failed.*from JSON"):
        restore(saved)


def test_json_of_a_later_save_is_newer_than_content(tmp_path: Path) -> None:
    with LedgerChain(tmp_path / "home") as chain:
        chain.commit()
        save_home(chain.path, tmp_path / "old", quiet)
        chain.do(chain.authority, register("alice"))
        save_home(chain.path, tmp_path / "new", quiet)
    for name in (SNAPSHOT, JOURNAL):
        shutil.copy(tmp_path / "new" / name, tmp_path / "old" / name)
    restored = restore(tmp_path / "old")
    assert (restored.status, restored.world.head.height) == (FALLBACK, 2)
    assert restored.reason is not None
    assert "generation 1 is older than 2" in restored.reason


def test_a_save_over_an_older_one_leaves_no_content_behind(tmp_path: Path) -> None:
    with LedgerChain(tmp_path / "home") as chain:
        chain.commit()
        save_home(chain.path, tmp_path / "saved", quiet)
        (tmp_path / "saved" / CONTENT / "stray").write_text("left by a crash")
        before = content_files(tmp_path / "saved")
        chain.do(chain.authority, register("alice"))
        save_home(chain.path, tmp_path / "saved", quiet)
    assert not set(before) & set(content_files(tmp_path / "saved"))
    assert restore(tmp_path / "saved").world.head.height == 2


def test_a_save_that_is_cut_off_anywhere_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write of a second save fails in turn: the folder gives the first or the second world."""
    with LedgerChain(tmp_path / "home") as chain:
        chain.commit()
        save_home(chain.path, tmp_path / "first", quiet)
        chain.do(chain.authority, register("alice"))
        seen = set()
        for step in itertools.count(1):
            folder = tmp_path / f"cut off at {step}"
            shutil.copytree(tmp_path / "first", folder)
            with monkeypatch.context() as patched:
                writes = Writes(step)
                for name in ("write_temporary", "replace_file", "fsync_directory"):
                    patched.setattr(world_dir, name, writes.counted(getattr(world_dir, name)))
                with contextlib.suppress(HomeError):
                    save_home(chain.path, folder, quiet)
            seen.add(restore(folder).world.head.height)
            if writes.made < step:
                break
    assert seen == {1, 2}
    assert step > 8


class Writes:
    """Lets the write of a number fail, as on a full disk."""

    def __init__(self, fails: int) -> None:
        self.made = 0
        self._fails = fails

    def counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def write(*arguments: Any) -> Any:
            self.made += 1
            if self.made == self._fails:
                raise OSError(28, "No space left on device")
            return real(*arguments)

        return write


def test_an_audit_that_cannot_be_written_stops_nothing(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, _data: bytes) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(world_dir, "replace_file", refuse)
    restored = restore(saved)
    assert (restored.status, restored.audited) == (RESTORED, False)


def test_a_home_with_damaged_state_gets_it_back(grown_home: Path, saved: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(grown_home, home)
    restored = restore(saved)
    digests = list(restored.world.blobs)
    with Home.open(home, restored.world.head.genesis_hash) as opened:
        opened.database.execute("DELETE FROM blobs WHERE content_hash = ?", (digests[0],))
        opened.database.execute("UPDATE blobs SET data = x'00' WHERE content_hash = ?", (digests[1],))
    assert not verify_home(home).ok
    assert put_back(restored, home) == 2
    assert verify_home(home).ok
    assert put_back(restored, home) == 0


def test_a_home_of_another_world_is_refused(saved: Path, tmp_path: Path) -> None:
    with LedgerChain(tmp_path / "other", voter=make_key("other")) as chain:
        chain.commit()
    with pytest.raises(HomeError, match="another world"):
        put_back(restore(saved), tmp_path / "other")

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from agent_world.store import durable


def test_a_new_file_is_whole_and_has_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.write_new_file(path, b"content", mode=0o600)
    assert path.read_bytes() == b"content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        durable.write_new_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_replace_leaves_one_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    durable.replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_files_are_kept_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.set_aside(path)
    for number in range(durable.SET_ASIDE_MAX + 3):
        path.write_text(str(number))
        durable.set_aside(path)
    kept = {int(other.read_text()) for other in tmp_path.glob("file.aside-*")}
    assert kept == set(range(3, durable.SET_ASIDE_MAX + 3))
    assert not path.exists()

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_world.store import bulk_sync
from agent_world.store.bulk_sync import PATHS_EACH_MAX, BulkSync, start_writing


@pytest.fixture
def fsynced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what was fsynced by itself."""
    names: list[str] = []

    def fsync(descriptor: int) -> None:
        names.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    monkeypatch.setattr("os.fsync", fsync)
    return names


def whole_with(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """A syncfs that fails with this errno, or succeeds for 0; its calls."""
    calls: list[int] = []

    def syncfs(descriptor: int) -> int:
        calls.append(descriptor)
        ctypes.set_errno(number)
        return -1 if number else 0

    monkeypatch.setattr(bulk_sync, "_syncfs", syncfs)
    return calls


def some_files(directory: Path, count: int) -> list[Path]:
    paths = [directory / f"{number}" for number in range(count)]
    for path in paths:
        path.write_bytes(b"x")
    return paths


def test_many_paths_are_one_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsynced: list[str]) -> None:
    calls = whole_with(monkeypatch, 0)
    with BulkSync(tmp_path) as bulk:
        bulk.sync(some_files(tmp_path, PATHS_EACH_MAX + 1))
    assert (len(calls), fsynced) == (1, [])


def test_few_paths_are_fsynced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsynced: list[str]) -> None:
    calls = whole_with(monkeypatch, 0)
    paths = some_files(tmp_path, PATHS_EACH_MAX)
    with BulkSync(tmp_path) as bulk:
        bulk.sync(paths)
    assert (calls, fsynced) == ([], [path.name for path in paths])


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsynced: list[str], number: int
) -> None:
    calls = whole_with(monkeypatch, number)
    paths = some_files(tmp_path, 9)
    with BulkSync(tmp_path) as bulk:
        bulk.sync(paths)
        bulk.sync(paths)
    assert len(calls) == 1, "asked once"
    assert len(fsynced) == 18


def test_a_write_error_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_with(monkeypatch, errno.ENOSPC)
    with BulkSync(tmp_path) as bulk, pytest.raises(OSError, match="No space") as caught:
        bulk.sync(some_files(tmp_path, 9))
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("directory_and_whole", [False, True])
def test_the_real_calls(tmp_path: Path, directory_and_whole: bool) -> None:
    with BulkSync(tmp_path, whole=directory_and_whole) as bulk:
        bulk.sync([*some_files(tmp_path, 9), tmp_path])


def test_the_whole_is_left_alone_if_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsynced: list[str]) -> None:
    calls = whole_with(monkeypatch, 0)
    with BulkSync(tmp_path, whole=False) as bulk:
        bulk.sync(some_files(tmp_path, 9))
    assert (calls, len(fsynced)) == ([], 9)


@pytest.mark.parametrize(
    ("platform", "release", "is_found"),
    [
        ("linux", "6.1.0-18-amd64", True),
        ("linux", "5.8.0", True),
        ("linux", "5.7.19-generic", False),
        ("linux", "odd", False),
        ("darwin", "23.1.0", False),
    ],
)
def test_only_where_errors_are_told(
    monkeypatch: pytest.MonkeyPatch, platform: str, release: str, is_found: bool
) -> None:
    class Uname:
        pass

    uname = Uname()
    uname.release = release  # type: ignore[attr-defined]
    named: Callable[[], Uname] = lambda: uname  # noqa: E731
    monkeypatch.setattr("os.uname", named)
    monkeypatch.setattr("sys.platform", platform)
    assert (bulk_sync._find_syncfs() is not None) is is_found


def test_to_begin_early_changes_nothing_that_is_seen(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.write(bytes(100_000))
        file.flush()
        start_writing(file.fileno())
    assert (tmp_path / "file").stat().st_size == 100_000


def test_a_system_that_cannot_begin_early_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_sync, "_sync_file_range", None)
    with (tmp_path / "file").open("wb") as file:
        start_writing(file.fileno())


def test_to_begin_early_is_no_error_where_the_system_refuses() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb"), open(writer, "wb") as pipe:
        start_writing(pipe.fileno())

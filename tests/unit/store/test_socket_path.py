from pathlib import Path

import pytest

from agent_world.errors import UsageError
from agent_world.store.socket_path import SOCKET_PATH_BYTES_MAX, socket_address


def test_the_shorter_way_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert socket_address(deep / "control.sock") == "control.sock"
    monkeypatch.chdir("/")
    assert socket_address(Path("/x/control.sock")) in {"/x/control.sock", "x/control.sock"}


def test_a_path_that_cannot_work_is_the_users_to_change(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="shorter path"):
        socket_address(tmp_path / ("d" * SOCKET_PATH_BYTES_MAX) / "control.sock")

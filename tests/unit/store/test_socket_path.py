import socket
import tempfile
from pathlib import Path

import pytest

from agent_world.errors import HomeError, UsageError
from agent_world.store.socket_path import SOCKET_PATH_BYTES_MAX, answering_socket, outside_socket, socket_address


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


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary directory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_socket_outside_lies_in_a_folder_of_its_own_for_this_user(elsewhere: Path) -> None:
    one, other = outside_socket(elsewhere / "one"), outside_socket(elsewhere / "other")
    assert one != other
    assert one == outside_socket(elsewhere / "x" / ".." / "one")
    assert one.parent.parent == elsewhere
    assert one.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["link", "open to others", "file"])
def test_a_folder_that_others_can_reach_is_not_used(elsewhere: Path, kind: str) -> None:
    folder = outside_socket(elsewhere / "home").parent
    if kind == "open to others":
        folder.chmod(0o755)
    else:
        folder.rmdir()
        folder.symlink_to(elsewhere) if kind == "link" else folder.touch()
    with pytest.raises(HomeError):
        outside_socket(elsewhere / "home")


def test_the_socket_that_answers_is_found(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(elsewhere)
    home = Path("home")
    home.mkdir()
    inside = home / "control.sock"
    assert answering_socket(inside) == inside
    outside = outside_socket(home)
    inside.touch()
    assert answering_socket(inside) == inside
    with socket.socket(socket.AF_UNIX) as behind:
        behind.bind(socket_address(outside))
        behind.listen()
        assert answering_socket(inside) == outside
        inside.unlink()
        with socket.socket(socket.AF_UNIX) as node:
            node.bind(socket_address(inside))
            node.listen()
            assert answering_socket(inside) == inside

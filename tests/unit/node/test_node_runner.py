from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from agent_world.errors import HomeError, UsageError
from agent_world.node.runner import load_home
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.wire.hello import Role


@pytest.fixture
def home(grown_home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(grown_home, tmp_path / "copy"))


def test_settings_and_genesis_are_read_and_options_win(home: Path, tmp_path: Path) -> None:
    def as_observer(table: dict[str, Any]) -> None:
        assert table["role"] == "sequencer"
        table["role"] = "observer"

    loaded = load_home(home, as_observer)
    assert loaded.settings.role is Role.OBSERVER
    with LedgerChain(tmp_path / "other") as chain:
        assert loaded.genesis == chain.genesis
    assert load_home(home).settings.role is Role.SEQUENCER  # nothing was written back


@pytest.mark.parametrize("name", ["node.toml", "genesis.toml", "node.key"])
def test_what_is_no_home(home: Path, name: str) -> None:
    (home / name).unlink()
    with pytest.raises(HomeError, match=name) as caught:
        load_home(home)
    assert caught.value.exit_code == 65
    assert not (home / name).exists()


def test_no_home_at_all(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="is not a node's home"):
        load_home(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("node.toml", b"role = ", UsageError),
        ("node.toml", b"role = 'sequencer'\ncolour = 1\n", UsageError),
        ("genesis.toml", b"\xff", HomeError),
        ("genesis.toml", b"world_id = 5", UsageError),
        ("genesis.toml", b"", UsageError),
        ("node.key", b"garbage", UsageError),
    ],
)
def test_damaged_files_are_named(home: Path, name: str, data: bytes, error: type[Exception]) -> None:
    (home / name).write_bytes(data)
    with pytest.raises(error, match=name):
        load_home(home)
    assert (home / name).read_bytes() == data


def test_a_key_that_others_may_read_is_refused(home: Path) -> None:
    (home / "node.key").chmod(0o644)
    with pytest.raises(HomeError, match="chmod 600"):
        load_home(home)

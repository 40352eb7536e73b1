from __future__ import annotations

import stat
from pathlib import Path

import pytest

from agent_world.crypto.keys import KeyPair
from agent_world.errors import HomeError, UsageError
from agent_world.store import keyfile

NODE_KEY = KeyPair(bytes(range(32)))
VALIDATOR_KEY = KeyPair(bytes(range(32, 64)))


def test_round_trip_with_mode_0600(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    keyfile.write(path, NODE_KEY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keyfile.read(path).public_key == NODE_KEY.public_key


def test_an_existing_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    keyfile.write(path, NODE_KEY)
    with pytest.raises(HomeError, match="never overwritten"):
        keyfile.write(path, VALIDATOR_KEY)
    assert keyfile.read(path).public_key == NODE_KEY.public_key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "node.key"
    keyfile.write(path, NODE_KEY)
    path.chmod(mode)
    with pytest.raises(HomeError, match="chmod 600"):
        keyfile.read(path)


def test_what_is_not_a_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="cannot be opened"):
        keyfile.read(tmp_path / "absent")
    for number, data in enumerate((b"", b"\xff\xfe", b"hello", b"x" * 5000)):
        path = tmp_path / f"key{number}"
        path.write_bytes(data)
        path.chmod(0o600)
        with pytest.raises(UsageError, match="not a key file"):
            keyfile.read(path)

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent_world.crypto.hashing import actor_id_of
from agent_world.store import keyfile
from agent_world.wire.ids import peer_id_of


def test_a_new_key_is_made_and_shown(run: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "alice.key"
    made = run("keys", "new", file, "--json")
    key = keyfile.read(file)
    assert made.code == 0
    assert made.json == {
        "file": str(file),
        "public_key": key.public_key.hex(),
        "actor_id": actor_id_of(key.public_key),
        "peer_id": peer_id_of(key.public_key),
    }
    assert key.seed.hex() not in made.out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run("keys", "show", file, "--json").json == made.json
    text = run("keys", "show", file)
    assert text.code == 0
    assert all(value in text.out for value in made.json.values())


def test_an_existing_file_is_never_overwritten(run: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_text("precious")
    ran = run("keys", "new", file)
    assert (ran.code, ran.out) == (65, "")
    assert "never overwritten" in ran.err
    assert file.read_text() == "precious"


def test_what_is_no_key(run: Callable[..., Any], tmp_path: Path) -> None:
    missing = run("keys", "show", tmp_path / "nothing")
    assert missing.code == 65
    file = tmp_path / "garbage"
    file.write_bytes(b"\xff" * 10)
    file.chmod(0o600)
    assert run("keys", "show", file).code == 64
    file.chmod(0o644)
    public = run("keys", "show", file)
    assert public.code == 65
    assert "chmod 600" in public.err


def test_a_place_where_nothing_can_be_written(run: Callable[..., Any], tmp_path: Path) -> None:
    ran = run("keys", "new", tmp_path / "no" / "such" / "folder.key")
    assert ran.code == 65
    assert "cannot be written" in ran.err

from __future__ import annotations

from pathlib import Path

import pytest

from agent_world.errors import DataError, HomeError
from agent_world.store.world_dir import CONTENT, load_from_dir, save_to_dir
from agent_world.testing.node_swarm import make_genesis
from agent_world.testing.stack import make_key
from agent_world.wire.ids import U64
from agent_world.world.genesis import genesis_hash, initial_state
from agent_world.world.journal import event_root
from agent_world.world.saved_world import SavedHead

GENESIS = make_genesis(make_key("authority"), {"v1": make_key("v1")})
ROOT, BLOBS = initial_state(GENESIS)
HEAD = SavedHead(
    world_id=GENESIS.world_id,
    genesis_hash=genesis_hash(GENESIS),
    height=U64(0),
    block_hash=genesis_hash(GENESIS),
    state_root=ROOT,
    first_event_id=U64(0),
    events=U64(0),
    event_root=event_root(()),
)


def test_saved_twice_is_the_same_files(tmp_path: Path) -> None:
    written = save_to_dir(tmp_path / "saved", HEAD, BLOBS.__getitem__, ())
    files = {path: path.read_bytes() for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    assert sum(len(data) for path, data in files.items() if CONTENT in path.parts) == written > 0
    assert save_to_dir(tmp_path / "saved", HEAD, BLOBS.__getitem__, ()) == written
    assert {path: path.read_bytes() for path in (tmp_path / "saved").rglob("*") if path.is_file()} == files
    assert load_from_dir(tmp_path / "saved", 5).world.blobs == BLOBS


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match="cannot be saved"):
        save_to_dir(tmp_path / "file", HEAD, BLOBS.__getitem__, ())
    with pytest.raises(DataError, match="is missing"):
        load_from_dir(tmp_path, 5)

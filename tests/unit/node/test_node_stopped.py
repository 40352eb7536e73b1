"""A home without a process: everything sound in it is shown, everything damaged is named, nothing is changed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent_world.errors import BlobHashMismatch, DataError, ErrorCode, HomeError, Refused
from agent_world.node.stopped import StoppedHome
from agent_world.node.stopped_views import StoppedValidator, StoppedViews
from agent_world.store.guard import GuardStore
from agent_world.store.home import Home
from agent_world.store.peers import PeerBook
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.stack import make_key
from agent_world.testing.stack_actions import GOLD, actor
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import Hash32, PeerId, peer_id_of
from agent_world.wire.jsonable import jsonable
from agent_world.world.state import StateProof, verify_state_proof

PEER = peer_id_of(make_key("a peer").public_key)


@pytest.fixture
def home(grown_home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(grown_home, tmp_path / "copy"))


def contents(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}


def change(home: Path, sql: str, *parameters: object) -> None:
    with closing(sqlite3.connect(home / "world.db")) as database, database:
        assert database.execute(sql, parameters).rowcount > 0


def looked_at(home: Path) -> dict[str, Any]:
    with StoppedHome(home) as stopped:
        return dict(jsonable(StoppedViews(stopped).summary()))


async def test_what_a_running_node_shows_is_shown(home: Path) -> None:
    with StoppedHome(home) as stopped:
        views = StoppedViews(stopped)
        status = views.status()
        assert (status["running"], status["node_id"], status["consensus"]["committed_height"]) == (False, "chain", 5)
        assert (status["damage"], status["consensus"]["receipts"]) == ([], 7)
        assert views.head()["certified_by"] == ["v1"]
        assert [action["outcome"] for action in views.block(3)["actions"]] == ["applied", "rejected"]
        assert [row["kind"] for row in views.events(3, 1)["events"]] == ["resource.transferred"]
        assert views.actor(actor("alice"))["next_nonce"] == 5
        key = f"balance/{actor('alice')}/{GOLD}"
        shown = views.state_entry("rules", key, proof=True)
        assert shown["value"] == {"amount": 90}
        proof = StateProof(shown["proof"]["state_root"], tuple(shown["proof"]["nodes"]))
        assert verify_state_proof(stopped.head.state_root, "rules", key.encode(), proof)  # type: ignore[arg-type]
        assert len(views.state_entries("rules", 3)["entries"]) == 3
        action_id = views.block(3)["actions"][0]["action_id"]
        assert (await views.receipt(action_id, 50_000))["height"] == 3
        digest = ContentHash(stopped.head.state_root.digest)
        assert await views.blob(digest) == stopped.blobs.get(digest)
        assert views.validators()["current"]["total_stake"] == 100
        assert StoppedValidator(stopped).changes() == []
        assert StoppedValidator(stopped).lease()["holder_id"] is None


async def test_what_is_not_there_is_refused_as_by_a_node(home: Path) -> None:
    with StoppedHome(home) as stopped:
        views = StoppedViews(stopped)
        with pytest.raises(Refused) as caught:
            views.block(6)
        assert (caught.value.code, caught.value.rule) == (ErrorCode.NOT_FOUND, "B5")
        for waiting in (views.receipt(Hash32(bytes(32)), 9), views.blob(ContentHash(bytes(32)))):
            with pytest.raises(Refused, match="ERR_NOT_FOUND"):
                await waiting


async def test_what_would_change_something_is_refused(home: Path) -> None:
    with StoppedHome(home) as stopped:
        views, validator = StoppedViews(stopped), StoppedValidator(stopped)
        cid = stopped.head.state_root
        refused: list[Callable[[], Any]] = [
            lambda: views.submit(b""), lambda: views.put_blob(b""), lambda: views.ban_peer(PEER, 1, "x"),
            lambda: views.unban_peer(PEER), lambda: views.read_content(cid, 0, 1, ()),
        ]  # fmt: skip
        for call in refused:
            with pytest.raises(Refused, match="ERR_UNSUPPORTED"):
                call()
        for waiting in (
            views.put_content(None), views.content_size(cid, ()), validator.file(None),  # type: ignore[arg-type]
            validator.acquire_lease(None, keep=False), validator.release_lease(),
        ):  # fmt: skip
            with pytest.raises(Refused, match="start its node"):
                await waiting


def test_a_home_that_never_ran_shows_genesis(tmp_path: Path) -> None:
    path = tmp_path / "home"
    with LedgerChain(path):
        pass
    change(path, "DELETE FROM blobs")
    shown = looked_at(path)
    assert (shown["consensus"]["committed_height"], shown["damage"], shown["last_block"]) == (0, [], None)
    assert shown["validators"]["current"]["validators"][0]["validator_id"] == "v1"


def test_after_a_crash_the_log_is_read_and_nothing_is_written(tmp_path: Path) -> None:
    crashed = tmp_path / "crashed"
    with LedgerChain(tmp_path / "home") as chain:
        chain.commit()
        shutil.copytree(chain.path, crashed, ignore=shutil.ignore_patterns("*-shm"))
    before = contents(crashed)
    assert (crashed / "world.db-wal").stat().st_size
    assert looked_at(crashed)["consensus"]["committed_height"] == 1
    after = contents(crashed)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) <= {"world.db-shm"}


def test_a_home_at_rest_stays_as_it_is_to_the_byte(home: Path) -> None:
    before = contents(home)
    assert looked_at(home)["damage"] == []
    assert contents(home) == before


def test_no_node_starts_while_somebody_looks_and_nobody_looks_while_a_node_runs(home: Path) -> None:
    with StoppedHome(home) as stopped, StoppedHome(home), pytest.raises(HomeError, match="in use"):
        Home.open(home, stopped.home.genesis_hash)
    with Home.open(home, stopped.home.genesis_hash), pytest.raises(HomeError, match="in use"):
        StoppedHome(home)
    Home.open(home, stopped.home.genesis_hash).close()


def test_the_guard_and_the_peers_are_shown(home: Path) -> None:
    with LedgerChain(home.parent / "other") as chain:
        GuardStore.open(chain.home, chain.voter, committed_height=7, lost=True).close()
        PeerBook(chain.home, peers_max=9, ttl_ms=10**9).seen(PEER, ["/ip4/1.2.3.4/tcp/1"], 10**15, verified=True)
    path = chain.path
    shown = looked_at(path)
    assert shown["guard"] == {"files": 2, "height": 0, "sign_floor": 8, "watching": True}
    assert shown["peers_known"] == 1
    with StoppedHome(path) as stopped:
        (row,) = StoppedViews(stopped).peers()
    assert (row["peer_id"], row["address"], row["connected"]) == (PeerId(PEER), "/ip4/1.2.3.4/tcp/1", False)
    (path / "guard.log").write_bytes(b"damaged")
    shown = looked_at(path)
    assert shown["guard"]["sign_floor"] == 8
    assert [damage.split(":")[0] for damage in shown["damage"]] == ["guard.log"]
    (path / "guard.db").write_bytes(b"damaged")
    assert len(looked_at(path)["damage"]) == 2


def test_a_file_of_the_guard_that_is_missing_is_damage(tmp_path: Path) -> None:
    with LedgerChain(tmp_path / "home") as chain:
        GuardStore.open(chain.home, chain.voter, committed_height=0).close()
    path = chain.path
    assert looked_at(path)["damage"] == []
    (path / "guard.db").rename(path / "kept.db")
    shown = looked_at(path)
    assert shown["damage"] == ["guard.db: it is missing"]
    assert shown["guard"] == {"files": 1, "height": 0, "sign_floor": 0, "watching": True}
    whole = (path / "guard.log").read_bytes()
    (path / "kept.db").rename(path / "guard.db")
    (path / "guard.log").write_bytes(whole + b"\0\0\0\x50torn")
    assert looked_at(path)["damage"] == ["guard.log: its last record is torn and not in guard.db"]
    (path / "guard.db").rename(path / "kept.db")
    (path / "guard.log").unlink()
    assert looked_at(path)["damage"] == ["guard.log: it is missing", "guard.db: it is missing"]
    (path / "kept.db").rename(path / "guard.db")
    assert looked_at(path)["damage"] == ["guard.log: it is missing"]


def test_a_seated_key_beside_blocks_has_lost_its_guard_also_where_none_was_noted(tmp_path: Path) -> None:
    with LedgerChain(tmp_path / "home") as chain:
        assert looked_at_open(chain) == []
        chain.commit()
        assert looked_at_open(chain) == ["guard.log: it is missing", "guard.db: it is missing"]
    # Half made: the log comes first, and the home notes it last.
    with LedgerChain(tmp_path / "half") as chain:
        GuardStore.open(chain.home, chain.voter, committed_height=0).close()
        (chain.path / "guard.db").unlink()
    change(chain.path, "DELETE FROM guard_made")
    assert looked_at(chain.path)["damage"] == []


def looked_at_open(chain: LedgerChain) -> list[str]:
    """The damage found in a copy of a home that is open."""
    copy = chain.path.with_name(f"copy at {chain.ledger.height}")
    shutil.copytree(chain.path, copy, ignore=shutil.ignore_patterns("*-shm"))
    return list(looked_at(copy)["damage"])


def test_a_damaged_state_leaves_the_chain_readable(home: Path) -> None:
    with StoppedHome(home) as stopped:
        root = stopped.head.state_root
    change(home, "UPDATE blobs SET data = x'00' WHERE content_hash = ?", bytes(root.digest))
    shown = looked_at(home)
    assert shown["consensus"]["committed_height"] == 5
    assert shown["consensus"]["last_execution_height"] is None
    assert {damage.split(":")[0] for damage in shown["damage"]} == {"state", "validators"}
    with StoppedHome(home) as stopped:
        views = StoppedViews(stopped)
        assert views.head()["certified_by"] == [LedgerChain(home.parent / "twin").voter.public_key.hex()]
        assert len(views.block(3)["actions"]) == 2
        with pytest.raises(BlobHashMismatch):
            views.state_entries("rules", 1)
    assert not any((home / "quarantine").iterdir()), "looking moves nothing"


@pytest.mark.parametrize("name", ["node.toml", "node.key"])
def test_damaged_settings_and_keys_are_named(home: Path, name: str) -> None:
    (home / name).write_text("nonsense")
    shown = looked_at(home)
    assert [damage.split(":")[0] for damage in shown["damage"]] == [name]
    assert shown["consensus"]["committed_height"] == 5


def test_a_receipt_row_beyond_its_block_is_damage(home: Path) -> None:
    with StoppedHome(home) as stopped:
        action_id = StoppedViews(stopped).block(3)["actions"][1]["action_id"]
    change(home, "UPDATE receipts SET position = 9 WHERE action_id = ?", action_id)
    with StoppedHome(home) as stopped, pytest.raises(DataError, match="node rollback"):
        stopped.receipt(action_id)


def test_another_genesis_is_refused(home: Path) -> None:
    text = (home / "genesis.toml").read_text()
    (home / "genesis.toml").write_text(text.replace("epoch_length_slots = 32", "epoch_length_slots = 33"))
    with pytest.raises(HomeError, match="not that of the home"):
        StoppedHome(home)
    (home / "genesis.toml").write_text(text)
    StoppedHome(home).close()

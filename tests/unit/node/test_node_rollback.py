"""The state of the last heights made again from their blocks, and nothing else."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from agent_world.crypto.hashing import cid_of
from agent_world.errors import ChainError, HomeError, UsageError
from agent_world.node.ledger import committed_height
from agent_world.node.rollback import roll_back
from agent_world.node.verify import verify_home
from agent_world.store.blobs import LocalCasStore
from agent_world.store.chain import REDERIVE_STEPS, ChainStore
from agent_world.store.home import Home
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.stack import make_key
from agent_world.testing.stack_actions import grant, pay, register
from agent_world.wire import record
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import Hash32
from agent_world.world.replay import replay_block
from agent_world.world.snapshot import state_blobs

HEIGHT = 4
Damage = Callable[..., None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four heights; the last two pay, so each changes a small part of a state of many people."""
    path = tmp_path_factory.mktemp("rollback") / "home"
    with LedgerChain(path) as chain:
        chain.do(chain.authority, *(register(f"person {number}") for number in range(80)))
        chain.do(chain.authority, *(grant(f"person {number}", 10) for number in range(80)))
        chain.do(make_key("person 1"), pay("person 2", 3))
        chain.do(make_key("person 2"), pay("person 3", 4))
    return path


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def state_of(home: Path, height: int) -> set[ContentHash]:
    """Every blob of the state after a height."""
    with Home.read_only(home) as opened:
        blobs = LocalCasStore(opened)
        stored = ChainStore(opened, blobs).block(height)
        assert stored is not None
        return {digest for digest, _ in state_blobs(stored.header.state_root, blobs.get)}


def genesis_of(home: Path) -> Hash32:
    with Home.read_only(home) as opened:
        return opened.genesis_hash


def execute(home: Path, sql: str, *parameters: object) -> int:
    with closing(sqlite3.connect(home / "world.db")) as database, database:
        return database.execute(sql, parameters).rowcount


def damage(home: Path, digests: set[ContentHash]) -> None:
    assert digests
    for digest in digests:
        assert execute(home, "UPDATE blobs SET data = x'00' WHERE content_hash = ?", bytes(digest)) == 1


def contents(home: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in sorted(home.rglob("*"))
        if path.is_file() and path.name not in ("lock", "world.db-shm", "world.db-wal")
    }


def test_a_sound_home_is_the_same_afterwards(home: Path) -> None:
    before = verify_home(home)
    done = roll_back(home)
    assert (done.from_height, done.height, done.actions, done.blobs_repaired) == (HEIGHT, HEIGHT, 1, 0)
    assert done.state_root == before.state_root
    assert done.state_blobs == len(state_of(home, HEIGHT))
    assert verify_home(home).ok


def test_damaged_nodes_of_the_last_state_are_made_again(home: Path) -> None:
    own = state_of(home, HEIGHT) - state_of(home, HEIGHT - 1)
    damage(home, own)
    execute(home, "DELETE FROM receipts WHERE height = ?", HEIGHT)
    execute(home, "UPDATE blocks SET first_event_id = NULL, last_event_id = NULL WHERE height = ?", HEIGHT)
    assert not verify_home(home).ok
    done = roll_back(home)
    assert done.blobs_repaired == len(own)
    report = verify_home(home)
    assert report.ok, report.problems
    assert report.height == HEIGHT


def test_a_state_that_shares_the_damage_with_its_parent_needs_to_begin_earlier(home: Path) -> None:
    shared = set.intersection(*(state_of(home, height) for height in (2, 3, HEIGHT))) - state_of(home, 1)
    damage(home, shared)
    before = contents(home)
    for from_height in (HEIGHT, HEIGHT - 1):
        with pytest.raises(ChainError, match=f"--from {from_height - 1} or less") as caught:
            roll_back(home, from_height=from_height)
        assert (caught.value.height, caught.value.what) == (from_height - 1, "state")
        assert contents(home) == before, "nothing was moved to quarantine either"
    assert roll_back(home, from_height=2).blobs_repaired >= len(shared)
    assert verify_home(home).ok


def test_everything_that_execution_gives_can_be_made_again_from_genesis(home: Path) -> None:
    execute(home, "DELETE FROM receipts")
    execute(home, "UPDATE blocks SET first_event_id = NULL, last_event_id = NULL")
    damage(home, set.union(*(state_of(home, height) for height in range(1, HEIGHT + 1))))
    done = roll_back(home, from_height=1)
    assert done.from_height == 1
    assert done.blobs_repaired > 20
    report = verify_home(home)
    assert report.ok, report.problems


def test_a_large_blob_whose_file_is_damaged_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "home"
    with LedgerChain(path) as chain:
        names = [f"a name as long as names may be, number {number}" for number in range(120)]
        chain.do(chain.authority, *(register(name) for name in names))
    files = [file for file in (path / "blobs").rglob("*") if file.is_file()]
    assert files, "the journal of this block is above the inline limit"
    for file in files:
        file.write_bytes(b"damaged")
    assert roll_back(path).blobs_repaired == len(files)
    assert verify_home(path).ok


def test_the_ledger_goes_on_where_it_was(tmp_path: Path) -> None:
    chain = LedgerChain(tmp_path / "home")
    chain.do(chain.authority, register("alice"))
    chain.do(chain.authority, grant("alice", 5))
    chain.close()
    damage(chain.path, state_of(chain.path, 2) - state_of(chain.path, 1))
    roll_back(chain.path)
    chain.reopen()
    with chain:
        chain.do(make_key("alice"), pay("alice", 1))
        assert chain.ledger.height == 3


def test_another_root_is_said_and_changes_nothing(tmp_path: Path) -> None:
    """Such as a block that was executed by a program with a fault."""
    path = tmp_path / "home"
    with LedgerChain(path) as chain:
        chain.do(chain.authority, register("alice"))
        action = chain.sign(chain.authority, grant("alice", 5))
        sealed = replay_block(chain.ledger.head, chain.propose(action), [action], chain.ledger.state)
        wrong = cid_of(chain.blobs.get(chain.ledger.head.state_root.digest))
        block = attrs.evolve(sealed.block, state_root=wrong)
        data = record.to_bytes(block)
        sealed = attrs.evolve(sealed, block=block, data=data)
        chain.chain.commit_height(committed_height(sealed, chain.certify(data), chain.ledger.state))
    before = contents(path)
    with pytest.raises(ChainError, match=f"the block says {wrong}, execution gives bafy") as caught:
        roll_back(path)
    assert (caught.value.height, caught.value.what) == (2, "state_root")
    assert contents(path) == before


@pytest.mark.parametrize("step", REDERIVE_STEPS)
def test_a_crash_at_any_step_leaves_a_home_that_can_be_rolled_back(home: Path, tmp_path: Path, step: str) -> None:
    damage(home, state_of(home, HEIGHT) - state_of(home, HEIGHT - 1))
    image = tmp_path / "image"

    def crash(done: str) -> None:
        if done == step:
            shutil.copytree(home, image, ignore=shutil.ignore_patterns("*-shm"))

    roll_back(home, fault=crash)
    with Home.read_only(image) as opened:
        assert ChainStore(opened, LocalCasStore(opened)).committed_height == HEIGHT
    assert verify_home(image).ok is (step == "committed")
    roll_back(image)
    assert verify_home(image).ok


def test_what_must_not_be_rolled_back(home: Path, tmp_path: Path) -> None:
    with LedgerChain(tmp_path / "new"):
        pass
    with pytest.raises(UsageError, match="no height is committed"):
        roll_back(tmp_path / "new")
    for from_height in (0, HEIGHT + 1):
        with pytest.raises(UsageError, match="heights 1 to 4 are committed"):
            roll_back(home, from_height=from_height)
    with Home.open(home, genesis_of(home)), pytest.raises(HomeError, match="in use"):
        roll_back(home)
    with pytest.raises(HomeError, match="no home"):
        roll_back(tmp_path / "nothing")


def test_a_height_whose_actions_are_gone_stays_as_it_is(home: Path) -> None:
    with Home.read_only(home) as opened:
        stored = ChainStore(opened, LocalCasStore(opened)).block(HEIGHT)
        assert stored is not None
    execute(home, "DELETE FROM blobs WHERE content_hash = ?", bytes(stored.header.action_root.digest))
    before = contents(home)
    with pytest.raises(ChainError, match="actions"):
        roll_back(home)
    assert contents(home) == before

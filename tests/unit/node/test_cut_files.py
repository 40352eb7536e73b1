"""A database or write-ahead log that ends too early, at every byte of its last page and frame.

What was committed before the cut is there, or an error says that the file is cut; nothing in between.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_world.errors import DataError
from agent_world.node.stopped import StoppedHome
from agent_world.node.verify import verify_home
from agent_world.store.home import Home
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.stack_actions import grant, register
from agent_world.wire.block import BlockBundle

PAGE = 4096
FRAME = 24 + PAGE
"""A frame of the log: its header and a page."""
HEIGHT = 2


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[BlockBundle]]]:
    """A home whose process was killed: height 1 is folded in, height 2 is in the log only."""
    folder = tmp_path_factory.mktemp("cut")
    with LedgerChain(folder / "living") as chain:
        chain.do(chain.authority, register("alice"))
        chain.close()
        chain.reopen()
        chain.do(chain.authority, grant("alice", 5))
        shutil.copytree(chain.path, folder / "crashed", ignore=shutil.ignore_patterns("*-shm", "lock"))
        bundles = [chain.ledger.bundle(height) for height in (1, 2)]
        yield folder / "crashed", [bundle for bundle in bundles if bundle is not None]


@pytest.fixture
def home(crashed: tuple[Path, list[BlockBundle]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(crashed[0], tmp_path / "home"))


@pytest.fixture
def bundles(crashed: tuple[Path, list[BlockBundle]]) -> list[BlockBundle]:
    return crashed[1]


def looked_at(home: Path) -> int | str:
    """The committed height, once block and state have been read; else the error."""
    try:
        with StoppedHome(home) as stopped:
            assert stopped.state.clock.height == stopped.height
            assert stopped.height == 0 or stopped.stored(stopped.height) is not None
            return stopped.height
    except DataError as error:
        return str(error)


def committed_height(home: Path) -> int:
    """As ``looked_at``, without the reading: for as many cuts as there are bytes."""
    with Home.at_rest(home) as opened:
        return int(opened.database.query("SELECT height FROM chain_head")[0][0])


def reopen(home: Path) -> LedgerChain:
    """The home of a chain made elsewhere, open as a node opens it."""
    chain = LedgerChain.__new__(LedgerChain)
    chain.__dict__.update(LedgerChain(home.parent / "twin").__dict__, path=home)
    chain.home.close()
    chain.reopen()
    return chain


def test_a_database_cut_anywhere_in_its_last_page_is_refused(home: Path) -> None:
    (home / "world.db-wal").unlink()
    assert looked_at(home) == 1
    database = home / "world.db"
    size = database.stat().st_size
    for cut in range(1, PAGE + 1):
        os.truncate(database, size - cut)
        found = looked_at(home)
        assert isinstance(found, str), f"{cut} bytes less are not noticed"
        assert "cut short" in found
        assert database.stat().st_size == size - cut


def test_a_database_cut_under_a_log_is_whole_again_or_refused(home: Path) -> None:
    """As after a crash in the middle of folding the log in: what the log holds may be missing in the file."""
    database = home / "world.db"
    size = database.stat().st_size
    for cut in [*range(1, PAGE, 61), PAGE]:
        os.truncate(database, size - cut)
        found = looked_at(home)
        assert found == HEIGHT or isinstance(found, str), found
        if found == HEIGHT:
            assert verify_home(home).ok


def test_a_log_cut_anywhere_in_its_last_frame_gives_the_state_before(home: Path) -> None:
    log = home / "world.db-wal"
    size = log.stat().st_size
    assert (size - 32) % FRAME == 0
    assert looked_at(home) == HEIGHT
    for cut in range(1, FRAME + 1):
        os.truncate(log, size - cut)
        found = looked_at(home) if cut % 101 == 1 else committed_height(home)
        assert found == 1, f"{cut} bytes less"
        assert log.stat().st_size == size - cut


@pytest.mark.parametrize("left", [0, 1, 31, 32, 33, 32 + 24, 32 + FRAME, 32 + FRAME + 1])
def test_a_log_of_which_little_is_left(home: Path, left: int) -> None:
    os.truncate(home / "world.db-wal", left)
    assert looked_at(home) == 1


@pytest.mark.parametrize("cut", [1, 24, 25, PAGE, FRAME])
def test_a_node_goes_on_after_a_cut_and_catches_up(home: Path, bundles: list[BlockBundle], cut: int) -> None:
    log = home / "world.db-wal"
    os.truncate(log, log.stat().st_size - cut)
    with reopen(home) as chain:
        assert chain.ledger.height == 1
        chain.ledger.apply_bundle(2, bundles[1])
        assert chain.ledger.height == HEIGHT
    report = verify_home(home)
    assert report.ok, report.problems
    assert report.height == HEIGHT


def test_bytes_that_changed_in_the_last_frame_give_the_state_before(home: Path) -> None:
    log = home / "world.db-wal"
    data = log.read_bytes()
    for place in range(len(data) - FRAME, len(data), 97):
        log.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        assert looked_at(home) == 1, place

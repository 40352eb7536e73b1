from __future__ import annotations

import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import pytest

from agent_world.crypto.hashing import content_hash, hash32
from agent_world.errors import AgentWorldError, BlobHashMismatch, ChainError, DecodeError, HomeError, LocalError
from agent_world.store.blob_store import BlobUsage
from agent_world.store.blobs import LocalCasStore
from agent_world.store.chain import COMMIT_STEPS, ChainStore, CommittedHeight, ReceiptPosition
from agent_world.store.home import Home
from agent_world.store.staged_blobs import PreparedBlobs
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import Hash32
from agent_world.wire.limits import CERTIFICATE_BYTES_MAX, RANGE_BLOCKS_MAX, U64_MAX

GENESIS = hash32(b"genesis")
ChainOf = Callable[[int], list[CommittedHeight]]
HeightOf = Callable[..., CommittedHeight]


@pytest.fixture
def chain(home: Home) -> ChainStore:
    return ChainStore(home, LocalCasStore(home))


def everything(home: Home) -> list[tuple[object, ...]]:
    tables = ("blobs", "blocks", "chain_head", "receipts", "blob_usage")
    return [row for table in tables for row in home.database.query(f"SELECT * FROM {table}")]


# --- committing ------------------------------------------------------------------------------------------------------


def test_a_new_home_is_at_height_zero(chain: ChainStore) -> None:
    assert chain.head() is None
    assert (chain.committed_height, chain.base_height) == (0, 0)
    assert chain.block(1) is None
    assert chain.range(1, 5) == ()


def test_what_the_height_before_has_stored_is_not_looked_at_again(
    home: Home, height_of: HeightOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, offered = LocalCasStore(home), []
    prepare = blobs.prepare

    def noted(new: Mapping[ContentHash, bytes], *, kept: bool) -> PreparedBlobs:
        offered.append(sorted(new.values()))
        return prepare(new, kept=kept)

    monkeypatch.setattr(blobs, "prepare", noted)
    chain, parent = ChainStore(home, blobs), GENESIS
    for height, own in enumerate((b"a", b"b", b"c"), 1):
        if height == 3:
            chain = ChainStore(home, blobs)  # just opened, it knows of no height before
        committed = height_of(height, parent, blobs=(b"empty list", own))
        assert chain.commit_height(committed)
        parent = hash32(committed.block)
    assert offered == [[b"a", b"empty list"], [b"b"], [b"c", b"empty list"]]
    assert [blobs.get(content_hash(data)) for data in (b"empty list", b"b")] == [b"empty list", b"b"]


def test_what_was_damaged_since_the_height_before_is_stored_again(home: Home, height_of: HeightOf) -> None:
    blobs = LocalCasStore(home)
    chain, shared = ChainStore(home, blobs), content_hash(b"empty list")
    first = height_of(1, GENESIS, blobs=(b"empty list", b"a"))
    chain.commit_height(first)
    with home.database.transaction():
        home.database.execute("UPDATE blobs SET data = x'00' WHERE content_hash = ?", (shared,))
    with pytest.raises(BlobHashMismatch):
        blobs.get(shared)
    chain.commit_height(height_of(2, hash32(first.block), blobs=(b"empty list", b"b")))
    assert blobs.get(shared) == b"empty list"
    assert not blobs.has_lost_kept()


def test_a_committed_height_can_be_read_in_every_way(home: Home, chain: ChainStore, chain_of: ChainOf) -> None:
    heights = chain_of(3)
    for committed in heights:
        assert chain.commit_height(committed)
    head = chain.head()
    assert head is not None
    assert (head.height, head.block, head.certificate) == (3, heights[2].block, heights[2].certificate)
    assert head.header.height == 3
    assert (chain.committed_height, chain.base_height) == (3, 1)
    second = chain.block(2)
    assert second is not None
    assert second.block == heights[1].block
    assert chain.block_by_hash(hash32(heights[1].block)) == second
    assert chain.block_by_hash(Hash32(bytes(32))) is None
    assert chain.receipt_position(heights[1].action_ids[1]) == ReceiptPosition(2, 1)
    assert chain.receipt_position(Hash32(bytes(32))) is None
    assert [chain.height_of_event(event) for event in (9, 10, 14, 15, 20, 34, 35, U64_MAX)] == [
        None, 1, 1, None, 2, 3, None, None,
    ]  # fmt: skip
    assert [chain.event_range(height) for height in (0, 1, 3, 4)] == [None, (10, 14), (30, 34), None]
    assert chain.row_counts() == (3, 6)
    store = LocalCasStore(home)
    for committed in heights:
        for key, data in committed.blobs.items():
            assert store.get(key) == data


def test_a_block_without_events(chain: ChainStore, height_of: HeightOf) -> None:
    chain.commit_height(attrs.evolve(height_of(1), events=None, action_ids=()))
    assert chain.event_range(1) is None
    assert chain.height_of_event(1) is None
    assert chain.row_counts() == (1, 0)


def test_the_same_block_again_changes_nothing(home: Home, chain: ChainStore, chain_of: ChainOf) -> None:
    heights = chain_of(2)
    for committed in heights:
        chain.commit_height(committed)
    before = everything(home)
    # Another node's certificate of the same block may hold other signatures; the first one stays.
    assert not chain.commit_height(attrs.evolve(heights[0], certificate=b"other signatures"))
    assert not chain.commit_height(heights[1])
    assert everything(home) == before


@pytest.mark.parametrize("at", [1, 2])
def test_another_block_at_a_committed_height_is_refused(
    home: Home, chain: ChainStore, chain_of: ChainOf, height_of: HeightOf, at: int
) -> None:
    heights = chain_of(2)
    for committed in heights:
        chain.commit_height(committed)
    before = everything(home)
    parent = GENESIS if at == 1 else hash32(heights[0].block)
    with pytest.raises(ChainError, match=f"height {at}: block: another block"):
        chain.commit_height(height_of(at, parent, salt=b"fork"))
    assert everything(home) == before


def test_heights_are_contiguous_and_parents_fit(
    home: Home, chain: ChainStore, chain_of: ChainOf, height_of: HeightOf
) -> None:
    heights = chain_of(3)
    wrong = [
        (heights[1], "height"),
        (height_of(1, hash32(b"other world")), "prev_block_hash"),
        (height_of(0), "height"),
        (height_of(2**63), "height"),
        (attrs.evolve(heights[0], certificate=bytes(CERTIFICATE_BYTES_MAX + 1)), "certificate"),
    ]
    for committed, what in wrong:
        with pytest.raises(ChainError) as caught:
            chain.commit_height(committed)
        assert caught.value.what == what
    chain.commit_height(heights[0])
    before = everything(home)
    for committed, what in ((heights[2], "height"), (height_of(2, GENESIS), "prev_block_hash")):
        with pytest.raises(ChainError) as caught:
            chain.commit_height(committed)
        assert caught.value.what == what
    assert everything(home) == before


def test_an_error_in_the_middle_leaves_everything_as_it_was(
    home: Home, chain: ChainStore, chain_of: ChainOf, height_of: HeightOf
) -> None:
    heights = chain_of(2)
    chain.commit_height(heights[0])
    before = everything(home)
    # I-9: an action id takes effect at most once, so the store does not take it at a second height.
    with pytest.raises(LocalError, match="UNIQUE"):
        chain.commit_height(attrs.evolve(heights[1], action_ids=heights[0].action_ids))
    with pytest.raises(BlobHashMismatch):
        chain.commit_height(attrs.evolve(heights[1], blobs={content_hash(b"a"): b"b"}))
    with pytest.raises(DecodeError):
        chain.commit_height(attrs.evolve(heights[1], block=b"no block"))
    assert everything(home) == before
    assert chain.commit_height(heights[1])


def test_a_snapshot_starts_an_empty_home_once(home: Home, chain: ChainStore, height_of: HeightOf) -> None:
    snapshot = height_of(50, hash32(b"parent"), blobs=(b"state",), actions=0)
    chain.adopt_snapshot(snapshot)
    assert (chain.committed_height, chain.base_height) == (50, 50)
    with pytest.raises(ChainError, match="blocks already"):
        chain.adopt_snapshot(height_of(60, hash32(b"parent")))
    with pytest.raises(ChainError, match="below the snapshot"):
        chain.commit_height(height_of(1))
    assert chain.commit_height(height_of(51, hash32(snapshot.block)))
    assert [block.height for block in chain.range(50, 60)] == [50, 51]
    assert chain.range(49, 60) == ()
    assert chain.base_height == 50
    assert LocalCasStore(home).get(content_hash(b"state")) == b"state"


# --- ranges ----------------------------------------------------------------------------------------------------------


def test_ranges_are_bounded_by_number_and_bytes(chain: ChainStore, chain_of: ChainOf) -> None:
    heights = chain_of(RANGE_BLOCKS_MAX + 6)
    for committed in heights:
        chain.commit_height(committed)
    assert [block.height for block in chain.range(3, 5)] == [3, 4, 5]
    assert [block.height for block in chain.range(69, U64_MAX)] == [69, 70]
    assert len(chain.range(1, U64_MAX)) == RANGE_BLOCKS_MAX
    assert chain.range(5, 4) == chain.range(71, 80) == chain.range(U64_MAX, U64_MAX) == ()
    size = len(heights[0].block) + len(heights[0].certificate)
    assert [len(chain.range(1, 9, bytes_max=bound)) for bound in (1, size, 2 * size, 3 * size - 1)] == [1, 1, 2, 2]


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["block", "block_hash", "certificate", "certificate_hash"])
def test_every_flipped_byte_of_a_block_row_is_found(
    home: Home, chain: ChainStore, chain_of: ChainOf, column: str
) -> None:
    for committed in chain_of(2):
        chain.commit_height(committed)
    original = home.database.query(f"SELECT {column} FROM blocks WHERE height = 1")[0][0]
    for position in range(len(original)):
        data = bytearray(original)
        data[position] ^= 1 << position % 8
        home.database.execute(f"UPDATE blocks SET {column} = ? WHERE height = 1", (bytes(data),))
        with pytest.raises(ChainError) as caught:
            chain.block(1)
        assert caught.value.height == 1
        with pytest.raises(ChainError):
            chain.range(1, 2)
    home.database.execute(f"UPDATE blocks SET {column} = ? WHERE height = 1", (original,))
    assert len(chain.range(1, 2)) == 2


def test_a_block_under_another_height_is_found(home: Home, chain: ChainStore, chain_of: ChainOf) -> None:
    for committed in chain_of(2):
        chain.commit_height(committed)
    home.database.execute("UPDATE blocks SET height = 9 WHERE height = 1")
    with pytest.raises(ChainError, match="the block says 1"):
        chain.block(9)


def test_a_head_that_does_not_fit_is_found_when_the_store_is_opened(
    home: Home, chain: ChainStore, chain_of: ChainOf
) -> None:
    for committed in chain_of(3):
        chain.commit_height(committed)
    home.database.execute("UPDATE chain_head SET height = 4")
    with pytest.raises(ChainError, match="not stored"):
        ChainStore(home, LocalCasStore(home))
    home.database.execute("DROP TRIGGER chain_head_never_falls")
    for height, block_hash in ((2, None), (3, bytes(32))):
        home.database.execute("UPDATE chain_head SET height = ?", (height,))
        if block_hash is not None:
            home.database.execute("UPDATE chain_head SET block_hash = ?", (block_hash,))
        with pytest.raises(ChainError, match="do not agree"):
            ChainStore(home, LocalCasStore(home))


def test_bytes_flipped_anywhere_in_the_database_file_never_pass_as_blocks(home_path: Path, chain_of: ChainOf) -> None:
    heights = [attrs.evolve(committed, blobs={}) for committed in chain_of(20)]
    with Home.open(home_path, GENESIS) as home:
        chain = ChainStore(home, LocalCasStore(home))
        for committed in heights:
            chain.commit_height(committed)
    original = (home_path / "world.db").read_bytes()
    chance = random.Random(11)
    found = {"refused": 0, "reported": 0, "harmless": 0}
    for _ in range(200):
        data = bytearray(original)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (home_path / "world.db").write_bytes(data)
        try:
            with Home.open(home_path, GENESIS) as home:
                chain = ChainStore(home, LocalCasStore(home))
                missed = sum(not reads(chain, committed, number) for number, committed in enumerate(heights, 1))
                found["reported" if missed else "harmless"] += 1
        except (HomeError, ChainError):
            found["refused"] += 1
    assert min(found.values()) > 0, found


def reads(chain: ChainStore, committed: CommittedHeight, height: int) -> bool:
    try:
        stored = chain.block(height)
    except AgentWorldError:
        return False
    if stored is None:
        return False
    assert (stored.block, stored.certificate) == (committed.block, committed.certificate)
    return True


# --- crashes (T-9.11) ------------------------------------------------------------------------------------------------


def check_home(path: Path, heights: list[CommittedHeight], last: int) -> None:
    """After a crash: exactly the first ``last`` heights are there, whole, and the next one can be committed."""
    with Home.open(path, GENESIS) as home:
        store = LocalCasStore(home)
        chain = ChainStore(home, store)
        assert chain.committed_height == last
        assert [block.block for block in chain.range(1, 99)] == [committed.block for committed in heights[:last]]
        present = {key: data for committed in heights[:last] for key, data in committed.blobs.items()}
        assert store.get_many(store.iterate()) == present
        assert store.usage() == BlobUsage(len(present), *[sum(map(len, present.values()))] * 2)
        for number, committed in enumerate(heights, 1):
            positions = [chain.receipt_position(action_id) for action_id in committed.action_ids]
            assert positions == (
                [ReceiptPosition(number, 0), ReceiptPosition(number, 1)] if number <= last else [None] * 2
            )
        for committed in heights[last:]:
            assert chain.commit_height(committed)
        assert chain.committed_height == len(heights)


def test_t_9_11_a_crash_at_every_step_leaves_the_height_whole_or_absent(
    home_path: Path, chain_of: ChainOf, crash_images: Callable[[str], None]
) -> None:
    heights = chain_of(3)
    with Home.open(home_path, GENESIS) as home:
        ChainStore(home, LocalCasStore(home)).commit_height(heights[0])
        chain = ChainStore(home, LocalCasStore(home, fault=crash_images), fault=crash_images)
        chain.commit_height(heights[1])
    assert tuple(crash_images.taken) == COMMIT_STEPS  # type: ignore[attr-defined]
    for step, image in crash_images.taken.items():  # type: ignore[attr-defined]
        check_home(image, heights, 2 if step == "committed" else 1)


def test_t_9_11_a_killed_process_loses_nothing_that_was_committed(
    home_path: Path, tmp_path: Path, chain_of: ChainOf
) -> None:
    heights = chain_of(3)
    with Home.open(home_path, GENESIS) as home:
        ChainStore(home, LocalCasStore(home)).commit_height(heights[0])
    script = (
        "import os, pathlib, pickle, sys\n"
        "from agent_world.store.home import Home\nfrom agent_world.store.blobs import LocalCasStore\n"
        "from agent_world.store.chain import ChainStore\n"
        "path, genesis, last, committed = pickle.loads(sys.stdin.buffer.read())\n"
        "home = Home.open(path, genesis)\n"
        "die = lambda step: os._exit(9) if step == last else None\n"
        "ChainStore(home, LocalCasStore(home, fault=die), fault=die).commit_height(committed)\n"
    )
    for step in ("head_moved", "committed"):
        copy = tmp_path / step
        shutil.copytree(home_path, copy)
        given = pickle.dumps((copy, GENESIS, step, heights[1]))
        ran = subprocess.run([sys.executable, "-c", script], input=given, check=False)
        assert ran.returncode == 9
        check_home(copy, heights, 2 if step == "committed" else 1)


def test_a_write_ahead_log_cut_anywhere_gives_the_last_whole_height(
    home_path: Path, tmp_path: Path, chain_of: ChainOf
) -> None:
    heights = [attrs.evolve(committed, blobs={}) for committed in chain_of(3)]
    image = tmp_path / "image"
    with Home.open(home_path, GENESIS) as home:
        chain = ChainStore(home, LocalCasStore(home))
        chain.commit_height(heights[0])
        wal = home_path / "world.db-wal"
        before = wal.stat().st_size
        chain.commit_height(heights[1])
        after = wal.stat().st_size
        shutil.copytree(home_path, image, ignore=shutil.ignore_patterns("*-shm"))
    whole = (image / "world.db-wal").read_bytes()
    frame = 4096 + 24
    assert (after - before) % frame == 0
    # In each frame: all fields of its header, and some places of its page.
    cuts = [start + offset for start in range(before, after, frame) for offset in (*range(0, 25, 3), 24, 2000, 4119)]
    for cut in (*cuts, after):
        with_cut = tmp_path / "cut"
        shutil.copytree(image, with_cut)
        (with_cut / "world.db-wal").write_bytes(whole[:cut])
        with Home.open(with_cut, GENESIS) as home:
            assert ChainStore(home, LocalCasStore(home)).committed_height == (2 if cut == after else 1)
        shutil.rmtree(with_cut)


def test_readers_follow_a_running_node(home_path: Path, chain_of: ChainOf) -> None:
    heights = chain_of(3)
    with Home.open(home_path, GENESIS) as home:
        chain = ChainStore(home, LocalCasStore(home))
        chain.commit_height(heights[0])
        readers = [Home.read_only(home_path, GENESIS) for _ in range(2)]
        views = [ChainStore(reader, LocalCasStore(reader)) for reader in readers]
        for number, committed in enumerate(heights[1:], 2):
            chain.commit_height(committed)
            assert [view.committed_height for view in views] == [number, number]
        with pytest.raises(LocalError, match="reading only"):
            LocalCasStore(readers[0]).put(b"a reader's blob")
        for reader in readers:
            reader.close()

"""What executing a height gave is replaced; blocks, certificates and the committed height are not touched."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from agent_world.crypto.hashing import content_hash, hash32
from agent_world.errors import ChainError
from agent_world.store.blobs import LocalCasStore
from agent_world.store.chain import ChainStore, CommittedHeight, ReceiptPosition
from agent_world.store.home import Home

ChainOf = Callable[[int], list[CommittedHeight]]


@pytest.fixture
def heights(chain: ChainStore, chain_of: ChainOf) -> list[CommittedHeight]:
    made = chain_of(3)
    for committed in made:
        chain.commit_height(committed)
    return made


@pytest.fixture
def chain(home: Home) -> ChainStore:
    return ChainStore(home, LocalCasStore(home))


def rows(home: Home) -> dict[str, list[tuple[object, ...]]]:
    tables = ("blobs", "blob_usage", "blocks", "chain_head", "receipts", "boundaries")
    return {table: home.database.query(f"SELECT * FROM {table}") for table in tables}


def test_the_same_again_changes_nothing(home: Home, chain: ChainStore, heights: list[CommittedHeight]) -> None:
    before = {table: sorted(found) for table, found in rows(home).items()}
    chain.rederive(heights)
    assert {table: sorted(found) for table, found in rows(home).items()} == before


def test_rows_and_blobs_are_those_of_the_last_execution(
    home: Home, chain: ChainStore, heights: list[CommittedHeight]
) -> None:
    blobs = LocalCasStore(home)
    new = {content_hash(b"other"): b"other", content_hash(b"y" * 40_000): b"y" * 40_000}
    other = attrs.evolve(heights[1], action_ids=(hash32(b"z"),), events=(20, 22), blobs={**heights[1].blobs, **new})
    chain.rederive([other])
    assert chain.receipt_position(hash32(b"z")) == ReceiptPosition(2, 0)
    assert chain.receipt_position(heights[1].action_ids[0]) is None
    assert chain.receipt_position(heights[2].action_ids[0]) == ReceiptPosition(3, 0)
    assert (chain.event_range(2), chain.event_range(3)) == ((20, 22), (30, 34))
    assert set(blobs.get_many(new)) == set(new)
    assert chain.committed_height == 3
    stored = chain.block(2)
    assert stored is not None
    assert (stored.block, stored.certificate) == (heights[1].block, heights[1].certificate)


def test_damaged_blobs_are_replaced_also_where_they_are_files(
    home: Home, chain: ChainStore, heights: list[CommittedHeight]
) -> None:
    for file in home.files.blobs.rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    home.database.execute("UPDATE blobs SET data = x'00' WHERE data IS NOT NULL")
    chain.rederive(heights)
    wanted = {digest: data for committed in heights for digest, data in committed.blobs.items()}
    assert LocalCasStore(home).get_many(wanted) == wanted
    assert not any(home.files.quarantine.iterdir())


def test_another_block_or_one_that_is_not_committed_is_refused(
    home: Home, chain: ChainStore, heights: list[CommittedHeight], height_of: Callable[..., CommittedHeight]
) -> None:
    before = rows(home)
    above = height_of(4, hash32(heights[-1].block))
    for wrong in (height_of(2, hash32(heights[0].block), salt=b"other"), above):
        with pytest.raises(ChainError):
            chain.rederive([heights[0], wrong])
        assert rows(home) == before


def test_a_row_of_another_height_that_is_in_the_way_is_said_and_undoes_everything(
    home: Home, chain: ChainStore, heights: list[CommittedHeight]
) -> None:
    home.database.execute("UPDATE blocks SET first_event_id = 5 WHERE height = 1")
    before = rows(home)
    for clash in (attrs.evolve(heights[2], events=(5, 6)), attrs.evolve(heights[2], action_ids=heights[0].action_ids)):
        with pytest.raises(ChainError, match=r"height 3: rows: .*go back further"):
            chain.rederive([clash])
        assert rows(home) == before
    chain.rederive(heights)
    assert chain.event_range(1) == (10, 14)

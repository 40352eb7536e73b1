"""Nodes stay as long as the manifest they were made from, and not a moment longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_world.crypto.hashing import cid_of, content_hash, hash32
from agent_world.store.blobs import LocalCasStore
from agent_world.store.home import Home
from agent_world.store.pins import Pin, PinTable
from agent_world.store.unixfs import PAGE_ROWS, UnixfsTable, UnixfsView
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import TimeMs

GENESIS = hash32(b"genesis")
NODE, OTHER = b"a node", b"another"


def nodes(*datas: bytes) -> list[tuple[ContentHash, bytes]]:
    return [(content_hash(data), data) for data in datas]


@pytest.fixture
def blobs(home: Home) -> LocalCasStore:
    return LocalCasStore(home)


@pytest.fixture
def table(home: Home) -> UnixfsTable:
    return UnixfsTable(home)


def test_nodes_outlive_the_process(home_path: Path) -> None:
    with Home.open(home_path, GENESIS) as home:
        file = LocalCasStore(home).put(b"manifest")
        table = UnixfsTable(home)
        assert table.view(file) is None
        table.add(file, nodes(OTHER, NODE))
        table.note(file, content_hash(NODE))
    with Home.open(home_path, GENESIS) as home:
        table = UnixfsTable(home)
        assert table.view(file) == UnixfsView(content_hash(NODE))
        assert (table.node(content_hash(NODE)), table.node(content_hash(b"none"))) == (NODE, None)
        assert (table.has(content_hash(OTHER)), table.has(content_hash(b"none")), table.count()) == (True, False, 2)


def test_nodes_go_with_their_manifest_but_not_with_another_files(blobs: LocalCasStore, table: UnixfsTable) -> None:
    one, two = blobs.put_many((b"one", b"two"))
    for file in (one, two):
        table.add(file, nodes(NODE))
        table.note(file, content_hash(NODE))
    blobs.delete(one)
    assert (table.view(one), table.node(content_hash(NODE)), table.count()) == (None, NODE, 1)
    blobs.delete(two)
    assert (table.view(two), table.node(content_hash(NODE)), table.count()) == (None, None, 0)


def test_nodes_of_a_manifest_that_has_gone_meanwhile_are_not_kept(table: UnixfsTable) -> None:
    file = content_hash(b"gone")
    table.add(file, nodes(NODE))
    table.note(file, content_hash(NODE))
    assert (table.view(file), table.count()) == (None, 0)


def test_a_damaged_node_is_not_given_and_its_file_is_looked_at_again(
    home: Home, blobs: LocalCasStore, table: UnixfsTable
) -> None:
    file = blobs.put(b"manifest")
    table.add(file, nodes(OTHER, NODE))
    table.note(file, content_hash(NODE))
    with home.database.transaction():
        home.database.execute("UPDATE unixfs_nodes SET data = x'00' WHERE node_hash = ?", (content_hash(NODE),))
    assert table.node(content_hash(NODE)) is None
    assert (table.view(file), table.count()) == (None, 0)


def test_named_and_stored_dag_cbor_that_nobody_has_looked_at_is_found(
    home: Home, blobs: LocalCasStore, table: UnixfsTable
) -> None:
    here = [Cid(Codec.DAG_CBOR, digest) for digest in blobs.put_many(b"%d" % place for place in range(PAGE_ROWS + 2))]
    others = (Cid(Codec.RAW, here[0].digest), cid_of(b"not here"))
    pins = [Pin(name=f"{place}", cid=cid, made_ms=TimeMs(0)) for place, cid in enumerate((*here, *others))]
    PinTable(home).put_all(pins)
    assert sorted(cid for page in table.unseen() for cid in page) == sorted(here)
    assert max(len(page) for page in table.unseen()) <= PAGE_ROWS
    for cid in here[1:]:
        table.note(cid.digest, None)
    assert [cid for page in table.unseen() for cid in page] == here[:1]
    assert table.view(here[1].digest) == UnixfsView(None)

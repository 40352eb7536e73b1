from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from agent_world.store import evidence as evidence_module
from agent_world.store.evidence import EvidenceBook
from agent_world.store.home import Home
from agent_world.testing.examples import example
from agent_world.wire.evidence import EquivocationEvidence
from agent_world.wire.ids import PublicKey

KEY, OTHER = PublicKey(bytes(32)), PublicKey(bytes([1]) * 32)
PIECE = example(EquivocationEvidence, "typical")


def test_one_piece_a_place_lowest_first(home: Home) -> None:
    book = EvidenceBook(home)
    another = attrs.evolve(PIECE, message_a=b"another")
    assert book.add(KEY, 7, 1, PIECE)
    assert not book.add(KEY, 7, 1, another)
    assert book.add(KEY, 7, 0, another)
    assert book.add(OTHER, 3, 0, PIECE)
    assert book.has(KEY, 7, 1)
    assert not book.has(OTHER, 7, 1)
    assert book.all() == [(OTHER, 3, 0, PIECE), (KEY, 7, 0, another), (KEY, 7, 1, PIECE)]


def test_it_outlives_the_process(home: Home, home_path: Path) -> None:
    EvidenceBook(home).add(KEY, 7, 1, PIECE)
    genesis = home.genesis_hash
    home.close()
    with Home.open(home_path, genesis) as again:
        assert EvidenceBook(again).all() == [(KEY, 7, 1, PIECE)]


def test_the_number_of_pieces_is_bounded(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence_module, "EVIDENCE_MAX", 3)
    book = EvidenceBook(home)
    assert [book.add(KEY, 7, round_, PIECE) for round_ in range(5)] == [True, True, True, False, False]
    assert len(book.all()) == 3


def test_a_damaged_row_loses_none_of_its_neighbours(home: Home) -> None:
    book = EvidenceBook(home)
    for round_ in range(3):
        book.add(KEY, 7, round_, PIECE)
    home.database.execute("UPDATE evidence SET evidence = ? WHERE round = 1", (b"\xff",))
    assert [round_ for _, _, round_, _ in book.all()] == [0, 2]
    assert book.damaged() == 1

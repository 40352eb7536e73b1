from __future__ import annotations

import attrs
import pytest

from agent_world.errors import DecodeError
from agent_world.store import bans as module
from agent_world.store.bans import REASON_CHARS_MAX, BanBook, KnownBan
from agent_world.store.home import Home
from agent_world.wire.ids import PeerId, PublicKey, peer_id_of

PEERS = sorted(peer_id_of(PublicKey(bytes([number]) * 32)) for number in range(4))


def ban(number: int, until_ms: int = 100) -> KnownBan:
    return KnownBan(peer_id=PEERS[number], until_ms=until_ms, reason="garbage", score=-120)


def test_bans_are_remembered_over_a_restart(home: Home) -> None:
    BanBook(home).add(ban(1))
    BanBook(home).add(ban(0))
    assert BanBook(home).all(99) == (ban(0), ban(1))
    assert BanBook(home).all(100) == ()


def test_a_further_ban_replaces_the_first_and_long_reasons_are_cut(home: Home) -> None:
    book = BanBook(home)
    book.add(ban(0))
    book.add(attrs.evolve(ban(0, 200), reason="x" * 1_000))
    (kept,) = book.all(0)
    assert (kept.until_ms, len(kept.reason)) == (200, REASON_CHARS_MAX)


def test_remove_and_prune(home: Home) -> None:
    book = BanBook(home)
    for number, until_ms in enumerate((100, 200, 300)):
        book.add(ban(number, until_ms))
    assert book.remove(PEERS[2])
    assert not book.remove(PEERS[2])
    assert book.prune(100) == 1
    assert [known.peer_id for known in book.all(0)] == [PEERS[1]]


def test_bounded_by_the_earliest_end(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BANS_MAX", 2)
    book = BanBook(home)
    for number, until_ms in enumerate((300, 100, 200)):
        book.add(ban(number, until_ms))
    assert [known.until_ms for known in book.all(0)] == [300, 200]


def test_what_is_no_peer(home: Home) -> None:
    book = BanBook(home)
    with pytest.raises(DecodeError):
        book.add(attrs.evolve(ban(0), peer_id=PeerId("nobody")))
    home.database.execute("INSERT INTO peer_bans VALUES ('damaged', 100, 'x', 0)")
    book.add(ban(0))
    assert book.all(0) == (ban(0),)

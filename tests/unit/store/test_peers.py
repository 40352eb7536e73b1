from __future__ import annotations

import pytest

from agent_world.errors import DecodeError
from agent_world.store.home import Home
from agent_world.store.peers import ADDRESSES_PER_PEER_MAX, VERIFIED_TTL_MS, PeerBook
from agent_world.wire.ids import PeerId, PublicKey, peer_id_of
from agent_world.wire.limits import ADDRESS_CHARS_MAX

PEERS = [peer_id_of(PublicKey(bytes([number]) * 32)) for number in range(8)]
HERE, THERE = "/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/2"
TTL_MS = 1_000


@pytest.fixture
def book(home: Home) -> PeerBook:
    return PeerBook(home, peers_max=3, ttl_ms=TTL_MS)


def known(book: PeerBook, now_ms: int = 0) -> list[PeerId]:
    return [peer.peer_id for peer in book.all(now_ms)]


def test_a_peer_is_remembered_over_a_restart(home: Home, book: PeerBook) -> None:
    book.seen(PEERS[0], [HERE, THERE], 5, verified=True)
    (peer,) = PeerBook(home, peers_max=3, ttl_ms=TTL_MS).all(5)
    assert (peer.peer_id, peer.addresses, peer.last_seen_ms, peer.verified) == (PEERS[0], (HERE, THERE), 5, True)
    assert book.get(PEERS[0]) == peer
    assert book.get(PEERS[1]) is None


def test_new_addresses_come_first_and_are_bounded(book: PeerBook) -> None:
    book.seen(PEERS[0], [f"/ip4/10.0.0.1/tcp/{port}" for port in range(1, 9)], 0, verified=False)
    book.seen(PEERS[0], [THERE, "", "/dns/" + "x" * ADDRESS_CHARS_MAX], 1, verified=False)
    peer = book.get(PEERS[0])
    assert peer is not None
    assert len(peer.addresses) == ADDRESSES_PER_PEER_MAX
    assert peer.addresses[:2] == (THERE, HERE)
    assert book.counters()["addresses_dropped"] == 2


def test_time_does_not_go_back(book: PeerBook) -> None:
    book.seen(PEERS[0], [HERE], 9, verified=True)
    book.seen(PEERS[0], [HERE], 3, verified=True)
    peer = book.get(PEERS[0])
    assert peer is not None
    assert peer.last_seen_ms == 9


def test_hearsay_does_not_replace_what_a_connection_proved(book: PeerBook) -> None:
    book.seen(PEERS[0], [HERE], 0, verified=True)
    book.seen(PEERS[0], [THERE], 1, verified=False)
    peer = book.get(PEERS[0])
    assert peer is not None
    assert (peer.addresses, peer.verified, peer.last_seen_ms) == ((HERE,), True, 0)
    assert book.counters()["hearsay_ignored"] == 1


def test_above_the_cap_hearsay_goes_first_then_the_longest_unseen(book: PeerBook) -> None:
    book.seen(PEERS[0], [HERE], 0, verified=True)
    book.seen(PEERS[1], [HERE], 1, verified=False)
    book.seen(PEERS[2], [HERE], 2, verified=True)
    book.seen(PEERS[3], [HERE], 3, verified=True)
    assert known(book, 3) == [PEERS[3], PEERS[2], PEERS[0]]
    book.seen(PEERS[4], [HERE], 4, verified=False)
    assert known(book, 4) == [PEERS[3], PEERS[2], PEERS[0]]
    book.seen(PEERS[5], [HERE], 5, verified=True)
    assert known(book, 5) == [PEERS[5], PEERS[3], PEERS[2]]
    assert book.counters()["evicted"] == 3


def test_old_peers_are_not_given_and_then_pruned(book: PeerBook) -> None:
    book.seen(PEERS[0], [HERE], 0, verified=False)
    book.seen(PEERS[1], [HERE], 0, verified=True)
    assert known(book, TTL_MS) == [PEERS[1], PEERS[0]]
    assert known(book, TTL_MS + 1) == [PEERS[1]]
    assert known(book, VERIFIED_TTL_MS + 1) == []
    assert book.prune(TTL_MS) == 0
    assert book.prune(TTL_MS + 1) == 1
    assert book.prune(VERIFIED_TTL_MS + 1) == 1
    assert book.counters()["expired"] == 2


def test_forget(book: PeerBook) -> None:
    book.seen(PEERS[0], [HERE], 0, verified=True)
    assert book.forget(PEERS[0])
    assert not book.forget(PEERS[0])
    assert known(book) == []


def test_what_is_no_peer_id_is_refused(book: PeerBook) -> None:
    with pytest.raises(DecodeError):
        book.seen(PeerId("nobody"), [HERE], 0, verified=False)


@pytest.mark.parametrize("damage", ["addresses = x'ff'", "addresses = x'01'", "addresses = x'8101'", "peer_id = 'x'"])
def test_a_damaged_row_is_passed_over_and_counted(home: Home, book: PeerBook, damage: str) -> None:
    book.seen(PEERS[0], [HERE], 0, verified=True)
    home.database.execute(f"UPDATE peers SET {damage}")
    book.seen(PEERS[1], [HERE], 0, verified=True)
    assert known(book) == [PEERS[1]]
    assert book.counters()["damaged"] == 1

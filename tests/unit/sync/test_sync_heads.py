from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.crypto.hashing import cid_of
from agent_world.sync.heads import PEERS_MAX, HeadTracker
from agent_world.wire.head import WorldHead
from agent_world.wire.ids import U64, Hash32, PeerId, TimeMs, WorldId


def head(height: int) -> WorldHead:
    return WorldHead(
        world_id=WorldId("w"), height=U64(height), block_hash=Hash32(bytes(32)), state_root=cid_of(b""),
        timestamp_ms=TimeMs(1),
    )  # fmt: skip


A, B, C = PeerId("a"), PeerId("b"), PeerId("c")


def test_a_claim_is_a_reason_to_ask_and_moves_nothing() -> None:
    heads = HeadTracker()
    assert heads.claim(A, head(5), 0) is True
    assert heads.network_committed_height == 0
    heads.certify(B, head(5), 1)
    assert heads.network_committed_height == 5
    assert heads.claim(A, head(5), 2) is False
    assert heads.claim(A, head(6), 3) is True


def test_what_is_proved_stays_proved() -> None:
    heads = HeadTracker()
    heads.certify(A, head(7), 0)
    heads.certify(A, head(3), 1)
    heads.forget(A)
    assert heads.network_committed_height == 7
    heads.raise_to(9)
    heads.raise_to(8)
    assert heads.network_committed_height == 9


def test_a_later_claim_keeps_what_the_peer_has_proved() -> None:
    heads = HeadTracker()
    heads.certify(A, head(4), 0)
    heads.claim(A, head(6), 1)
    told = heads.heads()[A]
    assert (told.head.height, told.certified_height, told.told_at_ms) == (6, 4, 1)


def test_sources_are_those_with_proof_first() -> None:
    heads = HeadTracker()
    heads.claim(A, head(100), 0)
    heads.certify(B, head(5), 0)
    heads.certify(C, head(6), 0)
    assert sorted(heads.sources(5)[:2]) == sorted([B, C])
    assert heads.sources(5)[2:] == [A]
    assert heads.sources(6) == [C, A]
    assert heads.sources(101) == []


def test_equal_sources_come_in_turn_from_height_to_height() -> None:  # G3.4, T-8.12
    heads = HeadTracker()
    for peer in (A, B, C):
        heads.claim(peer, head(20_000), 0)
    for stride in (1, 2, 3, 64):
        first = [heads.sources(height)[0] for height in range(1, 200 * stride, stride)]
        assert min(first.count(peer) for peer in (A, B, C)) > 40, stride
    assert heads.sources(77) == heads.sources(77)
    assert sorted(heads.sources(77)) == sorted([A, B, C])


def test_the_peer_told_longest_ago_is_dropped() -> None:
    heads = HeadTracker()
    peers = [PeerId(f"{number:05}") for number in range(PEERS_MAX + 3)]
    for now_ms, peer in enumerate(peers[:PEERS_MAX]):
        heads.claim(peer, head(1), now_ms)
    heads.claim(peers[0], head(2), PEERS_MAX)  # told again
    for peer in peers[PEERS_MAX:]:
        heads.claim(peer, head(1), PEERS_MAX + 1)
    assert len(heads.heads()) == PEERS_MAX
    assert peers[0] in heads.heads()
    assert not {peers[1], peers[2], peers[3]} & heads.heads().keys()


events = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.sampled_from(["claim", "certify", "gone"])))


@settings(deadline=None, max_examples=60)
@given(events)
def test_the_proved_height_never_falls_and_is_never_hearsay(items: list[tuple[str, int, str]]) -> None:
    heads, proved = HeadTracker(), 0
    for name, height, what in items:
        peer = PeerId(name)
        if what == "claim":
            assert heads.claim(peer, head(height), 0) is (height > proved)
        elif what == "certify":
            heads.certify(peer, head(height), 0)
            proved = max(proved, height)
        else:
            heads.forget(peer)
            assert peer not in heads.heads()
        assert heads.network_committed_height == proved
    assert all(attrs.asdict(told)["certified_height"] <= proved for told in heads.heads().values())

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.net.gossip_score import (
    FIRST_CAP,
    FIRST_WEIGHT,
    GRAYLIST_THRESHOLD,
    INVALID_HALF_LIFE_S,
    PEERS_MAX,
    TOPICS_MAX,
    GossipScores,
)
from agent_world.wire.ids import PeerId, PublicKey, peer_id_of

PEER = peer_id_of(PublicKey(bytes(32)))
TOPIC = "aw.w.action"


def peer(number: int) -> PeerId:
    return peer_id_of(PublicKey(number.to_bytes(32, "big")))


def test_a_stranger_stands_at_nothing_and_is_not_remembered() -> None:
    scores = GossipScores()
    assert scores.score(PEER, 5.0) == 0
    assert not scores.is_graylisted(PEER, 5.0)
    assert not scores._peers


def test_a_few_invalid_messages_are_forgiven_and_many_shut_the_door_for_a_while() -> None:
    scores = GossipScores()
    for _ in range(8):
        scores.invalid(PEER, TOPIC, 0.0)
        assert not scores.is_graylisted(PEER, 0.0)
    scores.invalid(PEER, TOPIC, 0.0)
    assert scores.is_graylisted(PEER, 0.0)
    assert not scores.is_graylisted(PEER, INVALID_HALF_LIFE_S)


def test_good_messages_weigh_little_against_bad_ones() -> None:
    scores = GossipScores()
    for _ in range(10_000):
        scores.delivered_first(PEER, TOPIC, 0.0)
    assert scores.score(PEER, 0.0) == FIRST_WEIGHT * FIRST_CAP < -GRAYLIST_THRESHOLD
    for _ in range(9):
        scores.invalid(PEER, TOPIC, 0.0)
    assert scores.is_graylisted(PEER, 0.0)


def test_the_worst_offender_is_heard_again_within_minutes() -> None:
    scores = GossipScores()
    for _ in range(10_000):
        scores.invalid(PEER, TOPIC, 0.0)
    assert scores.is_graylisted(PEER, 3 * INVALID_HALF_LIFE_S)
    assert not scores.is_graylisted(PEER, 4 * INVALID_HALF_LIFE_S)


def test_neighbours_and_topics_are_bounded() -> None:
    scores = GossipScores()
    for number in range(PEERS_MAX + 10):
        scores.delivered_first(peer(number), TOPIC, 0.0)
    assert len(scores._peers) == PEERS_MAX
    assert scores.score(peer(0), 0.0) == 0
    for number in range(10_000):
        scores.invalid(PEER, f"topic {number}", 0.0)
    assert len(scores._peers[PEER]) == TOPICS_MAX + 1


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=40))
def test_time_only_brings_a_score_nearer_to_nothing(steps: list[tuple[bool, float]]) -> None:
    scores = GossipScores()
    now_s = 0.0
    for is_good, passed_s in steps:
        now_s += passed_s
        (scores.delivered_first if is_good else scores.invalid)(PEER, TOPIC, now_s)
    before = scores._peers[PEER][TOPIC] if steps else None
    if before is not None:
        first, invalid = before.first, before.invalid
        scores.score(PEER, now_s + 10)
        assert 0 <= before.first <= first
        assert 0 <= before.invalid <= invalid
        scores.score(PEER, now_s)  # a clock that goes back changes nothing
        assert before.first <= first

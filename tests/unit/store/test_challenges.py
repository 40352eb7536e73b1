from __future__ import annotations

from pathlib import Path

import attrs

from agent_world.crypto.hashing import cid_of, hash32
from agent_world.distfs.challenge_policy import StorageChallengeAdaptivePolicy, TargetRecord
from agent_world.distfs.probe import ProbeCursorState
from agent_world.store import challenges
from agent_world.store.challenges import ChallengeBook
from agent_world.store.home import Home
from agent_world.testing.examples import key_of
from agent_world.wire.challenge import FailureReason
from agent_world.wire.ids import PeerId, peer_id_of

GENESIS = hash32(b"genesis")
PEERS = sorted(peer_id_of(key_of(f"target {number}").public_key) for number in range(4))
POLICY = StorageChallengeAdaptivePolicy(failure_backoff_base_ms=100, failure_backoff_max_ms=500)


def failed(now_ms: int) -> TargetRecord:
    return TargetRecord().after_round(POLICY, (), ((str(cid_of(b"a")), FailureReason.TIMEOUT),), now_ms)


def test_what_is_known_of_a_target_survives_a_restart(home_path: Path) -> None:
    with Home.open(home_path, GENESIS) as home:
        ChallengeBook(home).put_target(PEERS[1], failed(5))
        ChallengeBook(home).put_target(PEERS[0], failed(6))
        ChallengeBook(home).put_cursor(ProbeCursorState(rounds_executed=3))
    with Home.open(home_path, GENESIS) as home:
        book = ChallengeBook(home)
        assert book.targets() == {PEERS[0]: failed(6), PEERS[1]: failed(5)}
        assert book.targets()[PEERS[1]].backoff.backoff_until_unix_ms == 105
        assert book.cursor() == ProbeCursorState(rounds_executed=3)


def test_an_empty_home_knows_nothing(home: Home) -> None:
    assert (ChallengeBook(home).targets(), ChallengeBook(home).cursor()) == ({}, ProbeCursorState())


def test_damaged_rows_are_counted_and_passed_over(home: Home) -> None:
    book = ChallengeBook(home)
    book.put_target(PEERS[0], failed(5))
    book.put_cursor(ProbeCursorState(rounds_executed=3))
    with home.database.transaction():
        home.database.execute("UPDATE challenge_probe SET state = '{\"rounds_executed\": -1}'")
        home.database.execute("INSERT INTO challenge_targets VALUES (?, 'no json', 0)", (PEERS[1],))
        home.database.execute("INSERT INTO challenge_targets VALUES ('nobody', '{}', 0)")
    assert list(book.targets()) == [PEERS[0]]
    assert book.cursor() == ProbeCursorState()
    assert book.damaged == 3


def test_the_target_checked_longest_ago_makes_room(home: Home) -> None:
    book = ChallengeBook(home)
    for number in range(challenges.TARGETS_MAX + 1):
        peer = PeerId(peer_id_of(key_of(f"crowd {number}").public_key))
        with home.database.transaction():
            home.database.execute("INSERT INTO challenge_targets VALUES (?, '{}', ?)", (peer, number))
    book.put_target(PEERS[0], attrs.evolve(failed(5), last_checked_ms=10**6))
    assert len(book.targets()) == challenges.TARGETS_MAX
    assert PEERS[0] in book.targets()
    assert peer_id_of(key_of("crowd 0").public_key) not in book.targets()

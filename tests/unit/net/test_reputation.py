from __future__ import annotations

import pytest

from agent_world.net import reputation as module
from agent_world.net.reputation import BAN_BELOW, HALF_LIFE_MS, Offence, Reputation
from agent_world.wire.ids import PeerId

A, B = PeerId("a"), PeerId("b")
BAN_MS = 1_000_000


def faults_until_banned(offence: Offence, *, every_ms: int = 0, is_protected: bool = False, most: int = 200) -> int:
    reputation = Reputation(BAN_MS)
    for count in range(1, most + 1):
        if reputation.blame(A, offence, count * every_ms, is_protected=is_protected) is not None:
            return count
    return 0


@pytest.mark.parametrize("offence", list(Offence))
def test_every_offence_adds_up_to_a_ban(offence: Offence) -> None:
    assert faults_until_banned(offence) == int(-BAN_BELOW // offence.weight) + 1
    assert faults_until_banned(offence) > 2, "one fault is never enough"


@pytest.mark.parametrize("offence", list(Offence))
def test_a_fault_now_and_then_never_does(offence: Offence) -> None:
    assert faults_until_banned(offence, every_ms=HALF_LIFE_MS) == 0


@pytest.mark.parametrize("offence", list(Offence))
def test_protected_peers_are_banned_for_proven_faults_only(offence: Offence) -> None:
    assert bool(faults_until_banned(offence, is_protected=True)) == offence.proven


def test_scores_fade_by_half() -> None:
    reputation = Reputation(BAN_MS)
    assert reputation.score(A, 0) == 0
    reputation.blame(A, Offence.GARBAGE, 0, is_protected=False)
    assert reputation.score(A, 0) == -20
    assert reputation.score(A, HALF_LIFE_MS) == pytest.approx(-10)
    assert reputation.score(A, 3 * HALF_LIFE_MS) == pytest.approx(-2.5)
    assert reputation.score(B, 0) == 0


def test_a_ban_ends_and_leaves_nothing_behind() -> None:
    reputation = Reputation(BAN_MS)
    bans = [reputation.blame(A, Offence.WRONG_BYTES, 5, is_protected=False) for _ in range(8)]
    (ban,) = [ban for ban in bans if ban is not None]  # told once
    assert (ban.peer, ban.until_ms, ban.reason) == (A, BAN_MS + 5, "wrong bytes")
    assert reputation.bans(BAN_MS + 4) == (ban,)
    assert reputation.ban_of(A, BAN_MS + 5) is None
    assert reputation.bans(BAN_MS + 5) == ()
    assert reputation.score(A, BAN_MS + 5) == 0


def test_operators_ban_and_unban() -> None:
    reputation = Reputation(BAN_MS)
    reputation.ban(B, 10, "noise")
    reputation.ban(A, 20, "noise")
    assert [ban.peer for ban in reputation.bans(0)] == [A, B]
    reputation.blame(A, Offence.GARBAGE, 0, is_protected=False)
    assert reputation.unban(A)
    assert not reputation.unban(A)
    assert (reputation.ban_of(A, 0), reputation.score(A, 0)) == (None, 0)


def test_both_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCORED_MAX", 3)
    monkeypatch.setattr(module, "BANS_MAX", 2)
    reputation = Reputation(BAN_MS)
    for name in "abcd":
        reputation.blame(PeerId(name), Offence.GARBAGE, 0, is_protected=False)
    assert [reputation.score(PeerId(name), 0) for name in "abcd"] == [0, -20, -20, -20]
    for until_ms, name in enumerate("abc", 10):
        reputation.ban(PeerId(name), until_ms, "x")
    assert [ban.peer for ban in reputation.bans(0)] == [PeerId("b"), PeerId("c")]

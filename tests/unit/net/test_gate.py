from __future__ import annotations

import pytest
import trio

from agent_world.config import NetConfig
from agent_world.net import gate as module
from agent_world.net.counters import Counters
from agent_world.net.gate import Gate
from agent_world.net.rates import SURE_SHARE, RateClass
from agent_world.net.reputation import Ban, Offence
from agent_world.wire.ids import PeerId

A, B = PeerId("a"), PeerId("b")
CONFIG = NetConfig(requests_per_s=10, requests_burst=10, bytes_per_s=100, bytes_burst=1_000, ban_s=60)


class Rig:
    def __init__(self, config: NetConfig = CONFIG) -> None:
        self.now_s = 0.0
        self.counters = Counters()
        self.gate = Gate(config, self.counters, lambda: self.now_s)
        self.bans: list[Ban] = []
        self.away: list[PeerId] = []
        self.gate.banned = self.bans.append
        self.gate.turn_away = self.away.append


def test_rates_are_of_each_peer_and_class() -> None:
    rig = Rig()
    assert [rig.gate.admits(A, RateClass.REQUEST, 1) for _ in range(11)] == [True] * 10 + [False]
    assert rig.gate.admits(A, RateClass.MESSAGE, 1)
    assert rig.gate.admits(B, RateClass.REQUEST, 1)
    assert rig.counters.snapshot()["rate_limited.request"] == 1


WIDE = NetConfig(requests_per_s=80, requests_burst=80)


def crowd(rig: Rig, peers: int, each: int) -> list[int]:
    """How many of so many requests of every peer are let in, the peers taking turns."""
    let_in = [0] * peers
    for _ in range(each):
        for number in range(peers):
            let_in[number] += rig.gate.admits(PeerId(str(number)), RateClass.REQUEST, 1)
    return let_in


def test_one_busy_peer_gets_its_whole_rate_and_a_crowd_shares_it() -> None:
    assert crowd(Rig(WIDE), 1, 100) == [80]
    rig = Rig(WIDE)
    let_in = crowd(rig, 8, 80)
    assert sum(let_in) == 80 + 8 * 80 * SURE_SHARE, "the rate of one, and the sure share of each"
    assert max(let_in) - min(let_in) <= 1
    assert rig.counters.snapshot()["rate_crowded.request"] > 0
    assert "offence.rate" not in rig.counters.snapshot(), "the others are too many: nobody is to blame for it"


def test_a_quiet_peer_is_let_in_beside_a_crowd() -> None:
    rig = Rig(WIDE)
    crowd(rig, 8, 80)
    assert [rig.gate.admits(A, RateClass.REQUEST, 1) for _ in range(11)] == [True] * 10 + [False]


def test_a_protected_peer_has_its_whole_rate_beside_a_crowd() -> None:
    rig = Rig(WIDE)
    rig.gate.protect(lambda peer: peer == A)
    crowd(rig, 8, 80)
    assert sum(rig.gate.admits(A, RateClass.REQUEST, 1) for _ in range(100)) == 80


def test_bytes_count_over_all_classes_and_only_when_let_in() -> None:
    rig = Rig()
    assert rig.gate.admits(A, RateClass.REQUEST, 600)
    assert not rig.gate.admits(A, RateClass.MESSAGE, 500)
    assert rig.gate.admits(A, RateClass.GOSSIP, 400)
    assert not rig.gate.admits(A, RateClass.GOSSIP, 1)


def test_a_moment_above_the_rate_is_not_a_ban_but_lasting_abuse_is() -> None:
    rig = Rig()
    for _ in range(10_000):
        rig.gate.admits(A, RateClass.REQUEST, 0)
    assert rig.bans == []
    for second in range(1, 10):
        rig.now_s = float(second)
        for _ in range(100):
            rig.gate.admits(A, RateClass.REQUEST, 0)
    (ban,) = rig.bans
    assert (ban.peer, ban.reason, rig.away) == (A, "rate abuse", [A])
    assert rig.gate.is_banned(A)
    assert not rig.gate.is_banned(B)
    rig.now_s = 1_000.0
    assert not rig.gate.is_banned(A)
    assert rig.gate.bans() == ()


def test_protected_peers_are_throttled_and_stay() -> None:
    rig = Rig()
    rig.gate.protect(lambda peer: peer == A)
    for second in range(20):
        rig.now_s = float(second)
        assert sum(rig.gate.admits(A, RateClass.REQUEST, 0) for _ in range(100)) <= 10
    assert rig.bans == []
    for _ in range(6):
        rig.gate.blame(A, Offence.GARBAGE)
    assert [ban.reason for ban in rig.bans] == ["garbage"]


def test_the_table_of_times_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RATE_BLAMED_MAX", 5)
    rig = Rig()
    for number in range(20):
        for _ in range(11):
            rig.gate.admits(PeerId(str(number)), RateClass.REQUEST, 0)
    assert len(rig.gate._rate_blamed) <= 5


async def test_this_node_waits_and_stays_below_what_others_accept(autojump_clock: trio.testing.MockClock) -> None:
    sender = Gate(CONFIG, counters := Counters(), trio.current_time)
    receiver = Gate(CONFIG, Counters(), trio.current_time)
    for _ in range(100):
        await sender.pace(A, RateClass.REQUEST, 5)
        assert receiver.admits(B, RateClass.REQUEST, 5)
    assert counters.snapshot()["own_rate_waited"] > 0
    assert trio.current_time() > 8


def test_operators_bans() -> None:
    rig = Rig()
    rig.gate.ban(A, 500, "noise")
    assert rig.away == [A]
    assert rig.bans == []  # whoever says so notes it
    ban = rig.gate.ban_of(A)
    assert ban is not None
    assert ban.reason == "noise"
    assert rig.gate.shown()["banned"] == 1
    assert rig.gate.unban(A)
    assert not rig.gate.is_banned(A)


async def test_a_peer_may_be_slowed_down_instead_of_refused(autojump_clock: trio.testing.MockClock) -> None:
    config = NetConfig(content_requests_per_s=10, content_requests_burst=2, bytes_per_s=100, bytes_burst=1_000)
    counters = Counters()
    gate = Gate(config, counters, trio.current_time)
    started = trio.current_time()
    for _ in range(2):
        await gate.slow_down(A, RateClass.CONTENT, 1)
    assert trio.current_time() == started
    for _ in range(5):
        await gate.slow_down(A, RateClass.CONTENT, 1)
    assert trio.current_time() - started == pytest.approx(0.5, abs=0.01)
    await gate.slow_down(A, RateClass.CONTENT, 1_000)
    await gate.slow_down(A, RateClass.CONTENT, 100)
    assert trio.current_time() - started >= 1.0, "bytes count, too"
    assert counters.snapshot()["rate_slowed.content"] > 0
    assert "offence.rate" not in counters.snapshot()

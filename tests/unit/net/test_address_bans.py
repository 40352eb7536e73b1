from __future__ import annotations

import pytest

from agent_world.net import address_bans as module
from agent_world.net.address_bans import SHUT, SLOW, SLOWED, TRICKLE, AddressBans
from agent_world.wire.ids import PeerId

HERE, ELSEWHERE = "10.0.0.1", "10.0.0.2"
MEMORY_S = 3_600.0


def after(count: int, *, at_s: float = 0.0) -> AddressBans:
    bans = AddressBans(6, MEMORY_S)
    for number in range(count):
        bans.note(HERE, PeerId(str(number)), at_s)
    return bans


def let_in(bans: AddressBans, seconds: int, address: str = HERE) -> int:
    """Of one try every second."""
    return sum(bans.refusal(address, float(second)) is None for second in range(seconds))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_one_bad_peer_or_two_do_not_make_a_bad_address(count: int) -> None:
    bans = after(count)
    assert let_in(bans, 100) == 100
    assert bans.reason(HERE, 0.0) is None


@pytest.mark.parametrize("count", [3, 4, 5])
def test_from_half_of_the_bans_on_few_get_in(count: int) -> None:
    bans = after(count)
    assert let_in(bans, 100) == pytest.approx(SLOW.burst + 100 * SLOW.per_s, abs=1)
    assert bans.refusal(HERE, 100.0) in (None, SLOWED)
    assert bans.reason(HERE, 0.0) == f"bans of peers at 10.0.0.1: {count}; one new connection in 10 s"
    assert bans.shown(0.0) == {"slowed": 1, "shut": 0}


def test_then_nobody_and_other_addresses_do_not_suffer() -> None:
    bans = after(6)
    assert let_in(bans, 1_000) == 0
    assert bans.refusal(HERE, 1_000.0) == SHUT
    assert let_in(bans, 1_000, ELSEWHERE) == 1_000
    assert bans.reason(HERE, 600.0) == "bans of peers at 10.0.0.1: 6; no new connections for 3000 s"
    assert bans.shown(0.0) == {"slowed": 0, "shut": 1}


def test_an_honest_peer_from_there_leaves_a_trickle_for_its_neighbours() -> None:
    bans = after(6)
    bans.tell((), {HERE}, 0.0)
    assert let_in(bans, 600) == pytest.approx(600 * TRICKLE.per_s, abs=1)
    assert "one new connection in 60 s" in str(bans.reason(HERE, 0.0))
    bans.tell((), (), 600.0)
    assert bans.refusal(HERE, 10_000.0) is None
    assert after(6).refusal(HERE, 0.0) == SHUT


def test_addresses_of_protected_peers_are_spared_as_long_as_bans_are_remembered() -> None:
    bans = after(6)
    bans.tell({HERE}, (), 0.0)
    assert bans.refusal(HERE, 1.0) is None
    assert bans.reason(HERE, 1.0) is None
    bans = AddressBans(6, MEMORY_S)
    bans.tell({HERE}, (), 0.0)
    for number in range(6):
        bans.note(HERE, PeerId(str(number)), 5.0)
    assert bans.refusal(HERE, MEMORY_S + 1) is None, "what was done beside a protected peer is not held against it"
    for number in range(6):
        bans.note(HERE, PeerId(str(number)), MEMORY_S + 1)
    assert bans.refusal(HERE, MEMORY_S + 2) == SHUT


def test_bans_are_forgotten_one_by_one() -> None:
    bans = AddressBans(2, 60.0)
    bans.note(HERE, PeerId("a"), 0.0)
    bans.note(HERE, PeerId("b"), 30.0)
    assert bans.refusal(HERE, 59.0) == SHUT
    assert bans.refusal(HERE, 60.0) is None
    assert bans.reason(HERE, 61.0) == "bans of peers at 10.0.0.1: 1; one new connection in 10 s"
    assert bans.reason(HERE, 91.0) is None
    assert bans.address_of(PeerId("b")) is None


def test_a_ban_taken_back_counts_no_more() -> None:
    bans = after(6)
    assert bans.address_of(PeerId("3")) == HERE
    bans.forgive(PeerId("3"))
    assert bans.refusal(HERE, 0.0) is None
    assert bans.address_of(PeerId("3")) is None
    for number in range(6):
        bans.forgive(PeerId(str(number)))
    assert bans.shown(0.0) == {"slowed": 0, "shut": 0}


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ADDRESSES_MAX", 5)
    bans = AddressBans(2, MEMORY_S)
    for number in range(20):
        for name in ("a", "b", "c"):
            bans.note(f"10.0.1.{number}", PeerId(name), 0.0)
        bans.tell({f"10.0.2.{number}"}, (), 0.0)
    assert bans.shown(0.0) == {"slowed": 0, "shut": 5}
    assert len(bans._trusted) == 5

from __future__ import annotations

import attrs
import pytest

from agent_world.config import NetConfig
from agent_world.net.address_bans import SHUT, AddressBans
from agent_world.net.doors import FAILED_HANDSHAKES, Doors, Visit, network_of
from agent_world.wire.ids import PeerId

CONFIG = NetConfig(
    connections_per_ip_max=6,
    handshakes_per_ip_max=4,
    handshakes_max=10,
    connects_per_ip_per_s=1,
    connects_per_ip_burst=50,
)


def doors_of(config: NetConfig) -> Doors:
    return Doors(config, AddressBans(config.bans_per_ip_max, config.ban_s))


def entered(doors: Doors, ip: str, count: int) -> list[Visit]:
    visits = [doors.enter(ip, 0.0) for _ in range(count)]
    return [visit for visit in visits if isinstance(visit, Visit)]


def test_handshakes_of_one_address_and_of_all() -> None:
    doors = doors_of(CONFIG)
    assert len(entered(doors, "10.0.0.1", 20)) == 4
    assert len(entered(doors, "10.0.0.2", 20)) == 4
    assert len(entered(doors, "10.0.0.3", 20)) == 2
    assert doors.enter("10.0.0.4", 0.0) == "connection_limit_handshakes"
    assert doors.shown()["handshakes"] == 10


def test_an_upgraded_connection_frees_its_handshake_and_keeps_its_place() -> None:
    doors = doors_of(CONFIG)
    for _ in range(6):
        (visit,) = entered(doors, "10.0.0.1", 1)
        visit.upgraded()
        visit.upgraded()
    assert doors.shown()["handshakes"] == 0
    assert doors.enter("10.0.0.1", 0.0) == "connection_limit_per_address"
    doors.leave(visit, 0.0)
    assert entered(doors, "10.0.0.1", 1)
    assert entered(doors, "10.0.0.2", 1)


def test_nothing_is_left_of_who_has_left() -> None:
    doors = doors_of(CONFIG)
    visits = entered(doors, "10.0.0.1", 4)
    visits[0].upgraded()
    for visit in visits:
        doors.leave(visit, 0.0)
        visit.upgraded()  # by a task that the connection left behind
    assert doors.shown() == {"addresses": 0, "connections": 0, "handshakes": 0, "refused": {}}


def test_failing_handshakes_make_an_address_wait() -> None:
    doors = doors_of(attrs.evolve(CONFIG, connects_per_ip_burst=1_000))
    for _ in range(int(FAILED_HANDSHAKES.burst)):
        (visit,) = entered(doors, "10.0.0.1", 1)
        doors.leave(visit, 0.0)
    assert doors.enter("10.0.0.1", 0.0) == "connection_limit_failed_handshakes"
    assert isinstance(doors.enter("10.0.0.2", 0.0), Visit)
    assert isinstance(doors.enter("10.0.0.1", 1 / FAILED_HANDSHAKES.per_s), Visit)
    assert doors.shown()["refused"] == {"connection_limit_failed_handshakes": 1}


def test_the_rate_of_one_address() -> None:
    doors = doors_of(CONFIG)
    for _ in range(CONFIG.connects_per_ip_burst):
        (visit,) = entered(doors, "10.0.0.1", 1)
        visit.upgraded()
        doors.leave(visit, 0.0)
    assert doors.enter("10.0.0.1", 0.5) == "connection_limit_rate"
    assert isinstance(doors.enter("10.0.0.1", 2.0), Visit)


def test_an_address_whose_peers_were_banned() -> None:
    bans = AddressBans(2, 60.0)
    doors = Doors(CONFIG, bans)
    for name in ("a", "b"):
        bans.note("10.0.0.1", PeerId(name), 0.0)
    assert doors.enter("10.0.0.1", 1.0) == SHUT
    assert isinstance(doors.enter("10.0.0.2", 1.0), Visit)
    assert doors.shown()["refused"] == {SHUT: 1}


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_what_counts_as_one_address(ip: str, network: str) -> None:
    assert network_of(ip) == network

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

import attrs
import pytest

from agent_world.net.interface import DistributedNetwork
from agent_world.node.clock import Clock
from agent_world.node.links import (
    HEARD_MAX,
    KEEPER_DIALS_MAX,
    LINKS_ENOUGH,
    OWN_DIALS,
    PATIENCE_MS,
    SETTLE_MS,
    VALIDATOR_DIALS_MAX,
    Links,
)
from agent_world.wire.ids import PeerId, PublicKey, peer_id_of

HELLO_S = 2.0
IDS = sorted(peer_id_of(PublicKey(number.to_bytes(32, "big"))) for number in range(200))
OWN, OTHERS = IDS[0], IDS[1:]
"""Below all others, so that this node is the one of each pair that dials."""


@attrs.define
class FakeNetwork:
    peer_id: PeerId = OWN
    dialled: list[tuple[PeerId, str]] = attrs.Factory(list)
    forgotten: list[PeerId] = attrs.Factory(list)

    def dial(self, peer: PeerId, address: str) -> None:
        self.dialled.append((peer, address))

    def forget(self, peer: PeerId) -> None:
        self.forgotten.append(peer)

    def peers_dialled(self) -> list[PeerId]:
        return [peer for peer, _ in self.dialled]


class FakeClock(Clock):
    at_ms = 0

    def now_ms(self) -> int:
        return self.at_ms


class Rig:
    def __init__(self, peer_id: PeerId = OWN) -> None:
        self.network = FakeNetwork(peer_id)
        self.clock = FakeClock()
        self.counted: Counter[str] = Counter()

        def count(name: str) -> None:
            self.counted[name] += 1

        self.links = Links(cast(DistributedNetwork, self.network), self.clock, HELLO_S, count)

    def hear(self, peers: Iterable[PeerId], *, is_validator: bool = False) -> None:
        for peer in peers:
            self.links.learn(peer, f"/dns/{peer[-6:]}/tcp/1", is_validator=is_validator)

    def tend(self, linked: Iterable[PeerId] = (), **options: Any) -> None:
        self.links.tend(dict.fromkeys(linked, False), **{"is_validator": False, **options})


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_few_of_many_are_dialled_and_once_only(rig: Rig) -> None:
    rig.hear(OTHERS[:20])
    rig.tend()
    assert len(rig.network.dialled) == OWN_DIALS
    rig.tend(rig.network.peers_dialled())
    assert len(rig.network.dialled) == OWN_DIALS


def test_every_node_prefers_others_and_the_same_after_a_restart() -> None:
    chosen = []
    for own in (OWN, OTHERS[0], OWN):
        rig = Rig(own)
        rig.hear(OTHERS[1:50])
        rig.tend()
        chosen.append(rig.network.peers_dialled())
    assert chosen[0] == chosen[2] != chosen[1]


def test_who_has_links_enough_dials_nobody(rig: Rig) -> None:
    rig.hear(OTHERS[50:])
    rig.tend(OTHERS[:LINKS_ENOUGH])
    assert not rig.network.dialled
    rig.tend(OTHERS[: LINKS_ENOUGH - 1])
    assert len(rig.network.dialled) == OWN_DIALS


def test_of_a_pair_the_higher_id_waits_for_a_hello() -> None:
    rig = Rig(IDS[-1])
    rig.hear(OTHERS[:2])
    rig.tend()
    assert not rig.network.dialled
    rig.clock.at_ms += int(HELLO_S * 1000)
    rig.tend()
    assert set(rig.network.peers_dialled()) == set(OTHERS[:2])


def test_a_dial_that_comes_to_nothing_is_replaced_and_then_let_go(rig: Rig) -> None:
    rig.hear(OTHERS[:20])
    rig.tend()
    dead = rig.network.peers_dialled()
    rig.clock.at_ms += SETTLE_MS
    rig.tend()
    assert len(rig.network.dialled) == 2 * OWN_DIALS
    rig.clock.at_ms += PATIENCE_MS - SETTLE_MS
    rig.tend()
    assert rig.network.forgotten == dead
    assert rig.counted["links.let_go"] == OWN_DIALS


def test_who_is_linked_to_nobody_goes_on_through_all_it_has_heard_of(rig: Rig) -> None:
    rig.hear(OTHERS[:20])
    for _ in range(20):
        rig.tend()
        rig.clock.at_ms += SETTLE_MS
    assert set(rig.network.peers_dialled()) == set(OTHERS[:20])


def test_a_lost_link_is_waited_for_and_replaced_meanwhile(rig: Rig) -> None:
    rig.hear(OTHERS[:20])
    rig.tend()
    own = rig.network.peers_dialled()
    rig.tend(own)
    rig.clock.at_ms += SETTLE_MS
    rig.tend(own[1:])
    assert len(rig.network.dialled) == OWN_DIALS + 1
    assert not rig.network.forgotten
    # It comes back: one link more than wanted, of which one is not kept any longer.
    rig.tend(rig.network.peers_dialled())
    assert len(rig.network.forgotten) == 1
    assert rig.counted["links.surplus"] == 1


def test_what_the_operator_chose_is_kept_for_ever(rig: Rig) -> None:
    rig.links.choose(OTHERS[0], "/dns/boot/tcp/1")
    rig.clock.at_ms += 10 * PATIENCE_MS
    rig.tend()
    assert not rig.network.forgotten


def test_validators_dial_each_other_beyond_their_few(rig: Rig) -> None:
    voters = OTHERS[:10]
    rig.hear(voters, is_validator=True)
    rig.hear(OTHERS[50:])
    rig.tend(OTHERS[20 : 20 + LINKS_ENOUGH], is_validator=True)
    assert set(rig.network.peers_dialled()) == set(voters)


def test_a_liar_cannot_make_a_validator_dial_without_end(rig: Rig) -> None:
    rig.hear(OTHERS, is_validator=True)
    rig.tend(is_validator=True)
    rig.tend(is_validator=True)
    assert len(rig.network.dialled) == VALIDATOR_DIALS_MAX


def test_links_between_validators_are_no_surplus(rig: Rig) -> None:
    voters = OTHERS[:10]
    rig.hear(voters, is_validator=True)
    rig.tend(is_validator=True)
    rig.links.tend(dict.fromkeys(voters, True), is_validator=True)
    assert not rig.network.forgotten


def test_a_new_address_of_a_dialled_peer_is_passed_on(rig: Rig) -> None:
    rig.hear(OTHERS[:1])
    rig.tend()
    rig.links.learn(OTHERS[0], "/dns/new/tcp/1", is_validator=False)
    assert rig.network.dialled[-1] == (OTHERS[0], "/dns/new/tcp/1")


def test_all_addresses_of_a_remembered_peer_are_tried_at_once() -> None:
    rig = Rig(IDS[-1])
    rig.links.remember(OTHERS[0], ("/dns/a/tcp/1", "/dns/b/tcp/1"))
    rig.links.remember(OTHERS[1], ())
    rig.tend()
    assert rig.network.dialled == [(OTHERS[0], "/dns/a/tcp/1"), (OTHERS[0], "/dns/b/tcp/1")]


def test_a_node_does_not_dial_itself(rig: Rig) -> None:
    rig.hear([OWN])
    rig.tend()
    assert not rig.network.dialled


def test_what_was_heard_of_is_bounded(rig: Rig) -> None:
    for number in range(1, HEARD_MAX + 4):
        rig.links.learn(peer_id_of(PublicKey(number.to_bytes(32, "little"))), "/dns/x/tcp/1", is_validator=False)
    assert rig.counted["links.heard_dropped"] == 3


def test_storage_nodes_that_share_content_are_dialled_beside_the_few(rig: Rig) -> None:
    rig.hear(OTHERS[:60])
    rig.tend(OTHERS[100 : 100 + LINKS_ENOUGH])
    for peer in OTHERS[:60]:
        rig.links.keep(peer)
    assert len(rig.network.dialled) == KEEPER_DIALS_MAX
    kept = rig.network.peers_dialled()
    rig.tend(kept)
    assert rig.network.forgotten == [], "they are no surplus"
    assert not set(kept) & set(rig.links.heard())
    rig.links.keep(OTHERS[150])
    assert len(rig.network.dialled) == KEEPER_DIALS_MAX, "nobody has named it"


def test_a_few_others_are_dialled_beside_storage_nodes(rig: Rig) -> None:
    rig.hear(OTHERS[:20])
    rig.links.keep(OTHERS[0])
    rig.tend()
    assert len(rig.network.dialled) == 1 + OWN_DIALS


def test_a_storage_node_that_stays_away_is_let_go_and_makes_room(rig: Rig) -> None:
    rig.hear(OTHERS[:KEEPER_DIALS_MAX])
    for peer in OTHERS[:KEEPER_DIALS_MAX]:
        rig.links.keep(peer)
    rig.clock.at_ms += PATIENCE_MS
    rig.tend(OTHERS[1:KEEPER_DIALS_MAX])
    assert rig.network.forgotten == [OTHERS[0]]
    rig.hear([OTHERS[70]])
    rig.links.keep(OTHERS[70])
    assert rig.network.peers_dialled()[-1] == OTHERS[70]

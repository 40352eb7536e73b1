from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from agent_world.handlers.consensus import CHANNEL
from agent_world.node.clock import Clock
from agent_world.node.courier import GOSSIP_QUEUE_MAX, Courier
from agent_world.node.ledger import Ledger
from agent_world.node.peering import Peering
from agent_world.node.rumours import BURST_MAX
from agent_world.wire.ids import PeerId, PublicKey, peer_id_of

PEERS = [peer_id_of(PublicKey(bytes([number]) * 32)) for number in range(1, 4)]


class Network:
    """Takes what is sent; publishing waits until it is let go."""

    def __init__(self) -> None:
        self.sent: list[tuple[PeerId, bytes]] = []
        self.published: list[tuple[str, bytes]] = []
        self.reachable = set(PEERS)
        self.let_go = trio.Event()

    def send(self, peer: PeerId, channel: str, payload: bytes) -> bool:
        assert channel == CHANNEL
        if peer in self.reachable:
            self.sent.append((peer, payload))
        return peer in self.reachable

    async def publish(self, topic: str, data: bytes) -> None:
        await self.let_go.wait()
        self.published.append((topic, data))


def courier_of(network: Network, linked: Sequence[PeerId], *, validators: int = 4) -> Courier:
    peering = SimpleNamespace(validators=lambda: list(linked))
    members = SimpleNamespace(record=SimpleNamespace(validators=(None,) * validators))
    ledger = SimpleNamespace(world_id="w", validators=members)
    clock = SimpleNamespace(now_ms=lambda: 0)
    return Courier(cast(Any, network), cast(Peering, peering), cast(Ledger, ledger), cast(Clock, clock))


def test_every_linked_validator_gets_a_message_at_once() -> None:
    network = Network()
    courier = courier_of(network, PEERS)
    courier.broadcast(b"vote")
    assert network.sent == [(peer, b"vote") for peer in PEERS]


def test_who_cannot_be_reached_is_counted() -> None:
    network = Network()
    network.reachable = set(PEERS[:1])
    courier = courier_of(network, PEERS)
    courier.broadcast(b"vote")
    assert courier.counters["consensus.send_failed"] == 2


def test_a_newcomer_is_shown_what_was_sent_before_it_came() -> None:
    network = Network()
    courier = courier_of(network, PEERS)
    courier.show(PEERS[1], [b"proposal", b"vote"])
    assert network.sent == [(PEERS[1], b"proposal"), (PEERS[1], b"vote")]
    assert courier.counters["consensus.shown"] == 2


@pytest.mark.parametrize(("size", "kind"), [(200, "attestation"), (700, "proposal")])
async def test_without_links_to_a_quorum_messages_go_by_gossip(size: int, kind: str, autojump_clock: object) -> None:
    network = Network()
    network.let_go.set()
    courier = courier_of(network, PEERS[:1])
    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(courier.run)
            courier.broadcast(bytes(size))
    assert network.published == [(f"aw.w.consensus.{kind}", bytes(size))]
    assert courier.counters["consensus.gossiped"] == 1


async def test_slow_gossip_holds_nobody_up(autojump_clock: object) -> None:
    network = Network()
    courier = courier_of(network, [])
    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(courier.run)
            for number in range(BURST_MAX):
                courier.broadcast(b"%d" % number)
                await trio.lowlevel.checkpoint()
    assert not network.published
    assert BURST_MAX < GOSSIP_QUEUE_MAX

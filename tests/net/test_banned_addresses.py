"""Offenders that come back with a fresh key from one address, and the honest peers beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import trio
from attackers import From

from agent_world.config import MINIMAL
from agent_world.net.address_bans import SHUT, SLOW
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.net.libp2p.requests import KEPT_PROTOCOL
from agent_world.net.libp2p.streams import framed, write_bytes
from agent_world.wire.limits import MIB

BAD, GOOD = "127.0.0.20", "127.0.0.21"
CONFIG = attrs.evolve(MINIMAL.net, bans_per_ip_max=4)


@asynccontextmanager
async def peer(node: Libp2pNetwork, key: Any, source: str) -> AsyncIterator[Libp2pNetwork]:
    """A peer that dials ``node`` from ``source``, again and again until it is let in."""
    async with Libp2pNetwork.open(attrs.evolve(CONFIG, listen=()), key, transport=From(source)) as network:
        network.dial(node.peer_id, node.listen_addresses()[0])
        yield network


async def is_let_in(node: Libp2pNetwork, key: Any, source: str, until: Any) -> bool:
    """What the node decides, however long it takes to come to that."""
    refused = node.counters().get(SHUT, 0)
    async with peer(node, key, source) as network:

        def is_refused() -> bool:
            return bool(network.counters().get("dial_failed")) and node.counters().get(SHUT, 0) > refused

        await until(lambda: network.host.is_connected(node.peer_id) or is_refused())
        return network.host.is_connected(node.peer_id)


async def offend(node: Libp2pNetwork, key: Any, until: Any) -> None:
    """Break the framing until the ban."""
    banned = len(node.gate.bans())
    async with peer(node, key, BAD) as network:
        await until(lambda: network.host.is_connected(node.peer_id))
        while len(node.gate.bans()) == banned:
            stream = await network.host.open_stream(node.peer_id, KEPT_PROTOCOL)
            faults = node.counters().get("request_bad_frame", 0)
            await write_bytes(stream, framed(bytes(MIB))[:100])
            await until(lambda faults=faults: node.counters().get("request_bad_frame", 0) > faults)


async def test_a_fresh_key_does_not_help_for_ever(networks: Any, new_key: Any, until: Any) -> None:
    async with networks(1, config=CONFIG) as (node,), AsyncExitStack() as stack:
        honest = await stack.enter_async_context(peer(node, new_key(), BAD))
        await until(lambda: honest.host.is_connected(node.peer_id))
        ups = node.counters()["connection_up"]
        for _ in range(CONFIG.bans_per_ip_max):
            node.gate.address_bans._slow.of(BAD, trio.current_time()).tokens = SLOW.burst  # no real time is waited for
            await offend(node, new_key(), until)
        assert node.counters()["connection_up"] == ups + CONFIG.bans_per_ip_max

        assert not await is_let_in(node, new_key(), BAD, until)
        assert node.counters()[SHUT] >= 1
        assert node.gate.shown()["inbound"]["by_bans"] == {"slowed": 0, "shut": 1}
        assert "no new connections" in str(node.gate.address_limit(honest.peer_id))
        assert honest.host.is_connected(node.peer_id), "whoever is connected stays"
        assert await is_let_in(node, new_key(), GOOD, until), "other addresses do not suffer"

        node.gate.tell_addresses((), {BAD})
        assert await is_let_in(node, new_key(), BAD, until), "the neighbour of an honest peer"
        assert not await is_let_in(node, new_key(), BAD, until), "one a minute"
        node.gate.tell_addresses({BAD}, ())
        assert await is_let_in(node, new_key(), BAD, until), "a protected peer is connected from there"


async def test_timeouts_and_silence_are_held_against_no_address(networks: Any, new_key: Any, until: Any) -> None:
    async with networks(1, config=CONFIG) as (node,):
        for _ in range(2 * CONFIG.bans_per_ip_max):
            async with peer(node, new_key(), BAD) as network:
                await until(lambda network=network: network.host.is_connected(node.peer_id))
                stream = await network.host.open_stream(node.peer_id, KEPT_PROTOCOL)
                await write_bytes(stream, framed(bytes(1_000))[:100])
        assert node.gate.shown()["inbound"]["by_bans"] == {"slowed": 0, "shut": 0}
        assert await is_let_in(node, new_key(), BAD, until)

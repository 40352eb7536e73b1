"""One node of the memory row: it sends a mix of messages as it is told, and counts what it takes.

    python -m bench.memory_node SEED

Commands, a JSON line each: {"dial": [[peer, address], ...]}, {"mix": {"to", "gossip", "others", "size"}},
{"tally": true}.
Settings are those of a node, the limits of rates among them.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import trio

from agent_world.config import MAINNET
from agent_world.crypto.keys import KeyPair
from agent_world.errors import Refused
from agent_world.net.interface import Verdict
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import MIB
from bench.gossip_node import TOPIC, lines, say

ASKERS = 8


class Taken(Counter[str]):
    """Messages taken here, by kind; nothing of them is kept."""

    def gossip(self, _source: PeerId, _data: bytes) -> Verdict:
        self["gossip"] += 1
        return Verdict.ACCEPT

    async def request(self, _peer: PeerId, payload: bytes) -> bytes:
        self["requests"] += 1
        return payload

    async def message(self, _peer: PeerId, _payload: bytes) -> None:
        self["messages"] += 1


async def mix(network: Libp2pNetwork, to: PeerId, gossip: int, others: int, size: int) -> int:
    """So many gossip messages, and ``others`` requests and one-way messages each; how many were sent."""
    sent = 0

    async def ask() -> None:
        nonlocal sent
        for _ in range(others // ASKERS):
            try:
                await network.request(to, "echo", os.urandom(size))
            except Refused:
                continue
            sent += 1

    async with trio.open_nursery() as nursery:
        for _ in range(ASKERS):
            nursery.start_soon(ask)
        for number in range(max(gossip, others)):
            if number < gossip:
                await network.publish(TOPIC, os.urandom(size))
            sent += (number < gossip) + (number < others and network.send(to, "count", os.urandom(size)))
            if number % 40 == 0:
                await trio.sleep(0.01)
    return sent


def rss_mib() -> float:
    """Resident memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MIB


async def main(seed: int) -> None:
    taken = Taken()
    async with Libp2pNetwork.open(MAINNET.net, KeyPair(seed.to_bytes(32, "big"))) as network:
        inbox = await network.subscribe(TOPIC, taken.gossip)
        network.serve("echo", taken.request)
        network.on_message("count", taken.message)
        say({"peer": network.peer_id, "address": network.listen_addresses()[0]})
        async for line in lines():
            inbox.drain()
            say(await obey(network, taken, json.loads(line)))


async def obey(network: Libp2pNetwork, taken: Taken, command: dict[str, Any]) -> dict[str, Any]:
    if "dial" in command:
        for peer, address in command["dial"]:
            network.dial(PeerId(peer), address)
    elif "mix" in command:
        return {"sent": await mix(network, **command["mix"])}
    return {"taken": taken.total(), "by_kind": dict(taken), "rss_mib": rss_mib()}


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))

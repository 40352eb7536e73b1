"""One node of the network row: its network and nothing else.

    python -m bench.net_node SEED PARTS

PARTS are the faster parts of the library, joined by commas, or "none", without limits of rates; "defaults" are the
settings of a node. It prints one line,
{"peer": ..., "address": ...}, and serves until its input ends: ``echo``, a body of as many bytes as asked, messages
that are counted, and messages that are sent back.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator

import attrs
import trio

from agent_world.config import MAINNET, NetConfig
from agent_world.crypto.keys import KeyPair
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import KIB

PART = bytes(256 * KIB)
UNLIMITED = 10**12
DEFAULTS = "defaults"


def config_of(parts: str) -> NetConfig:
    """Network settings with the faster parts of this text, and without limits of rates; or a node's own settings."""
    if parts == DEFAULTS:
        return MAINNET.net
    return attrs.evolve(
        MAINNET.net,
        faster=tuple(parts.split(",")) if parts != "none" else (),
        requests_per_s=float(UNLIMITED),
        requests_burst=UNLIMITED,
        messages_per_s=float(UNLIMITED),
        messages_burst=UNLIMITED,
        bytes_per_s=float(UNLIMITED),
        bytes_burst=UNLIMITED,
    )


def serve(network: Libp2pNetwork) -> None:
    """What the row asks of a node."""
    counted = 0

    async def echo(_peer: PeerId, payload: bytes) -> bytes:
        return payload

    async def count(_peer: PeerId, _payload: bytes) -> None:
        nonlocal counted
        counted += 1

    async def tell_count(_peer: PeerId, _payload: bytes) -> bytes:
        return counted.to_bytes(8, "big")

    async def send_back(peer: PeerId, payload: bytes) -> None:
        network.send(peer, "back", payload)

    async def body(_peer: PeerId, payload: bytes) -> AsyncIterator[bytes]:
        for _ in range(int.from_bytes(payload, "big") // len(PART)):
            yield PART

    network.serve("echo", echo)
    network.serve("count", tell_count)
    network.serve_body("body", body)
    network.on_message("count", count)
    network.on_message("round", send_back)


async def main(seed: int, parts: str) -> None:
    async with Libp2pNetwork.open(config_of(parts), KeyPair(seed.to_bytes(32, "big"))) as network:
        serve(network)
        print(json.dumps({"peer": network.peer_id, "address": network.listen_addresses()[0]}), flush=True)
        await trio.lowlevel.wait_readable(sys.stdin.fileno())


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), sys.argv[2])

"""One node of the gossip row: it publishes and listens as it is told, a JSON line a command, a JSON line an answer.

    python -m bench.gossip_node SEED

Commands: {"dial": [[peer, address], ...]}, {"publish": {"count", "size", "per_s"}} (0 a second: as fast as it goes),
{"report": true}. A message carries the time at which it was published; all processes of a machine share that clock.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import attrs
import trio

from agent_world.config import MAINNET
from agent_world.crypto.keys import KeyPair
from agent_world.net.interface import Verdict
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.wire.ids import PeerId

TOPIC = "aw.w.bench"


@attrs.define
class Heard:
    """What came here: delays in milliseconds by publisher."""

    delays_ms: dict[str, list[float]] = attrs.Factory(dict)
    first_ns: int = 0
    last_ns: int = 0

    def take(self, source: PeerId, data: bytes) -> Verdict:
        """The validator of the topic."""
        now_ns = time.monotonic_ns()
        self.first_ns = self.first_ns or now_ns
        self.last_ns = now_ns
        self.delays_ms.setdefault(source, []).append((now_ns - int.from_bytes(data[:8], "big")) / 1e6)
        return Verdict.ACCEPT


async def publish(network: Libp2pNetwork, count: int, size: int, per_s: float) -> float:
    """Publish at an even pace; seconds that it took."""
    started = trio.current_time()
    for number in range(count):
        if per_s:
            await trio.sleep_until(started + number / per_s)
        await network.publish(TOPIC, time.monotonic_ns().to_bytes(8, "big") + bytes(size - 8))
    return trio.current_time() - started


async def lines() -> AsyncIterator[str]:
    """Standard input, line by line."""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stream:
        waiting = b""
        async for part in stream:
            *whole, waiting = (waiting + part).split(b"\n")
            for line in whole:
                yield line.decode()


async def main(seed: int) -> None:
    heard = Heard()
    async with Libp2pNetwork.open(MAINNET.net, KeyPair(seed.to_bytes(32, "big"))) as network:
        inbox = await network.subscribe(TOPIC, heard.take)
        say({"peer": network.peer_id, "address": network.listen_addresses()[0]})
        async for line in lines():
            inbox.drain()
            say(await obey(network, heard, json.loads(line)))


async def obey(network: Libp2pNetwork, heard: Heard, command: dict[str, Any]) -> dict[str, Any]:
    if "dial" in command:
        for peer, address in command["dial"]:
            network.dial(PeerId(peer), address)
    elif "publish" in command:
        return {"seconds": await publish(network, **command["publish"])}
    links = len(network.peers())
    return {**attrs.asdict(heard), "links": links, "counters": dict(network.counters())}


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))

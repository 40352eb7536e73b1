"""The target of the challenge row: a file in a store on disk, an echo, and the two methods of protocols/challenge.

    python -m bench.challenge_node HOME MIB

It makes a home in HOME with a file of MIB mebibytes, prints {"peer": ..., "address": ..., "content": ...}, and serves
until its input ends.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from random import Random

import attrs
import trio

from agent_world.cli.allocator import keep_freed_memory
from agent_world.cli.collector import relax_collector, spare_what_stays
from agent_world.config import MAINNET, NetConfig
from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.distfs.manifest import ManifestBuilder
from agent_world.handlers.challenge import ChallengeHandler
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.store.blobs import LocalCasStore
from agent_world.store.home import Home
from agent_world.wire import rpc
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import Hash32, PeerId, WorldId
from agent_world.wire.limits import MIB

WORLD, GENESIS = WorldId("bench"), hash32(b"genesis")
UNLIMITED = 10**12


def config() -> NetConfig:
    """A node's network without limits of rates."""
    names = ("requests", "content_requests", "messages", "bytes")
    rates: dict[str, float] = {f"{name}_per_s": float(UNLIMITED) for name in names}
    bursts = {f"{name}_burst": UNLIMITED for name in names}
    return attrs.evolve(MAINNET.net, **rates, **bursts)


def store_file(blobs: LocalCasStore, size_mib: int) -> Cid:
    """A file of random bytes, the same everywhere."""
    builder, random = ManifestBuilder(), Random(12)
    for _ in range(size_mib):
        blobs.put_many([blob for _cid, blob in builder.add(random.randbytes(MIB))])
    *rest, (top, data) = builder.finish()
    blobs.put_many([*(blob for _cid, blob in rest), data])
    return top


class Holder:
    """What the handler needs; no block is committed."""

    world_id = WORLD
    genesis_hash = GENESIS

    def __init__(self, blobs: LocalCasStore) -> None:
        self._blobs = blobs

    def block_hash(self, height: int) -> Hash32 | None:
        return None if height else GENESIS

    def read(self, content: ContentHash) -> bytes:
        return self._blobs.get(content)


async def main(path: Path, size_mib: int) -> None:
    key = KeyPair(hash32(b"bench target"))
    Home.create(path, genesis_hash=GENESIS, genesis_toml="", node_toml="", node_key=key, validator_key=None)
    with Home.open(path, GENESIS) as home:
        blobs = LocalCasStore(home)
        content = store_file(blobs, size_mib)
        async with Libp2pNetwork.open(config(), key) as network:

            async def echo(_peer: PeerId, payload: bytes) -> bytes:
                return payload

            handler = ChallengeHandler(
                (network.peer_id, key), Holder(blobs), lambda: time.time_ns() // 1_000_000, skew_ms=5_000
            )
            network.serve("echo", echo)
            network.serve(rpc.CHALLENGE, handler.serve_challenge)
            network.serve(rpc.CHALLENGE_REVEAL, handler.serve_reveal)
            spare_what_stays()
            line = {"peer": network.peer_id, "address": network.listen_addresses()[0], "content": str(content)}
            print(json.dumps(line), flush=True)
            await trio.lowlevel.wait_readable(sys.stdin.fileno())


if __name__ == "__main__":
    relax_collector()  # as the process of a node does
    keep_freed_memory()
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))

"""One process of the fetch rows: ``python -m bench.fetch_node serve|fetch ...``; talks JSON lines with bench.fetch.

It is a node's network, store and large-content code without chain and consensus.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from agent_world.config import NetConfig
from agent_world.crypto.hashing import content_hash, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import BlobNotFound
from agent_world.handlers.blob import BlobHandler
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.node.counters import Counters
from agent_world.node.large import LargeContent
from agent_world.node.transfer import BlobTransfer
from agent_world.store.blobs import LocalCasStore
from agent_world.store.home import Home
from agent_world.wire import rpc
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import MIB

GENESIS = hash32(b"bench")
CONNECT_MAX_S = 20.0


@contextmanager
def open_store(directory: Path) -> Iterator[LocalCasStore]:
    key = KeyPair(hash32(str(directory).encode()))
    Home.create(directory, genesis_hash=GENESIS, genesis_toml="", node_toml="", node_key=key, validator_key=None)
    with Home.open(directory, GENESIS) as home:
        yield LocalCasStore(home)


class Served:
    """A handler's view of a store."""

    def __init__(self, store: LocalCasStore) -> None:
        self._store = store

    def find_blobs(self, hashes: Sequence[ContentHash]) -> list[bytes | None]:
        return [self._find(digest) for digest in hashes]

    def _find(self, digest: ContentHash) -> bytes | None:
        try:
            return self._store.get(digest)
        except BlobNotFound:
            return None


async def random_parts(mib: int) -> AsyncIterator[bytes]:
    source = random.Random(mib)
    for _ in range(mib):
        yield source.randbytes(MIB)


def small_blobs(count: int, size: int) -> list[bytes]:
    source = random.Random(count)
    return [source.randbytes(size) for _ in range(count)]


async def serve(directory: Path, mib: int, count: int, size: int) -> None:
    key = KeyPair(hash32(b"server"))
    with open_store(directory) as store:
        async with Libp2pNetwork.open(NetConfig(), key) as network:
            network.serve_body(rpc.STREAM_BLOBS, BlobHandler(Served(store)).stream_blobs)
            stored = await LargeContent(store, BlobTransfer(network, Counters())).store(random_parts(mib))
            store.put_many(small_blobs(count, size))
            address = network.listen_addresses()[0]
            print(json.dumps({"peer": network.peer_id, "address": address, "cid": str(stored.cid)}), flush=True)
            await trio.to_thread.run_sync(sys.stdin.read)


async def fetch(directory: Path, peer: PeerId, address: str, cid: str, count: int, size: int) -> dict[str, Any]:
    """Seconds of the large file and of the small blobs, each until it is durable; and of processor for the first."""
    wanted = [content_hash(blob) for blob in small_blobs(count, size)]
    with open_store(directory) as store:
        async with Libp2pNetwork.open(NetConfig(), KeyPair(hash32(b"client"))) as network:
            network.dial(peer, address)
            with trio.fail_after(CONNECT_MAX_S):
                while not network.peers():  # noqa: ASYNC110 - connecting is not what is measured
                    await trio.sleep(0.01)
            transfer = BlobTransfer(network, Counters())
            started, cpu = time.perf_counter(), time.process_time()
            pulled = await LargeContent(store, transfer).pull(Cid.parse(cid), [peer])
            large_s, large_cpu_s = time.perf_counter() - started, time.process_time() - cpu
            assert pulled.missing == 0, "the server has it all"
            blobs: dict[ContentHash, bytes] = {}
            started = time.perf_counter()

            async def keep(found: Any) -> None:
                blobs.update(found)

            missing = await transfer.fetch(wanted, [peer], keep)
            store.put_many(blobs.values())
            small_s = time.perf_counter() - started
            assert not missing, "the server has them all"
            return {"large_s": large_s, "small_s": small_s, "bytes": pulled.size_bytes, "large_cpu_s": large_cpu_s}


def main(verb: str, directory: str, *rest: str) -> None:
    if verb == "serve":
        mib, count, size = map(int, rest)
        trio.run(serve, Path(directory), mib, count, size)
        return
    peer, address, cid, count_text, size_text = rest
    result = trio.run(fetch, Path(directory), PeerId(peer), address, cid, int(count_text), int(size_text))
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""iroh 0.35 (Rust): two nodes in one process on loopback; run as a script by an interpreter that has ``iroh``.

``python peer_iroh.py DIRECTORY MIB COUNT SIZE`` prints seconds for one file of MIB and for COUNT blobs, 16 at a time.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import iroh

AT_ONCE = 16


class Quiet:
    async def progress(self, _progress: Any) -> None:
        return


async def node(directory: Path) -> Any:
    options = iroh.NodeOptions(ipv4_addr="127.0.0.1:0", node_discovery=iroh.NodeDiscoveryConfig.NONE)
    return await iroh.Iroh.persistent_with_options(str(directory), options)


async def run(directory: Path, mib: int, count: int, size: int) -> dict[str, float]:
    iroh.iroh_ffi.uniffi_set_event_loop(asyncio.get_running_loop())
    server, client = await node(directory / "server"), await node(directory / "client")
    file = directory / "file"
    source = random.Random(mib)
    with file.open("wb") as out:
        for _ in range(mib):
            out.write(source.randbytes(1 << 20))
    hashes: list[Any] = []

    class Added(Quiet):
        async def progress(self, progress: Any) -> None:
            if progress.type() == iroh.AddProgressType.ALL_DONE:
                hashes.append(progress.as_all_done().hash)

    add, tag = server.blobs(), iroh.SetTagOption.auto()
    await add.add_from_path(str(file), False, tag, iroh.WrapOption.no_wrap(), Added())
    small = [(await add.add_bytes(source.randbytes(size))).hash for _ in range(count)]
    address = await server.net().node_addr()

    async def get(content: Any) -> None:
        options = iroh.BlobDownloadOptions(iroh.BlobFormat.RAW, [address], iroh.SetTagOption.auto())
        await client.blobs().download(content, options, Quiet())

    await get((await add.add_bytes(b"warm up")).hash)
    started = time.perf_counter()
    await get(hashes[0])
    large_s = time.perf_counter() - started
    turns = asyncio.Semaphore(AT_ONCE)

    async def get_in_turn(content: Any) -> None:
        async with turns:
            await get(content)

    started = time.perf_counter()
    await asyncio.gather(*(get_in_turn(content) for content in small))
    small_s = time.perf_counter() - started
    await asyncio.gather(server.node().shutdown(), client.node().shutdown())
    return {"large_s": large_s, "small_s": small_s}


if __name__ == "__main__":
    arguments = sys.argv[1:]
    print(json.dumps(asyncio.run(run(Path(arguments[0]), *map(int, arguments[1:])))), flush=True)

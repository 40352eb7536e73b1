"""Many clients of one etcd member in one thread: each sends a put once the last one is answered."""

from __future__ import annotations

import selectors
import socket
import time
from pathlib import Path
from typing import Final

from bench.peer_etcd import Cluster, put_request

WARM_UP_S: Final = 1.0
ANSWER_BYTES: Final = 65_536


def measure(directory: Path, members: int, clients: int, seconds: float) -> float:
    """Puts answered with success a second, by a leader with so many clients."""
    with Cluster(directory, members) as cluster:
        address = ("127.0.0.1", cluster.ports[cluster.leader()])
        selector = selectors.DefaultSelector()
        sockets = [socket.create_connection(address, timeout=10) for _ in range(clients)]
        try:
            for each in sockets:
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(each, selectors.EVENT_READ, bytearray())
                each.sendall(put_request())
            _answered(selector, WARM_UP_S)
            started = time.monotonic()
            answered = _answered(selector, seconds)
            return round(answered / (time.monotonic() - started), 1)
        finally:
            selector.close()
            for each in sockets:
                each.close()


def _answered(selector: selectors.BaseSelector, seconds: float) -> int:
    """How many answers came in so long; each is followed by the next request."""
    request = put_request()
    answered = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for key, _events in selector.select(0.1):
            connection, held = key.fileobj, key.data
            assert isinstance(connection, socket.socket)
            held += connection.recv(ANSWER_BYTES)
            if _is_whole(held):
                held.clear()
                answered += 1
                connection.sendall(request)
    return answered


def _is_whole(held: bytearray) -> bool:
    head, blank, body = bytes(held).partition(b"\r\n\r\n")
    if not blank:
        return False
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(f"etcd answered {head[:80]!r}")
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return len(body) >= int(length.partition(b":")[2])

"""One store with what makes roots in it and a clock of its own, for tests of collections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from agent_world.config import StorageConfig
from agent_world.crypto.hashing import cid_of
from agent_world.store.blobs import LocalCasStore
from agent_world.store.collector import Collector, Garbage
from agent_world.store.database import Database
from agent_world.store.home import Home
from agent_world.store.pins import Pin, PinTable
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.ids import TimeMs

LARGE = 20_000
"""Bytes of a blob that is a file."""


class Rig:
    def __init__(self, home: Home, config: StorageConfig | None = None) -> None:
        self.home = home
        self.now_ms = 1_000_000
        self.blobs = LocalCasStore(home, config)
        self.blobs.wall_ms = lambda: self.now_ms
        self.pins = PinTable(home)
        self.live: list[Cid] = []

    def collector(self) -> Collector:
        return Collector(self.home, self.blobs, lambda: self.live)

    def raw(self, data: bytes) -> Cid:
        return Cid(Codec.RAW, self.blobs.put(data))

    def node(self, *links: Cid, salt: int = 0) -> Cid:
        data = cbor.encode({"links": list(links), "salt": salt})
        self.blobs.put(data)
        return cid_of(data)

    def tower(self, below: Cid, height: int) -> Cid:
        """The topmost of so many nodes, each linking to the next below it."""
        for salt in range(height):
            below = self.node(below, salt=salt)
        return below

    def pin(self, name: str, cid: Cid, *, recursive: bool = True, expires_ms: int | None = None) -> None:
        end = None if expires_ms is None else TimeMs(expires_ms)
        self.pins.put(Pin(name=name, cid=cid, recursive=recursive, made_ms=TimeMs(1), expires_ms=end))

    def index(self, path: str, cid: Cid) -> None:
        with self.home.database.transaction():
            self.home.database.execute("INSERT OR REPLACE INTO file_index VALUES (?, ?, 1, 1)", (path, cid.to_bytes()))

    def collect(self, grace_ms: int = 0, down_to_bytes: int | None = None) -> Garbage:
        collector = self.collector()
        freed = Garbage()
        with collector.alone():
            run(collector.mark(self.now_ms))
            run(collector.note(self.now_ms))
            for step in collector.sweep(self.now_ms, grace_ms, down_to_bytes=down_to_bytes):
                freed = freed.plus(step.items, step.size_bytes)
        return freed

    def here(self, *cids: Cid) -> list[bool]:
        return [self.blobs.has(cid.digest) for cid in cids]


def before_next_transaction(monkeypatch: pytest.MonkeyPatch, database: Database, act: Callable[[], object]) -> None:
    """What another process does while this one waits for its turn to write."""
    begin, waiting = database.transaction, [act]

    @contextmanager
    def transaction() -> Iterator[None]:
        if waiting:
            waiting.pop()()
        with begin():
            yield

    monkeypatch.setattr(database, "transaction", transaction)


def run(steps: Iterator[object]) -> None:
    for _ in steps:
        pass

"""Row 7: pinning DAGs of three blobs, and removing a quarter of 40,000 blobs while a writer goes on.

Ours: one process with the store of a home, every pin and put durable. Helia, where it is installed, pins the same
number of DAGs, and collects 1,000 of 4,000 blocks with no writer beside it; it syncs nothing.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from agent_world.crypto.hashing import cid_of, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.store.blobs import LocalCasStore
from agent_world.store.collector import Collector
from agent_world.store.home import Home
from agent_world.store.pins import Pin, PinTable
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.ids import TimeMs
from bench import peer_helia

GENESIS = hash32(b"bench")
DAGS = 1_000
BLOBS = 40_000
BLOB_BYTES = 1_024
GARBAGE = 0.25
HELIA_GARBAGE = 1_000
GOALS = {
    "put_p99_during_over_idle": 2.0, "longest_pause_ms": 50.0, "pins_over_helia": 10.0, "deletes_over_helia": 10.0,
}  # fmt: skip


def dag(number: int) -> list[tuple[Cid, bytes]]:
    """A node with two leaves; the node comes last."""
    leaves = [b"leaf %d %d" % (number, side) for side in (0, 1)]
    links = [cid_of(leaf, Codec.RAW) for leaf in leaves]
    node = cbor.encode({"links": links})
    return [*zip(links, leaves, strict=True), (cid_of(node), node)]


def a_pin(name: str, cid: Cid) -> Pin:
    return Pin(name=name, cid=cid, made_ms=TimeMs(0))


def measure_pins(home: Home, blobs: LocalCasStore) -> float:
    """Pins a second, each a durable transaction after the DAG was put."""
    dags = [dag(number) for number in range(DAGS)]
    for made in dags:
        blobs.put_many(data for _, data in made)
    pins = PinTable(home)
    started = time.perf_counter()
    for number, made in enumerate(dags):
        pins.put(a_pin(f"dag {number}", made[-1][0]))
    return DAGS / (time.perf_counter() - started)


class Writer:
    """Puts one blob at a time and notes how long each took, from the call to the return."""

    def __init__(self, blobs: LocalCasStore) -> None:
        self._blobs = blobs
        self._number = 0
        self.taken: list[float] = []

    def put(self) -> None:
        self._number += 1
        started = time.perf_counter()
        self._blobs.put(b"written while it goes on %d" % self._number)
        self.taken.append(time.perf_counter() - started)


def measure_deletes(home: Home, blobs: LocalCasStore) -> dict[str, Any]:
    """A collection with a put after each of its steps, as a node would run it."""
    pins = PinTable(home)
    kept = int(BLOBS * (1 - GARBAGE))
    for start in range(0, BLOBS, 1_000):
        data = [b"%d" % number + bytes(BLOB_BYTES) for number in range(start, start + 1_000)]
        hashes = blobs.put_many(data)
        named = [(f"{start + place}", digest) for place, digest in enumerate(hashes) if start + place < kept]
        pins.put_all(a_pin(name, Cid(Codec.RAW, digest)) for name, digest in named)
    idle = Writer(blobs)
    for _ in range(300):
        idle.put()
    collector = Collector(home, blobs)
    with collector.alone():  # the garbage has been seen before
        for seen in (collector.mark(blobs.wall_ms()), collector.note(blobs.wall_ms())):
            for _ in seen:
                pass
    time.sleep(0.01)
    busy, removed, sweeping = Writer(blobs), 0, 0.0
    pauses: list[tuple[float, str]] = []
    with blobs.hold(), collector.alone():
        for name, steps in _phases(collector, blobs.wall_ms()):
            while True:
                started = time.perf_counter()
                step = next(steps, None)
                pauses.append((time.perf_counter() - started, name))
                if step is None and name != "mark":
                    break
                if name == "sweep":
                    removed += step.items
                    sweeping += pauses[-1][0]
                if name == "mark" and step is _END:
                    break
                busy.put()
    return {
        "deletes_per_s": round(removed / sweeping),
        "deleted": removed,
        "put_p99_idle_ms": _p99(idle.taken),
        "put_p99_during_ms": _p99(busy.taken),
        "longest_pause_ms": round(max(pauses)[0] * 1000, 1),
        "longest_pause_in": max(pauses)[1],
        "collection_s": round(sum(pause for pause, _ in pauses), 2),
    }


_END: Any = object()


def _phases(collector: Collector, now_ms: int) -> Iterator[tuple[str, Iterator[Any]]]:
    def marking() -> Iterator[Any]:
        yield from collector.mark(now_ms)
        yield _END

    yield "mark", marking()
    yield "note", collector.note(now_ms)
    yield "sweep", collector.sweep(now_ms, 0)


def _p99(taken: list[float]) -> float:
    return round(statistics.quantiles(taken, n=100)[98] * 1000, 2)


def measure_helia() -> dict[str, float] | None:
    """Pins and deletes a second of Helia; None if it is not installed."""
    programs = peer_helia.programs()
    if programs is None:
        return None
    with tempfile.TemporaryDirectory(prefix="aw-bench-helia-") as name:
        arguments = (name, str(DAGS), str(HELIA_GARBAGE))
        found = peer_helia.run_script("peer_helia_gc.mjs", Path(name), *programs, *arguments)
    return {"pins_per_s": round(DAGS / found["pin_s"]), "deletes_per_s": round(found["removed"] / found["gc_s"])}


def run() -> dict[str, Any]:
    """The figures."""
    with tempfile.TemporaryDirectory(prefix="aw-bench-gc-") as directory:
        path = Path(directory) / "home"
        Home.create(path, genesis_hash=GENESIS, genesis_toml="", node_toml="", node_key=KeyPair(bytes(32)))
        with Home.open(path, GENESIS) as home:
            blobs = LocalCasStore(home)
            pins_per_s = measure_pins(home, blobs)
            found = measure_deletes(home, blobs)
    ratio = round(found["put_p99_during_ms"] / found["put_p99_idle_ms"], 2)
    figures = {"pins_per_s": round(pins_per_s), **found, "put_p99_during_over_idle": ratio}
    helia = measure_helia()
    if helia is None:
        return {**figures, "helia": "skipped"}
    return {
        **figures,
        **{f"helia_{name}": value for name, value in helia.items()},
        "pins_over_helia": round(figures["pins_per_s"] / helia["pins_per_s"], 2),
        "deletes_over_helia": round(figures["deletes_per_s"] / helia["deletes_per_s"], 2),
    }


@click.command()
@click.option("--json", "as_json", is_flag=True)
def main(as_json: bool) -> None:
    """Pins, and garbage collection beside a writer."""
    figures = run()
    if as_json:
        click.echo(json.dumps(figures))
        return
    click.echo(f"{DAGS} pins of DAGs of three; {GARBAGE:.0%} of {BLOBS} blobs of {BLOB_BYTES} B collected beside puts")
    for name, value in figures.items():
        goal = f" (goal {GOALS[name]:g})" if name in GOALS else ""
        click.echo(f"{name:26} {value}{goal}")


if __name__ == "__main__":
    main()

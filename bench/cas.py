"""Two processes add to counters in 100 files by compare-and-set, a third collects garbage and audits meanwhile.

What is shown: no update is lost (the counters add up to the updates made), conflicts are told and not silent, nothing
reachable goes. Every update is one durable transaction.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from random import Random
from typing import Any

import click

from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.store.blobs import LocalCasStore
from agent_world.store.collector import Collector
from agent_world.store.file_audit import Audit
from agent_world.store.file_index import FileIndex
from agent_world.store.file_update import update_file
from agent_world.store.home import Home
from agent_world.store.pins import PinTable

FILES = 100
GENESIS = hash32(b"bench")


def count(data: bytes | None) -> bytes:
    return str(int(data or b"0") + 1).encode()


def hammer(path: Path, seed: int, stop: Event, results: Any) -> None:
    """One writer."""
    rng = Random(seed)
    updates = conflicts = 0
    with Home.shared(path, GENESIS) as home:
        index = FileIndex(home, LocalCasStore(home))
        while not stop.is_set():
            _, met = update_file(index, f"counter/{rng.randrange(FILES)}", count, time.sleep, rng)
            updates += 1
            conflicts += met
    results.put(("writer", updates, conflicts))


def collect(path: Path, stop: Event, results: Any) -> None:
    """The one that removes garbage without a grace and audits after every collection."""
    runs = freed = missing = 0
    with Home.shared(path, GENESIS) as home:
        blobs = LocalCasStore(home)
        index, pins = FileIndex(home, blobs), PinTable(home)
        while not stop.is_set():
            now_ms = blobs.wall_ms()
            collector = Collector(home, blobs)
            with collector.alone():
                for steps in (collector.mark(now_ms), collector.note(now_ms)):
                    for _ in steps:
                        pass
                freed += sum(step.items for step in collector.sweep(now_ms, 0))
                audit = Audit(index, pins, blobs, collector)
                for _ in audit.steps(now_ms):
                    pass
            missing += len(audit.report.missing_file_blob_hashes)
            runs += 1
    results.put(("collector", runs, freed, missing))


def run(seconds: float) -> dict[str, Any]:
    """The figures; ``ok`` if nothing was lost."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="aw-bench-cas-") as directory:
        path = Path(directory) / "home"
        Home.create(path, genesis_hash=GENESIS, genesis_toml="", node_toml="", node_key=KeyPair(bytes(32)))
        stop, results = context.Event(), context.Queue()
        workers = [context.Process(target=hammer, args=(path, seed, stop, results)) for seed in (1, 2)]
        workers.append(context.Process(target=collect, args=(path, stop, results)))
        for worker in workers:
            worker.start()
        time.sleep(seconds)
        stop.set()
        found = [results.get(timeout=60) for _ in workers]
        for worker in workers:
            worker.join()
        with Home.shared(path, GENESIS) as home:
            index = FileIndex(home, LocalCasStore(home))
            total = sum(int(index.read_file(file.path)) for file in index.list_files())
    updates = sum(result[1] for result in found if result[0] == "writer")
    conflicts = sum(result[2] for result in found if result[0] == "writer")
    ((_, runs, freed, missing),) = [result for result in found if result[0] == "collector"]
    return {
        "updates": updates, "counted": total, "lost": updates - total, "conflicts": conflicts,
        "updates_per_s": round(updates / seconds), "collections": runs, "blobs_freed": freed, "missing": missing,
        "ok": total == updates and missing == 0 and all(worker.exitcode == 0 for worker in workers),
    }  # fmt: skip


@click.command()
@click.option("--seconds", type=click.FloatRange(1.0), default=10.0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(seconds: float, as_json: bool) -> None:
    """Compare-and-set by two processes while a third collects; exits with 1 if anything was lost."""
    figures = run(seconds)
    if as_json:
        click.echo(json.dumps(figures))
    else:
        click.echo(f"two writers on {FILES} files for {seconds:.0f} s, one collector")
        for name, value in figures.items():
            click.echo(f"{name:14} {value}")
    if not figures["ok"]:
        sys.exit(1)


if __name__ == "__main__":
    main()

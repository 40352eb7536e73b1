"""Five storage processes and a validator; one storage node loses all content and repairs itself from the others.

It is killed (SIGKILL), its blob files and the rows of all content that is not the chain's are removed, and it is
started again. Measured: until all of it is back, and the bytes of streamed bodies that it took in for that.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from agent_world.cli.client import NodeClient
from agent_world.crypto.keys import KeyPair
from agent_world.errors import Unavailable
from agent_world.node.provision import MadeSwarm, NodeSpec, SwarmSpec, make_swarm
from agent_world.testing.processes import Processes
from agent_world.testing.signer import Signer
from agent_world.wire.action import CreateObject, RegisterAgent
from agent_world.wire.cid import Cid
from agent_world.wire.hello import Role
from agent_world.wire.ids import U64, Name, TimeMs, WorldId
from agent_world.wire.limits import MIB

KEEPERS = 5
OBJECTS = 40
OBJECT_BYTES = 65_536
FILE_BYTES = 16 * MIB
WAIT_MAX_S = 120.0
LOOK_S = 0.1


class Swarm:
    """The processes, and what is asked of them."""

    def __init__(self, made: MadeSwarm, processes: Processes) -> None:
        self.made = made
        self.processes = processes
        self.names = [node.name for node in made.nodes]

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.processes.get(name, "/status") or {}
        return found

    def wait(self, what: str, condition: Callable[[], bool]) -> float:
        """Seconds until ``condition``; raises Unavailable if it takes too long."""
        started = time.monotonic()
        while not condition():
            if time.monotonic() - started > WAIT_MAX_S:
                raise Unavailable(f"not within {WAIT_MAX_S:.0f} s: {what}")
            time.sleep(LOOK_S)
        return time.monotonic() - started

    def has_all(self, name: str, count: int) -> bool:
        storage = self.status(name).get("storage", {})
        return storage.get("have", 0) >= count and not storage.get("wanted") and not storage.get("fetching")

    def fill(self) -> int:
        """Name objects, the last one a file; how many."""
        author = Signer(self.made.world_id, self.made.genesis_hash, KeyPair(os.urandom(32)))
        register = RegisterAgent(name=Name("author"), public_key=author.public_key, registration_quota=U64(0))
        self.processes.post(self.names[0], "/actions", Signer.authority(self.made).sign(register))
        sizes = [OBJECT_BYTES] * OBJECTS + [FILE_BYTES]
        with NodeClient(self.made.nodes[0].home) as node:
            self.wait("the author is known", lambda: self._knows(author))
            for number, size in enumerate(sizes):
                cid = Cid.parse(node.post_stream("/content", iter([os.urandom(size)]))["cid"])
                self.processes.post(
                    self.names[0], "/actions",
                    author.sign(CreateObject(object_id=Name(f"object-{number}"), content=cid, size_bytes=U64(size))),
                )  # fmt: skip
        return len(sizes)

    def _knows(self, author: Signer) -> bool:
        return self.processes.get(self.names[0], f"/actors/{author.actor_id}") is not None


def foreign_bytes(home: Path) -> int:
    """Bytes of content that is not the chain's."""
    with closing(sqlite3.connect(f"{(home / 'world.db').as_uri()}?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT size_bytes - kept_bytes FROM blob_usage").fetchone()[0])


def wipe(home: Path) -> int:
    """Remove all content that is not the chain's, behind the node's back; bytes lost."""
    lost = foreign_bytes(home)
    with closing(sqlite3.connect(home / "world.db")) as database, database:
        database.execute("DELETE FROM blobs WHERE kept = 0")
    shutil.rmtree(home / "blobs")
    (home / "blobs").mkdir()
    return lost


def run(processes: Processes, made: MadeSwarm) -> dict[str, Any]:
    """The figures."""
    swarm = Swarm(made, processes)
    processes.start(*swarm.names)
    keepers = swarm.names[1:]
    swarm.wait("all are up", lambda: all(swarm.status(name) for name in swarm.names))
    count = swarm.fill()
    filled_s = swarm.wait("all keepers have all", lambda: all(swarm.has_all(name, count) for name in keepers))
    victim = keepers[2]
    home = next(node.home for node in made.nodes if node.name == victim)
    processes.kill(victim)
    lost = wipe(home)
    started = time.monotonic()
    processes.start(victim)
    swarm.wait("it is whole again", lambda: foreign_bytes(home) >= lost and swarm.has_all(victim, count))
    repaired_s = time.monotonic() - started
    with NodeClient(home) as node:
        verified = node.post_json("/fs/audit", {})
    counters = swarm.status(victim)["counters"]
    taken = counters.get("net.body_bytes_received", 0)
    return {
        "keepers": len(keepers), "objects": count, "filled_s": round(filled_s, 1), "lost_bytes": lost,
        "repaired_s": round(repaired_s, 1), "body_bytes_received": taken, "dangling": verified["dangling_pin_hashes"],
        "lost_noticed": counters.get("storage.lost", 0), "whole": foreign_bytes(home) >= lost,
    }  # fmt: skip


@click.command()
@click.option("--json", "as_json", is_flag=True)
def main(as_json: bool) -> None:
    """A storage node that lost all content gets it back from the others."""
    nodes = [NodeSpec(name="validator-1", role=Role.SEQUENCER, validator=True)]
    nodes += [
        NodeSpec(name=f"storage-{number}", role=Role.STORAGE, validator=False) for number in range(1, KEEPERS + 1)
    ]
    spec = SwarmSpec(
        world_id=WorldId("repair"), nodes=tuple(nodes), genesis_time_ms=TimeMs(time.time_ns() // 1_000_000)
    )
    with tempfile.TemporaryDirectory(prefix="aw-bench-repair-") as directory:
        made = make_swarm(Path(directory) / "swarm", spec)
        with Processes(made.nodes) as processes:
            figures = run(processes, made)
    if as_json:
        click.echo(json.dumps(figures))
        return
    for name, value in figures.items():
        click.echo(f"{name:22} {value}")


if __name__ == "__main__":
    main()

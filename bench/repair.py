"""Five storage processes keep three copies of everything that the world names; copies are lost, and made again.

Four things happen one after the other, and each time it is measured how long it takes until every content has its
copies, and how many bytes of content nodes took from others for it:

1. a storage process is killed, all content that is not the chain's is removed, and it is started again;
2. another one is killed and does not come back;
3. that one comes back with all its copies, so that there are too many;
4. the quota of one becomes so small that it is nearly full.

Nobody is told anything: what is seen here is read from the databases of the homes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import click

from agent_world.cli.client import NodeClient
from agent_world.config import MAINNET, ReplicasConfig
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
TARGET = 3
POLL_MS = 5_000
OBJECTS = 40
OBJECT_BYTES = 65_536
FILE_BYTES = 16 * MIB
NEARLY_FULL_PER_MILLE = 900
RELIEVED_PER_MILLE = 850
WAIT_MAX_S = 180.0
LOOK_S = 0.2


def foreign_bytes(home: Path) -> int:
    """Bytes of content that is not the chain's."""
    with closing(sqlite3.connect(f"{(home / 'world.db').as_uri()}?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT size_bytes - kept_bytes FROM blob_usage").fetchone()[0])


def is_freed(home: Path) -> bool:
    """Whether no bytes are left of what was given up."""
    with closing(sqlite3.connect(f"{(home / 'world.db').as_uri()}?mode=ro", uri=True)) as database:
        return not database.execute("SELECT 1 FROM gc_candidates WHERE since_ms = 0 LIMIT 1").fetchall()


def kept_contents(home: Path) -> dict[bytes, int]:
    """Bytes of each content that the world names and that this home says it keeps."""
    with closing(sqlite3.connect(f"{(home / 'world.db').as_uri()}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT cid, size_bytes FROM content WHERE named = 1 AND state = 'have'")
        return dict(rows.fetchall())


def wipe(home: Path) -> None:
    """Remove all content that is not the chain's, and that it was ever kept, behind the node's back."""
    with closing(sqlite3.connect(home / "world.db")) as database, database:
        database.execute("DELETE FROM blobs WHERE kept = 0")
        database.execute("DELETE FROM content")
        database.execute("DELETE FROM provided_roots")
    shutil.rmtree(home / "blobs")
    (home / "blobs").mkdir()


def set_quota(home: Path, quota_bytes: int) -> None:
    """In the settings of a node that does not run."""
    settings = home / "node.toml"
    changed, count = re.subn(r"(?m)^quota_bytes = .*$", f"quota_bytes = {quota_bytes}", settings.read_text())
    assert count == 1, "node.toml has every setting once"
    settings.write_text(changed)


class Swarm:
    """The processes, and what is seen of their copies."""

    def __init__(self, made: MadeSwarm, processes: Processes) -> None:
        self.made = made
        self.processes = processes
        self.names = [node.name for node in made.nodes]
        self.keepers = self.names[1:]
        self.homes = {node.name: node.home for node in made.nodes}
        self.sizes: dict[bytes, int] = {}
        self.least = TARGET
        """The least copies of any content that were ever seen at running nodes since it was set."""

    def wait(self, what: str, condition: Callable[[], bool]) -> float:
        """Seconds until ``condition``; raises Unavailable if it takes too long."""
        started = time.monotonic()
        while not condition():
            if time.monotonic() - started > WAIT_MAX_S:
                raise Unavailable(f"not within {WAIT_MAX_S:.0f} s: {what}; {dict(self.copies())}")
            time.sleep(LOOK_S)
        return round(time.monotonic() - started, 1)

    def up(self) -> list[str]:
        return [name for name in self.keepers if name in self.processes.running()]

    def copies(self) -> Counter[int]:
        """How many contents have how many copies at running nodes."""
        held: Counter[bytes] = Counter()
        for name in self.up():
            held.update(kept_contents(self.homes[name]).keys())
        counted = Counter(held[cid] for cid in self.sizes)
        self.least = min([self.least, *counted])
        return counted

    def is_even(self) -> bool:
        """Whether every content has exactly its copies."""
        return self.copies() == {TARGET: len(self.sizes)}

    def counter(self, name: str) -> int:
        """A sum over the running storage nodes."""
        found = [self.processes.get(keeper, "/status") or {} for keeper in self.up()]
        return sum(each.get("counters", {}).get(name, 0) for each in found)

    def fill(self) -> None:
        """Name objects, the last one a file."""
        author = Signer(self.made.world_id, self.made.genesis_hash, KeyPair(os.urandom(32)))
        register = RegisterAgent(name=Name("author"), public_key=author.public_key, registration_quota=U64(0))
        self.processes.post(self.names[0], "/actions", Signer.authority(self.made).sign(register))
        with NodeClient(self.homes[self.names[0]]) as node:
            self.wait("the author is known", lambda: self._knows(author))
            for number, size in enumerate([OBJECT_BYTES] * OBJECTS + [FILE_BYTES]):
                cid = Cid.parse(node.post_stream("/content", iter([os.urandom(size)]))["cid"])
                self.sizes[cid.to_bytes()] = size
                created = CreateObject(object_id=Name(f"object-{number}"), content=cid, size_bytes=U64(size))
                self.processes.post(self.names[0], "/actions", author.sign(created))

    def _knows(self, author: Signer) -> bool:
        return self.processes.get(self.names[0], f"/actors/{author.actor_id}") is not None

    def meet(self) -> None:
        """Until all storage nodes know each other."""

        def have_met() -> bool:
            seen = [(self.processes.get(name, "/replicas") or {}).get("storage_nodes", []) for name in self.up()]
            return all(len(each) == len(self.up()) for each in seen)

        self.wait("all storage nodes have met", have_met)

    def pulled(self) -> dict[str, int]:
        """Bytes of content that each running node has taken from others since it was started."""
        found = {keeper: self.processes.get(keeper, "/status") or {} for keeper in self.up()}
        return {name: each.get("counters", {}).get("storage.pulled_bytes", 0) for name, each in found.items()}

    def pulled_since(self, before: dict[str, int]) -> int:
        """As ``before`` was taken while who was started later did not run."""
        return sum(count - before.get(name, 0) for name, count in self.pulled().items())

    def bytes_of(self, name: str) -> int:
        return sum(kept_contents(self.homes[name]).values())

    def load_per_mille(self, name: str) -> int:
        quota = self.quota(name)
        return 1_000 * foreign_bytes(self.homes[name]) // quota

    def quota(self, name: str) -> int:
        found = re.search(r"(?m)^quota_bytes = (\d+)$", (self.homes[name] / "node.toml").read_text())
        assert found is not None
        return int(found[1])


def run(processes: Processes, made: MadeSwarm) -> dict[str, Any]:
    """The figures."""
    swarm = Swarm(made, processes)
    processes.start(*swarm.names)
    swarm.wait("all are up", lambda: all(processes.get(name, "/status") for name in swarm.names))
    swarm.meet()
    swarm.fill()
    total = sum(swarm.sizes.values())
    filled_s = swarm.wait("all has its copies", swarm.is_even)
    figures = {
        "keepers": KEEPERS, "target": TARGET, "contents": len(swarm.sizes), "bytes": total, "filled_s": filled_s,
        "copies_of_all_bytes": round(sum(map(foreign_bytes, map(swarm.homes.__getitem__, swarm.keepers))) / total, 2),
    }  # fmt: skip
    by_bytes = sorted(swarm.keepers, key=swarm.bytes_of)
    return {
        **figures,
        **_wiped(swarm, by_bytes[-1]),
        **_gone(swarm, by_bytes[-2]),
        **_back(swarm, by_bytes[-2]),
        **_nearly_full(swarm),
    }


def _wiped(swarm: Swarm, victim: str) -> dict[str, Any]:
    lost = swarm.bytes_of(victim)
    swarm.processes.kill(victim)
    wipe(swarm.homes[victim])
    before = swarm.pulled()
    copies = swarm.copies()
    swarm.processes.start(victim)
    took = swarm.wait("the wiped node's copies are there again", swarm.is_even)
    return {
        "wiped_lost_bytes": lost, "wiped_copies_before": dict(copies), "wiped_repaired_s": took,
        "wiped_moved_bytes": swarm.pulled_since(before), "wiped_copies_after": dict(swarm.copies()),
    }  # fmt: skip


def _gone(swarm: Swarm, victim: str) -> dict[str, Any]:
    swarm.meet()
    lost = swarm.bytes_of(victim)
    swarm.processes.kill(victim)
    before, copies = swarm.pulled(), swarm.copies()
    took = swarm.wait("others have made its copies", swarm.is_even)
    return {
        "gone_lost_bytes": lost, "gone_copies_before": dict(copies), "gone_repaired_s": took,
        "gone_moved_bytes": swarm.pulled_since(before), "gone_copies_after": dict(swarm.copies()),
    }  # fmt: skip


def _back(swarm: Swarm, victim: str) -> dict[str, Any]:
    before = swarm.pulled()
    swarm.processes.start(victim)
    copies: Counter[int] = Counter()

    def is_back() -> bool:
        nonlocal copies
        copies = swarm.copies()
        return copies != {TARGET: len(swarm.sizes)}

    swarm.least = TARGET
    swarm.wait("its copies count again", is_back)
    took = swarm.wait("the surplus is given up", swarm.is_even)
    return {
        "back_copies_before": dict(copies), "back_given_up_s": took, "back_copies_least": swarm.least,
        "back_moved_bytes": swarm.pulled_since(before), "back_copies_after": dict(swarm.copies()),
    }  # fmt: skip


def _nearly_full(swarm: Swarm) -> dict[str, Any]:
    """Of the node with the most small objects: without the file, so that more than one content has to move."""
    swarm.wait("what was given up is freed", lambda: all(map(is_freed, swarm.homes.values())))
    small = [name for name in swarm.keepers if swarm.bytes_of(name) < FILE_BYTES]
    name = max(small or swarm.keepers, key=swarm.bytes_of)
    swarm.processes.kill(name)
    used = foreign_bytes(swarm.homes[name])
    set_quota(swarm.homes[name], used * 1_000 // NEARLY_FULL_PER_MILLE)
    before = swarm.pulled()
    load = swarm.load_per_mille(name)
    swarm.processes.start(name)
    swarm.wait("it is back", lambda: swarm.processes.get(name, "/status") is not None)
    swarm.least = TARGET

    def is_relieved() -> bool:
        return swarm.load_per_mille(name) < RELIEVED_PER_MILLE and swarm.is_even()

    took = swarm.wait("the nearly full node is relieved", is_relieved)
    return {
        "full_load_before_per_mille": load, "full_load_after_per_mille": swarm.load_per_mille(name),
        "full_relieved_s": took, "full_freed_bytes": used - foreign_bytes(swarm.homes[name]),
        "full_moved_bytes": swarm.pulled_since(before), "full_copies_least": swarm.least,
        "full_copies_after": dict(swarm.copies()), "rounds": swarm.counter("replicas.rounds"),
        "failed_tasks": swarm.counter("replicas.failed"),
        "challenges_failed": sum(
            (swarm.processes.get(each, "/status") or {})["distfs_challenge_report"]["failed_checks"]
            for each in swarm.up()
        ),
    }  # fmt: skip


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Leave the homes and logs here.")
def main(as_json: bool, keep: Path | None) -> None:
    """Storage nodes keep three copies of everything, whatever is lost, comes back or runs full."""
    nodes = [NodeSpec(name="validator-1", role=Role.SEQUENCER, validator=True)]
    nodes += [
        NodeSpec(name=f"storage-{number}", role=Role.STORAGE, validator=False) for number in range(1, KEEPERS + 1)
    ]
    replicas = ReplicasConfig(target_replicas_per_blob=TARGET, poll_interval_ms=POLL_MS)
    spec = SwarmSpec(
        world_id=WorldId("repair"), nodes=tuple(nodes), genesis_time_ms=TimeMs(time.time_ns() // 1_000_000),
        config=attrs.evolve(MAINNET, replicas=replicas),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="aw-bench-repair-") as directory:
        made = make_swarm((keep or Path(directory)) / "swarm", spec)
        with Processes(made.nodes) as processes:
            figures = run(processes, made)
    if as_json:
        click.echo(json.dumps(figures))
        return
    for name, value in figures.items():
        click.echo(f"{name:28} {value}")


if __name__ == "__main__":
    main()

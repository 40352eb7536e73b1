"""A storage node's pull of one large object between real processes: time, memory of both, other content meanwhile.

A file is put at a validator, an action names it, and a storage node pulls it because of that; while it does, a small
object is named that it has to pull too.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import click

from agent_world.cli.client import NodeClient
from agent_world.crypto.keys import KeyPair
from agent_world.errors import AgentWorldError
from agent_world.node.provision import MadeSwarm, NodeSpec, SwarmSpec, make_swarm
from agent_world.store import keyfile
from agent_world.testing.processes import Processes
from agent_world.wire.action import CreateObject, RegisterAgent
from agent_world.wire.cid import Cid
from agent_world.wire.hello import Role
from agent_world.wire.ids import U64, Hash32, Name, TimeMs, WorldId
from agent_world.wire.limits import MIB
from agent_world.world.admission import build_action

GOAL_RSS_MIB = 200
GIVER, TAKER = "validator-1", "storage-1"
WAIT_MAX_S = 600.0
LOOK_S = 0.05


def parts(mib: int) -> Iterator[bytes]:
    source = Random(mib)
    for _ in range(mib):
        yield source.randbytes(MIB)


class Memory:
    """Resident memory of processes: at first, and at most."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self.first = {name: self._mib(name) for name in pids}
        self.most = dict(self.first)

    def look(self) -> None:
        for name in self._pids:
            self.most[name] = max(self.most[name], self._mib(name))

    def growth(self) -> dict[str, int]:
        return {name: round(self.most[name] - self.first[name]) for name in self._pids}

    def _mib(self, name: str) -> float:
        status = Path(f"/proc/{self._pids[name]}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


class Run:
    """One swarm of two processes."""

    def __init__(self, made: MadeSwarm, processes: Processes) -> None:
        self._made = made
        self._processes = processes

    def start(self) -> None:
        for name in (GIVER, TAKER):
            self._processes.start(name)
            self.wait(f"{name} is up", lambda name=name: self._processes.get(name, "/head") is not None)  # type: ignore[misc]
        self.wait("they are linked", lambda: any(peer["role"] for peer in self._status(TAKER)["peers"]))

    def wait(self, what: str, condition: Callable[[], bool], look: Callable[[], None] = lambda: None) -> float:
        """Seconds until ``condition``; raises AgentWorldError if it takes too long."""
        started = time.monotonic()
        while not condition():
            if time.monotonic() - started > WAIT_MAX_S:
                raise AgentWorldError(f"not within {WAIT_MAX_S:.0f} s: {what}")
            look()
            time.sleep(LOOK_S)
        return time.monotonic() - started

    def _status(self, name: str) -> dict[str, Any]:
        return self._processes.get(name, "/status") or {"peers": [], "storage": {}}

    def storage(self) -> dict[str, Any]:
        shown: dict[str, Any] = self._status(TAKER)["storage"]
        return shown

    def act(self, key: KeyPair, nonce: int, payload: object) -> None:
        data = build_action(
            key, Hash32(self._made.genesis_hash), self._made.world_id, payload,
            nonce=nonce, timestamp_ms=time.time_ns() // 1_000_000,
        )  # fmt: skip
        self._processes.post(GIVER, "/actions", data)

    def put(self, content: Iterator[bytes]) -> Cid:
        with NodeClient(self._made.nodes[0].home) as node:
            return Cid.parse(node.post_stream("/content", content)["cid"])


def pull(run: Run, authority: KeyPair, memory: Callable[[], Memory], mib: int) -> dict[str, Any]:
    key = KeyPair(os.urandom(32))
    run.act(authority, 1, RegisterAgent(name=Name("author"), public_key=key.public_key, registration_quota=U64(0)))
    used = memory()
    started = time.monotonic()
    large = run.put(parts(mib))
    put_s = time.monotonic() - started
    used.look()
    put_growth = used.growth()
    small = run.put(iter([b"small"]))
    used = memory()
    had = run.storage().get("have", 0)
    run.act(key, 1, CreateObject(object_id=Name("large"), content=large, size_bytes=U64(mib * MIB)))
    begun_s = run.wait("the file is being fetched", lambda: bool(run.storage().get("files")), used.look)
    run.act(key, 2, CreateObject(object_id=Name("small"), content=small, size_bytes=U64(5)))
    small_s = run.wait("one of the two is here", lambda: run.storage().get("have", 0) > had, used.look)
    progress = run.storage().get("files")
    rest_s = run.wait("all is here", lambda: run.storage().get("have", 0) >= had + 2, used.look)
    return {
        "put_s": round(put_s, 1),
        "put_mb_per_s": round(mib * 1.048576 / put_s, 1),
        "put_rss_growth_mib": put_growth,
        "begun_s": round(begun_s, 2),
        "small_s": round(small_s, 2),
        "large_here_when_small_was": progress[0]["bytes_here"] if progress else None,
        "pull_s": round(small_s + rest_s, 1),
        "pull_mb_per_s": round(mib * 1.048576 / (small_s + rest_s), 1),
        "pull_rss_growth_mib": used.growth(),
    }


@click.command()
@click.option("--mib", type=click.IntRange(2, 1023), default=1023, show_default=True, help="Size of the object.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def main(mib: int, as_json: bool) -> None:
    """A storage node pulls an object of almost 1 GiB, the most that an agent may name in a test world."""
    nodes = (
        NodeSpec(name=GIVER, role=Role.SEQUENCER, validator=True),
        NodeSpec(name=TAKER, role=Role.STORAGE, validator=False),
    )
    spec = SwarmSpec(world_id=WorldId("pull"), nodes=nodes, genesis_time_ms=TimeMs(time.time_ns() // 1_000_000))
    with tempfile.TemporaryDirectory(prefix="agent-world-pull-") as directory:
        made = make_swarm(Path(directory) / "swarm", spec)
        with Processes(made.nodes) as processes:
            run = Run(made, processes)
            run.start()
            pids = {name: processes.pid(name) for name in (GIVER, TAKER)}
            figures = pull(run, keyfile.read(made.authority_key), lambda: Memory(pids), mib)
    shown = {"row": "pull", "mib": mib, "figures": figures, "goals": {"pull_rss_growth_mib": GOAL_RSS_MIB}}
    click.echo(json.dumps(shown, indent=None if as_json else 1))


if __name__ == "__main__":
    main()

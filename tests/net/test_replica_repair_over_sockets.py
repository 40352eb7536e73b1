"""Three storage nodes on real sockets in one process: one loses all that it keeps, and planners make good for it."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
import trio

from agent_world.config import MINIMAL, ReplicasConfig
from agent_world.crypto.hashing import cid_of
from agent_world.crypto.keys import KeyPair
from agent_world.distfs.replicas import first_by_weight
from agent_world.node import holdings
from agent_world.node.node import Node
from agent_world.node.provision import MadeSwarm, NodeSpec, SwarmSpec, make_swarm
from agent_world.node.runner import load_home, run_node
from agent_world.node.views import NodeViews
from agent_world.store import keyfile
from agent_world.store.content import ContentState
from agent_world.store.home import HomeLayout
from agent_world.testing.node_swarm import make_key
from agent_world.testing.stack_actions import create, register
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.hello import Role
from agent_world.wire.ids import TimeMs, WorldId
from agent_world.world.admission import build_action

TARGET = 2
PER_PAIR = 3
POLL_MS = 500
RECEIPT_MS = 10_000


class Storage:
    """Nodes that are started and ended one by one; the first has the only vote."""

    def __init__(self, nursery: trio.Nursery, made: MadeSwarm) -> None:
        self._nursery = nursery
        self.homes = {node.name: node.home for node in made.nodes}
        self.nodes: dict[str, Node] = {}
        self._scopes: dict[str, trio.CancelScope] = {}
        self._ended: dict[str, trio.Event] = {}
        self._nonces: dict[bytes, int] = {}

    async def start(self, name: str) -> None:
        self._scopes[name], self._ended[name] = trio.CancelScope(), trio.Event()
        self.nodes[name] = await self._nursery.start(self._run, name)

    async def _run(self, name: str, *, task_status: Any) -> None:
        with self._scopes[name]:
            await run_node(load_home(self.homes[name]), task_status=task_status)
        self._ended[name].set()

    async def stop(self, name: str) -> None:
        del self.nodes[name]
        self._scopes[name].cancel()
        await self._ended[name].wait()

    def wipe(self, name: str) -> None:
        """Remove all content that is not the chain's from a home that nobody has open."""
        layout = HomeLayout(self.homes[name])
        with closing(sqlite3.connect(layout.world_db)) as database, database:
            database.execute("DELETE FROM blobs WHERE kept = 0")
            database.execute("DELETE FROM content")
        shutil.rmtree(self.homes[name] / "blobs", ignore_errors=True)
        (self.homes[name] / "blobs").mkdir()

    def copies(self, cid: Cid) -> set[str]:
        return {
            name
            for name, node in self.nodes.items()
            if (row := node.content.get(cid)) is not None
            and row.state is ContentState.HAVE
            and node.blobs.has(cid.digest)
        }

    def all_meet(self) -> bool:
        return all(len(node.replicas.holdings.members()) == len(self.homes) for node in self.nodes.values())

    async def do(self, key: KeyPair, payloads: Sequence[object]) -> None:
        """Have these actions committed."""
        node = self.nodes["s1"]
        views, ids = NodeViews(node), []
        for payload in payloads:
            nonce = self._nonces[key.public_key] = self._nonces.get(key.public_key, 0) + 1
            now_ms, world = TimeMs(time.time_ns() // 1_000_000), node.ledger.world_id
            data = build_action(key, node.ledger.genesis_hash, world, payload, nonce=nonce, timestamp_ms=now_ms)
            ids.append(views.submit(data))
        for action_id in ids:
            assert (await views.receipt(action_id, RECEIPT_MS))["outcome"] == "applied"

    async def name_contents(self, authority: KeyPair) -> list[Cid]:
        """As many for which each pair of nodes comes first; the first node has them, and so keeps all."""
        alice, random = make_key("alice"), Random(1)
        await self.do(authority, [register("alice")])
        members = [node.network.peer_id for node in self.nodes.values()]
        found: dict[frozenset[str], list[bytes]] = {}
        while len(found) < len(members) or any(len(data) < PER_PAIR for data in found.values()):
            data = random.randbytes(2_000)
            pair = frozenset(first_by_weight(cid_of(data, Codec.RAW).digest, members, TARGET))
            if len(found.setdefault(pair, [])) < PER_PAIR:
                found[pair].append(data)
        contents = [data for chosen in found.values() for data in chosen]
        cids = [cid_of(data, Codec.RAW) for data in contents]
        self.nodes["s1"].blobs.put_many(contents)
        await self.do(alice, [create(f"object-{place}", cid, 2_000) for place, cid in enumerate(cids)])
        return cids

    def count(self, counter: str) -> int:
        return sum(node.replicas.all_counters().get(counter, 0) for node in self.nodes.values())


async def test_a_wiped_node_is_repaired(tmp_path: Path, until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # These wait for others to come, which are all here in a moment.
    monkeypatch.setattr(holdings, "GATHER_MS", 200)
    monkeypatch.setattr(holdings, "MEET_MS", 200)
    spec = SwarmSpec(
        world_id=WorldId("repair"),
        nodes=tuple(NodeSpec(name=f"s{number}", role=Role.STORAGE, validator=number == 1) for number in (1, 2, 3)),
        genesis_time_ms=TimeMs(time.time_ns() // 1_000_000),
        config=attrs.evolve(
            MINIMAL, replicas=ReplicasConfig(target_replicas_per_blob=TARGET, poll_interval_ms=POLL_MS)
        ),
    )
    made = make_swarm(tmp_path / "swarm", spec)
    async with trio.open_nursery() as nursery:
        storage = Storage(nursery, made)
        for name in storage.homes:
            await storage.start(name)
        await until(storage.all_meet)
        cids = await storage.name_contents(keyfile.read(made.authority_key))
        await until(lambda: all(len(storage.copies(cid)) >= TARGET for cid in cids))
        lost = [cid for cid in cids if "s3" in storage.copies(cid)]
        short = [cid for cid in lost if "s2" not in storage.copies(cid)]
        assert len(short) >= PER_PAIR

        await storage.stop("s3")
        before = storage.count("replicas.succeeded")  # a round may have met a content before its holder had it
        storage.wipe("s3")
        # It comes back as one that waits for the others, and takes nothing by itself of what was named long ago.
        monkeypatch.setattr(holdings, "MEET_MS", 30_000)
        monkeypatch.setattr(holdings, "NEW_MS", 0)
        named_ms = time.time_ns() // 1_000_000
        await until(lambda: time.time_ns() // 1_000_000 - named_ms > 2 * POLL_MS)
        await storage.start("s3")
        await until(lambda: all(len(storage.copies(cid)) >= TARGET for cid in cids))
        await until(lambda: storage.count("replicas.succeeded") >= before + len(short))
        nursery.cancel_scope.cancel()

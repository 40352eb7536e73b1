"""agent-world demo."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs
import click
from rich.console import Console
from rich.progress import Progress

from agent_world.cli.demo_payments import Payments
from agent_world.cli.demo_swarm import POLL_S, DemoSwarm
from agent_world.cli.demo_ties import characters, final_balances, read_ties, ties_file
from agent_world.cli.output import json_option, show, show_rows
from agent_world.errors import DataError, Unavailable
from agent_world.node.provision import MadeSwarm, SwarmSpec, make_swarm, triad_nodes
from agent_world.node.settings import Topology
from agent_world.node.verify import verify_home
from agent_world.wire.ids import TimeMs, WorldId

AGREE_S = 20.0
"""Longest time for the nodes to reach one height after the last receipt."""


@attrs.frozen(slots=True)
class Agreement:
    """The height at which all nodes were seen, and the state root each reported there."""

    height: int
    roots: dict[str, str]
    certified_by: dict[str, list[str]]


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave the nodes' homes and say how to look around.")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path, file_okay=False), help="Folder for the homes (with --keep)."
)
@click.option("--ties", type=click.Path(path_type=Path, dir_okay=False), help="Another data file than Les Misérables.")
@json_option
def command(keep: bool, directory: Path | None, ties: Path | None, as_json: bool) -> None:
    """Three processes order, execute, store and verify 820 payments among the characters of Les Misérables."""
    # A polite kill must end the three processes too: as an exception it passes through every context below.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(128 + signal.SIGTERM))
    place = directory or Path(tempfile.mkdtemp(prefix="aw-demo-")) / "swarm"
    try:
        result = _run(place, ties or ties_file(), Console(stderr=True, quiet=as_json))
        _print(result, as_json=as_json)
        if keep:
            _say_how_to_look(place)
    finally:
        if not keep:
            shutil.rmtree(place if directory is not None else place.parent, ignore_errors=True)
    if not result["ok"]:
        sys.exit(DataError.exit_code)


def _run(place: Path, file: Path, console: Console) -> dict[str, Any]:
    started = time.monotonic()
    ties = read_ties(file)
    now = TimeMs(time.time_ns() // 1_000_000)
    spec = SwarmSpec(
        world_id=WorldId("les-miserables"),
        nodes=triad_nodes(),
        genesis_time_ms=now,
        topology=Topology.TRIAD_DISTRIBUTED,
    )
    made = make_swarm(place, spec)
    console.print(f"three validators, {len(characters(ties))} characters, {sum(tie.weight for tie in ties)} payments")
    with DemoSwarm(made) as swarm:
        with console.status("three processes start and find each other from one address"):
            swarm.wait_linked()
        linked = time.monotonic()
        payments = Payments(swarm, ties)
        with Progress(console=console) as bar:
            payments.run(bar)
        paid = time.monotonic()
        agreement = _agree(swarm)
        balances = payments.balances()
    wanted = final_balances(ties)
    rows = [_checked(made, node.name, agreement, swarm_count=payments.count) for node in made.nodes]
    wrong = {name: (balances.get(name, 0), amount) for name, amount in wanted.items() if balances.get(name) != amount}
    return {
        "ok": not wrong and all(row["ok"] for row in rows) and len(set(agreement.roots.values())) == 1,
        "nodes": rows,
        "actions": payments.count,
        "characters": len(wanted),
        "balances_compared": len(wanted),
        "balances_wrong": {name: {"world": got, "calculated": amount} for name, (got, amount) in wrong.items()},
        "seconds": {
            "until_linked": round(linked - started, 2),
            "ordering_and_execution": round(paid - linked, 2),
            "in_all": round(time.monotonic() - started, 2),
        },
    }


def _agree(swarm: DemoSwarm) -> Agreement:
    """Wait until all nodes are at one height; raises Unavailable if that does not come about."""
    deadline = time.monotonic() + AGREE_S
    while time.monotonic() < deadline:
        heads = {name: client.get("/head") for name, client in swarm.clients.items()}
        if len({head["height"] for head in heads.values()}) == 1:
            height = next(iter(heads.values()))["height"]
            return Agreement(
                height,
                {name: head["state_root"] for name, head in heads.items()},
                {name: head["certified_by"] for name, head in heads.items()},
            )
        time.sleep(POLL_S)
    raise Unavailable(f"the nodes were not at one height within {AGREE_S:.0f} s")


def _checked(made: MadeSwarm, name: str, agreement: Agreement, *, swarm_count: int) -> dict[str, Any]:
    """One node's row: its home verified by replay, compared with what it said while it ran."""
    home = next(node.home for node in made.nodes if node.name == name)
    started = time.monotonic()
    report = verify_home(home, watch_height=agreement.height)
    seconds = time.monotonic() - started
    root = agreement.roots[name]
    return {
        "node": name,
        "height": agreement.height,
        "actions": report.actions,
        "state_root": root,
        "certificate": "+".join(agreement.certified_by[name]),
        "blobs held/reachable": f"{report.held}/{report.reachable}",
        "verified by replay": f"{seconds:.2f} s" if report.ok else "WRONG",
        "ok": report.ok
        and str(report.watched_root) == root
        and report.actions == swarm_count
        and report.held == report.reachable,
        "problems": [f"height {problem.height}: {problem.what}: {problem.detail}" for problem in report.problems],
    }


def _print(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show(result, as_json=True)
        return
    columns = ("node", "height", "actions", "state_root", "certificate", "blobs held/reachable", "verified by replay")
    show_rows(result["nodes"], columns, as_json=False)
    for row in result["nodes"]:
        for problem in row["problems"]:
            click.echo(f"WRONG in {row['node']}: {problem}", err=True)
    for name, pair in result["balances_wrong"].items():
        click.echo(f"WRONG balance of {name}: {pair['world']} in the world, {pair['calculated']} calculated", err=True)
    seconds = result["seconds"]
    click.echo(
        f"balances: {result['balances_compared']} compared with a plain calculation from the data file,", nl=False
    )
    click.echo(f" {len(result['balances_wrong'])} differ")
    click.echo(
        f"{result['actions']} actions ordered and executed in {seconds['ordering_and_execution']} s"
        f" ({seconds['in_all']} s in all)"
    )
    click.echo("everything agrees" if result["ok"] else "NOT everything agrees")


def _say_how_to_look(place: Path) -> None:
    click.echo(f"the homes are in {place}; look around:")
    click.echo(f"  agent-world world verify --home {place}/storage")
    click.echo(f"  agent-world node run --home {place}/sequencer     (and storage, observer, each in a shell)")
    click.echo(f"  agent-world node status --home {place}/sequencer")
    click.echo(f"  agent-world world events --home {place}/observer --from-height 1")

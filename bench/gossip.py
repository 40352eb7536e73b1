"""Gossip between processes: how many messages a second go over one link, and how many arrive how fast in a swarm
whose nodes each dial a few others, with and without a third of them killed and started again meanwhile. All settings
are the defaults, the limits of rates among them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import click

GOAL_PER_S = 2_000
DIALS = 3
SETTLE_S = 2.0


class GossipNode:
    """A process that obeys JSON lines: a ``bench.gossip_node`` or another such module."""

    def __init__(self, seed: int, module: str = "bench.gossip_node") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        up = self.answer()
        self.peer: str = up["peer"]
        self.address: str = up["address"]

    def tell(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return cast(dict[str, Any], json.loads(self._process.stdout.readline()))

    def ask(self, **command: Any) -> dict[str, Any]:
        self.tell(**command)
        return self.answer()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def swarm(count: int, dials: int) -> Iterator[list[GossipNode]]:
    """Nodes of which each dials some that came before it."""
    nodes: list[GossipNode] = []
    try:
        for seed in range(1, count + 1):
            node = GossipNode(seed)
            link(node, nodes, dials)
            nodes.append(node)
        wait_linked(nodes, dials)
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def link(node: GossipNode, others: Sequence[GossipNode], dials: int) -> None:
    chosen = random.Random(node.peer).sample(list(others), min(dials, len(others)))
    node.ask(dial=[[other.peer, other.address] for other in chosen])


def wait_linked(nodes: Sequence[GossipNode], dials: int) -> None:
    wanted = min(dials, len(nodes) - 1)
    deadline = time.monotonic() + 30
    while any(node.ask(report=True)["links"] < wanted for node in nodes):
        if time.monotonic() > deadline:
            sys.exit("the nodes of the gossip row did not find each other within 30 s")
        time.sleep(0.1)
    time.sleep(SETTLE_S)  # the mesh forms with the heartbeat


def one_link(messages: int) -> dict[str, Any]:
    """1 KiB, as fast as the publisher's pacing lets it go."""
    with swarm(2, 1) as (reader, publisher):
        sent = publisher.ask(publish={"count": messages, "size": 1024, "per_s": 0})
        heard = settled(reader, messages)
    delays = heard["delays_ms"].get(publisher.peer, [])
    arrived_s = (heard["last_ns"] - heard["first_ns"]) / 1e9
    return {
        "sent": messages,
        "arrived": len(delays),
        "published_per_s": round(messages / sent["seconds"]),
        "arrived_per_s": round(len(delays) / arrived_s) if arrived_s else 0,
    }


def settled(node: GossipNode, messages: int) -> dict[str, Any]:
    """A node's report once all messages are there, or nothing has come for a while."""
    before = -1
    while True:
        heard = node.ask(report=True)
        count = sum(len(delays) for delays in heard["delays_ms"].values())
        if count >= messages or count == before:
            return heard
        before = count
        time.sleep(SETTLE_S)


def in_a_swarm(count: int, per_s: float, seconds: float, *, churn: bool) -> dict[str, Any]:
    """Every node that stays publishes; what the nodes that stay heard of each other."""
    with swarm(count, DIALS) as nodes:
        coming = count // 3 if churn else 0
        leaving, staying = nodes[count - coming :], nodes[: count - coming]
        each = int(seconds * per_s / len(staying))
        for node in staying:
            node.tell(publish={"count": each, "size": 1024, "per_s": per_s / len(staying)})
        if churn:
            time.sleep(seconds / 4)
            for node in leaving:
                node.kill()
            time.sleep(seconds / 4)
            for number, node in enumerate(leaving):
                again = GossipNode(count + 1 + number)
                link(again, staying, DIALS)
                nodes[nodes.index(node)] = again
        for node in staying:
            node.answer()
        time.sleep(SETTLE_S)
        return shown(staying, each)


def shown(nodes: Sequence[GossipNode], each: int) -> dict[str, Any]:
    reports = [node.ask(report=True) for node in nodes]
    known = {node.peer for node in nodes}
    delays = sorted(
        delay for report in reports for source, some in report["delays_ms"].items() if source in known for delay in some
    )
    expected = each * len(nodes) * (len(nodes) - 1)
    duplicates = sum(report["counters"].get("gossip_duplicate", 0) for report in reports)
    return {
        "delivered": round(len(delays) / expected, 4),
        "p50_ms": round(delays[len(delays) // 2], 1),
        "p99_ms": round(delays[len(delays) * 99 // 100], 1),
        "duplicates_per_message": round(duplicates / len(delays), 2),
        "links": [report["links"] for report in reports],
    }


@click.command()
@click.option(
    "--messages", type=click.IntRange(100), default=20_000, show_default=True, help="Over the one link; several bursts."
)
@click.option("--nodes", type=click.IntRange(3), default=9, show_default=True, help="Processes of the swarm.")
@click.option("--per-s", type=click.FloatRange(1), default=50.0, show_default=True, help="Messages in the whole swarm.")
@click.option("--seconds", type=click.FloatRange(1), default=10.0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def main(messages: int, nodes: int, per_s: float, seconds: float, as_json: bool) -> None:
    """Gossip: one link, and a swarm with and without churn."""
    figures = {
        "one_link_1_kib": one_link(messages),
        f"{nodes}_nodes": in_a_swarm(nodes, per_s, seconds, churn=False),
        f"{nodes}_nodes_churn": in_a_swarm(nodes, per_s, seconds, churn=True),
    }
    result = {"row": "gossip", "figures": figures, "goals": {"one_link_1_kib.arrived_per_s": GOAL_PER_S}}
    if as_json:
        click.echo(json.dumps(result))
        return
    for name, row in figures.items():
        click.echo(f"{name:18} " + "  ".join(f"{key} {value}" for key, value in row.items()))
    click.echo(f"goal: {GOAL_PER_S} messages/s over one link without loss")


if __name__ == "__main__":
    main()

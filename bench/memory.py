"""Memory: how much a process grows while 10^5 messages reach it. Three processes: two that send gossip, requests and
one-way messages, and the one that takes them all, whose resident memory is read at 2 * 10^4 messages and at 10^5.

Whatever keeps something of every message grows between the two; what is bounded has reached its bound by the first
mark or grows by less than the goal. With gossip alone the ids of seen messages reach their bound in between.
"""

from __future__ import annotations

import json
import time
from typing import Any

import click

from bench.gossip import SETTLE_S, GossipNode

FIRST_MARK, LAST_MARK = 20_000, 100_000
GOAL_MIB = 10.0
ROUND = 1_000
"""Messages of one sender between two looks at the receiver."""
SIZE = 256
WAIT_S = 60.0


def run(gossip_percent: int) -> dict[str, Any]:
    """The row."""
    nodes: list[GossipNode] = []
    try:
        nodes.extend(GossipNode(seed, "bench.memory_node") for seed in (1, 2, 3))
        receiver, *senders = nodes
        for sender in senders:
            sender.ask(dial=[[receiver.peer, receiver.address]])
        time.sleep(SETTLE_S)  # links and mesh
        started = time.monotonic()
        marks = {mark: rss_at(mark, receiver, senders, gossip_percent) for mark in (FIRST_MARK, LAST_MARK)}
        return shown(marks, receiver.ask(tally=True), time.monotonic() - started)
    finally:
        for node in nodes:
            node.kill()


def rss_at(mark: int, receiver: GossipNode, senders: list[GossipNode], gossip_percent: int) -> float:
    """Resident memory of the receiver in MiB once it has taken so many messages."""
    gossip = ROUND * gossip_percent // 100
    command = {"to": receiver.peer, "gossip": gossip, "others": (ROUND - gossip) // 2, "size": SIZE}
    while (taken := receiver.ask(tally=True)["taken"]) < mark:
        for sender in senders:
            sender.tell(mix=command)
        sent = sum(sender.answer()["sent"] for sender in senders)
        wait_taken(receiver, taken + sent)
    return float(receiver.ask(tally=True)["rss_mib"])


def wait_taken(receiver: GossipNode, count: int) -> None:
    """Until the receiver has taken so many, or gives no sign of taking more."""
    deadline = time.monotonic() + WAIT_S
    before = -1
    while (taken := receiver.ask(tally=True)["taken"]) < count and time.monotonic() < deadline:
        if taken == before:
            time.sleep(1)  # lost ones are not waited for
            if receiver.ask(tally=True)["taken"] == before:
                return
        before = taken
        time.sleep(0.05)


def shown(marks: dict[int, float], tally: dict[str, Any], seconds: float) -> dict[str, Any]:
    figures = {f"rss_mib_at_{mark}": round(value, 1) for mark, value in marks.items()}
    figures["growth_mib"] = round(marks[LAST_MARK] - marks[FIRST_MARK], 2)
    figures["messages_per_s"] = round(tally["taken"] / seconds)
    return {
        "row": "memory",
        "what": "resident memory of a receiver of 100,000 messages",
        "figures": figures,
        "by_kind": tally["by_kind"],
        "goals": {"growth_mib": GOAL_MIB},
    }


@click.command()
@click.option(
    "--gossip-percent", type=click.IntRange(0, 100), default=20, show_default=True, help="The rest is half requests."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def main(gossip_percent: int, as_json: bool) -> None:
    """Memory of a node between its 20,000th message and its 100,000th."""
    result = run(gossip_percent)
    if as_json:
        click.echo(json.dumps(result))
        return
    for name, value in result["figures"].items():
        click.echo(f"{name:20} {value}")
    click.echo(f"taken: {', '.join(f'{count} {kind}' for kind, count in result['by_kind'].items())}")
    growth = result["figures"]["growth_mib"]
    click.echo(f"goal: below {GOAL_MIB:g} MiB more: {'met' if growth < GOAL_MIB else 'missed'}")


if __name__ == "__main__":
    main()

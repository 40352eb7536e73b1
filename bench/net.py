"""Network: what one connection between two processes carries, with the library as it is and with our faster parts.

Requests of 100 B on the kept stream, a body on one stream, one-way messages, and the message round of a commit: 250 B
to three peers, each in a process of its own, and back from all three. Contenders take turns in every round, each with
peers of its own kind, and the median over the rounds of the ratio inside a round is what counts. The CPU time of the
asking process hardly depends on what else the machine does. The limits of rates are lifted, but for the requests of
one more contender with the settings of a node.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import attrs
import click
import trio

from agent_world.config import FASTER_PARTS
from agent_world.crypto.keys import KeyPair
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import MIB
from bench.net_node import DEFAULTS, config_of

PEERS = 3
"""Of a commit round; the first of them serves everything else too."""
REQUEST = bytes(100)
MESSAGE = bytes(250)
CONCURRENT = (1, 8, 32)
BODY_BYTES = 32 * MIB
CONNECT_S = 10.0
BURST_MAX_S = 10.0
BODY_S = 60.0
GOALS = {"defaults.requests_per_s_sustained": 2_500, "commit_round_p50_ms": 2.0}
ALL_PARTS = ",".join(FASTER_PARTS)
LIBRARY = "none"


@attrs.frozen
class Serving:
    """A peer in its own process."""

    peer: PeerId
    address: str


@contextlib.contextmanager
def serving(parts: str, count: int, first_seed: int) -> Iterator[list[Serving]]:
    """So many peers, ended on leaving."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.net_node", str(first_seed + index), parts],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for index in range(count)
    ]  # fmt: skip
    try:
        lines = [json.loads(process.stdout.readline()) for process in processes if process.stdout is not None]
        yield [Serving(PeerId(line["peer"]), line["address"]) for line in lines]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


async def requests_per_s(network: Libp2pNetwork, peer: PeerId, concurrent: int, seconds: float) -> float:
    """Requests answered a second by so many askers."""
    done = 0
    started = time.perf_counter()

    async def ask() -> None:
        nonlocal done
        while time.perf_counter() - started < seconds:
            await network.request(peer, "echo", REQUEST)
            done += 1

    async with trio.open_nursery() as nursery:
        for _ in range(concurrent):
            nursery.start_soon(ask)
    return done / (time.perf_counter() - started)


async def body_mib_per_s(network: Libp2pNetwork, peer: PeerId) -> float:
    """One body on one stream."""
    started, received = time.perf_counter(), 0
    asked = BODY_BYTES.to_bytes(8, "big")
    async with network.open_body(peer, "body", asked, timeout_s=BODY_S) as parts:
        async for part in parts:
            received += len(part)
    assert received == BODY_BYTES, "the whole body arrived"
    return BODY_BYTES / MIB / (time.perf_counter() - started)


async def messages_per_s(network: Libp2pNetwork, peer: PeerId, seconds: float) -> float:
    """One-way messages taken by the peer's handler; the sender yields when its queue is full."""

    async def handled() -> int:
        return int.from_bytes(await network.request(peer, "count", b""), "big")

    before = await handled()
    started = time.perf_counter()
    sent = 0
    while time.perf_counter() - started < seconds:
        # A burst, and then until it is handled: more in flight would be dropped by design.
        for _ in range(128):
            sent += network.send(peer, "count", MESSAGE)
        while await handled() - before < sent:
            pass
    return sent / (time.perf_counter() - started)


async def commit_rounds_ms(network: Libp2pNetwork, peers: list[PeerId], seconds: float) -> list[float]:
    """Times from sending to all peers until the last of them has answered, in milliseconds."""
    missing, complete = 0, trio.Event()

    async def back(_peer: PeerId, _payload: bytes) -> None:
        nonlocal missing
        missing -= 1
        if not missing:
            complete.set()

    network.on_message("back", back)
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while (started := time.perf_counter()) < until:
        missing, complete = len(peers), trio.Event()
        for peer in peers:
            network.send(peer, "round", MESSAGE)
        with trio.fail_after(CONNECT_S):
            await complete.wait()
        taken.append((time.perf_counter() - started) * 1000)
    return taken


async def measure(parts: str, peers: list[Serving], seconds: float, seed: int) -> dict[str, float]:
    """One contender's figures of one round; a new identity each time, as peers may still hold lines to the last."""
    async with Libp2pNetwork.open(config_of(parts), KeyPair(seed.to_bytes(32, "big"))) as network:
        for other in peers:
            network.dial(other.peer, other.address)
        with trio.fail_after(CONNECT_S):
            while len(network.peers()) < len(peers):  # noqa: ASYNC110 - once a contender and round
                await trio.sleep(0.02)
        peer_ids = [other.peer for other in peers]
        return await (sustained if parts == DEFAULTS else unlimited)(network, peer_ids, seconds)


async def unlimited(network: Libp2pNetwork, peers: list[PeerId], seconds: float) -> dict[str, float]:
    """What the connection carries."""
    first, figures = peers[0], dict[str, float]()
    await requests_per_s(network, first, 1, seconds / 4)  # opens the stream
    for concurrent in CONCURRENT:
        cpu = time.process_time()
        rate = await requests_per_s(network, first, concurrent, seconds)
        figures[f"requests_per_s_c{concurrent}"] = rate
        figures[f"request_cpu_us_c{concurrent}"] = (time.process_time() - cpu) * 1e6 / (rate * seconds)
    cpu = time.process_time()
    figures["body_mib_per_s"] = await body_mib_per_s(network, first)
    figures["body_cpu_ms_per_mib"] = (time.process_time() - cpu) * 1000 * MIB / BODY_BYTES
    figures["messages_per_s"] = await messages_per_s(network, first, seconds)
    await commit_rounds_ms(network, peers, seconds / 4)
    taken = sorted(await commit_rounds_ms(network, peers, seconds))
    figures["commit_round_p50_ms"] = statistics.median(taken)
    figures["commit_round_p99_ms"] = taken[len(taken) * 99 // 100]
    return figures


async def sustained(network: Libp2pNetwork, peers: list[PeerId], seconds: float) -> dict[str, float]:
    """Requests a second at the limits of a node, once what a burst allows is used up."""
    with trio.move_on_after(BURST_MAX_S):
        while not network.counters().get("own_rate_waited"):
            await requests_per_s(network, peers[0], CONCURRENT[-1], 0.2)
    return {"requests_per_s_sustained": await requests_per_s(network, peers[0], CONCURRENT[-1], seconds)}


def run(contenders: tuple[str, ...], rounds: int, seconds: float) -> dict[str, Any]:
    """The row: every contender in turn, medians of each, and the rounds' own ratios to the first contender."""
    measured: dict[str, list[dict[str, float]]] = {parts: [] for parts in contenders}
    with contextlib.ExitStack() as stack:
        peers = {
            parts: stack.enter_context(serving(parts, PEERS, 100 + 10 * number))
            for number, parts in enumerate(contenders)
        }
        for number in range(rounds):
            for parts in contenders:
                measured[parts].append(trio.run(measure, parts, peers[parts], seconds, 1_000 + number))
    figures = {
        parts: {name: round(statistics.median(each[name] for each in runs), 2) for name in runs[0]}
        for parts, runs in measured.items()
    }
    base = measured[contenders[0]]
    ratios = {
        parts: {
            name: round(statistics.median(a[name] / b[name] for a, b in zip(runs, base, strict=True)), 2)
            for name in base[0]
        }
        for parts, runs in measured.items()
        if parts not in (contenders[0], DEFAULTS)
    }
    return {"row": "net", "what": "one connection on loopback", "figures": figures, "ratios": ratios, "goals": GOALS}


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Turns of every contender.")
@click.option("--seconds", type=click.FloatRange(0.1), default=1.0, show_default=True, help="Of each measurement.")
@click.option("--each", is_flag=True, help="Also every faster part without the others.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def main(rounds: int, seconds: float, each: bool, as_json: bool) -> None:
    """Requests, bodies, messages and the message round of a commit over real sockets."""
    contenders = (LIBRARY, *(FASTER_PARTS if each else ()), ALL_PARTS, DEFAULTS)
    result = run(contenders, rounds, seconds)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    for parts, figures in result["figures"].items():
        click.echo(f"{parts}:")
        for name, value in figures.items():
            ratio = result["ratios"].get(parts, {}).get(name)
            click.echo(f"  {name:24}{value:10.2f}" + ("" if ratio is None else f"   x{ratio:.2f}"))


if __name__ == "__main__":
    main()

"""Storage challenges of a range of 64 KiB in a file, between two processes over libp2p, beside pings of the same stack.

``copy``: the challenger has the file too and compares the commitment; ``reveal``: it holds nothing, and the chunk of
256 KiB comes with its path. Pings and challenges take turns in every round, one at a time and 16 in flight.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import click
import trio

from agent_world.cli.allocator import keep_freed_memory
from agent_world.cli.collector import relax_collector, spare_what_stays
from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.distfs.challenge import Get
from agent_world.distfs.challenge_round import AskReveal, ChallengeRound, Effect, Outcome, OutcomeKind, RoundRules
from agent_world.errors import BlobNotFound
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.node.challenge_asking import ask_commitment
from agent_world.store.blobs import LocalCasStore
from agent_world.store.home import Home
from agent_world.wire import rpc
from agent_world.wire.challenge import ChallengeQuestion
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import U32, U64, PeerId
from agent_world.wire.limits import KIB
from bench.challenge_node import GENESIS, WORLD, config, store_file
from bench.figures import Latencies

IN_FLIGHT = 16
SAMPLE_BYTES = 64 * KIB
CONNECT_S = ANSWER_S = 10.0
RULES = RoundRules(genesis_hash=GENESIS, ttl_ms=10_000, skew_ms=5_000)
GOALS = {"sequential_ratio_to_ping": 0.6, "per_second_16_in_flight": 500, "p99_ms_16_in_flight": 20, "failed": 0}
Operation = Callable[[], Awaitable[None]]


def holds_nothing(content: ContentHash) -> bytes:
    """The copy of who has none."""
    raise BlobNotFound(content.hex())


class Asker:
    """Puts questions to one target; counts what failed."""

    def __init__(self, network: Libp2pNetwork, key: KeyPair, target: PeerId, content: Cid) -> None:
        self._network, self._key, self._target, self._content = network, key, target, content
        self._number = 0
        self.failed = 0

    async def ping(self) -> None:
        """One request of 100 B and back."""
        await self._network.request(self._target, "echo", bytes(100))

    async def challenge(self, own: Get) -> None:
        """One challenge to its outcome."""
        self._number += 1
        question = ChallengeQuestion(
            world_id=WORLD, challenger=self._network.peer_id, target=self._target, content=self._content,
            max_sample_bytes=U32(SAMPLE_BYTES), seed_height=U64(0), seed_hash=GENESIS,
            nonce=hash32(b"%d %d" % (self._number, time.time_ns())),
        )  # fmt: skip
        made = ChallengeRound(question, RULES, own)
        asked = made.give(time.time_ns() // 1_000_000, self._key)
        data = await ask_commitment(self._network, made, asked.payload, ANSWER_S)
        effect: Effect = made.answered(self._target, data)
        if isinstance(effect, AskReveal):
            data = await self._network.request(self._target, rpc.CHALLENGE_REVEAL, effect.payload)
            effect = made.revealed(self._target, data)
        self.failed += not (isinstance(effect, Outcome) and effect.kind is OutcomeKind.PASSED)


async def timed(operation: Operation, in_flight: int, seconds: float) -> Latencies:
    """The operation again and again, by so many at once."""
    taken: list[float] = []
    began = time.perf_counter()

    async def loop() -> None:
        while (started := time.perf_counter()) - began < seconds:
            await operation()
            taken.append(time.perf_counter() - started)

    async with trio.open_nursery() as nursery:
        for _ in range(in_flight):
            nursery.start_soon(loop)
    return Latencies.of(taken, elapsed_s=time.perf_counter() - began)


@contextlib.contextmanager
def target_process(path: Path, size_mib: int) -> Iterator[dict[str, str]]:
    """The target, ended on leaving."""
    arguments = [sys.executable, "-m", "bench.challenge_node", str(path), str(size_mib)]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


async def measure(there: dict[str, str], own: Get, rounds: int, seconds: float) -> dict[str, Any]:
    """All contenders in turn, in every round."""
    key = KeyPair(hash32(b"bench asker"))
    target = PeerId(there["peer"])
    async with Libp2pNetwork.open(config(), key) as network:
        network.dial(target, there["address"])
        with trio.fail_after(CONNECT_S):
            while not network.peers():  # noqa: ASYNC110 - once a run
                await trio.sleep(0.02)
        asker = Asker(network, key, target, Cid.parse(there["content"]))
        contenders: dict[str, Operation] = {
            "ping": asker.ping,
            "copy": lambda: asker.challenge(own),
            "reveal": lambda: asker.challenge(holds_nothing),
        }
        for operation in contenders.values():
            await operation()
        spare_what_stays()
        runs: dict[str, list[Latencies]] = {}
        for _ in range(rounds):
            for in_flight in (1, IN_FLIGHT):
                for name, operation in contenders.items():
                    found = await timed(operation, in_flight, seconds)
                    runs.setdefault(f"{name}_{in_flight}", []).append(found)
    return {"figures": shown(runs), "ratios_to_ping": ratios(runs), "failed": asker.failed}


def shown(runs: dict[str, list[Latencies]]) -> dict[str, dict[str, float]]:
    """Medians over the rounds."""
    names = ("per_second", "p50_ms", "p99_ms")
    return {
        contender: {name: round(statistics.median(getattr(each, name) for each in found), 2) for name in names}
        for contender, found in runs.items()
    }


def ratios(runs: dict[str, list[Latencies]]) -> dict[str, float]:
    """Median of the rounds' own ratios of rates."""
    return {
        contender: round(
            statistics.median(
                mine.per_second / ping.per_second
                for mine, ping in zip(found, runs[f"ping_{contender.rpartition('_')[2]}"], strict=True)
            ),
            2,
        )
        for contender, found in runs.items()
        if not contender.startswith("ping")
    }


def run(size_mib: int, rounds: int, seconds: float) -> dict[str, Any]:
    """The row."""
    relax_collector()  # as the process of a node does; the target too
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        Home.create(
            path / "own", genesis_hash=GENESIS, genesis_toml="", node_toml="", node_key=KeyPair(hash32(b"bench asker")),
            validator_key=None,
        )  # fmt: skip
        with target_process(path / "target", size_mib) as there, Home.open(path / "own", GENESIS) as home:
            blobs = LocalCasStore(home)
            assert str(store_file(blobs, size_mib)) == there["content"]
            found = trio.run(measure, there, blobs.get, rounds, seconds)
    return {"row": "challenge", "what": f"64 KiB of a file of {size_mib} MiB", **found, "goals": GOALS}


@click.command()
@click.option("--mib", type=click.IntRange(1), default=256, show_default=True, help="Size of the file.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Turns of every contender.")
@click.option("--seconds", type=click.FloatRange(0.1), default=2.0, show_default=True, help="Of each measurement.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def main(mib: int, rounds: int, seconds: float, as_json: bool) -> None:
    """Storage challenges beside pings of the same stack."""
    result = run(mib, rounds, seconds)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    for name, figures in result["figures"].items():
        ratio = result["ratios_to_ping"].get(name)
        line = f"{figures['per_second']:10.1f}/s  p50 {figures['p50_ms']:7.2f} ms  p99 {figures['p99_ms']:7.2f} ms"
        click.echo(f"{name:12}{line}" + ("" if ratio is None else f"  x{ratio:.2f} of ping"))
    click.echo(f"failed: {result['failed']}")


if __name__ == "__main__":
    main()

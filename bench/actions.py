"""Row 9: committed signed actions a second, four validators, blocks of 200, against etcd and pysyncobj.

Ours: agents' payments that were signed before are handed in at all four nodes in bundles; every node checks every
signature, executes every block, and makes it durable. An action counts when its block is committed; the rate is the
median of the four nodes. Peers: 64 clients that put 322 bytes each at the leader, a put after the last one's answer.
Each run starts a fresh cluster; the systems take turns, and the median over the rounds of the ratio inside one counts.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import attrs
import click

from agent_world.cli.client import NodeClient
from agent_world.config import MAINNET
from agent_world.crypto.hashing import actor_id_of
from agent_world.crypto.keys import KeyPair
from agent_world.errors import Unavailable
from agent_world.node.provision import MadeSwarm
from agent_world.store import keyfile
from agent_world.wire import record
from agent_world.wire.action import ActionBundle, GrantResource, RegisterAgent, TransferResource
from agent_world.wire.ids import U64, ActorId, Hash32, Name
from agent_world.wire.limits import GOSSIP_ACTIONS_MAX
from agent_world.world.admission import build_action
from bench import peer_etcd, peer_etcd_clients
from bench.consensus import MEMBERS, make_ours, measure_pysyncobj, our_nodes, times_file, wait_height

AGENTS: Final = 64
CLIENTS: Final = 64
BLOCK_ACTIONS: Final = 200
OPEN_PER_AGENT: Final = 48
"""Actions of one agent that are handed in and not committed: 3,072 of all, 15 blocks."""
SIGNED_PER_S_MAX: Final = 6_000
"""So many actions are signed beforehand for every second; a faster system would run out, which is an error."""
WARM_UP_S: Final = 3.0
SETTLE_S: Final = 60.0
LOOK_S: Final = 0.05
GOALS: Final = {"ours_per_s": 3_000.0, "ours_over_etcd": 0.8, "ours_over_pysyncobj": 5.0}


@attrs.frozen(slots=True, kw_only=True)
class OurRate:
    """One run of ours."""

    per_s: float
    """Committed actions a second, median of the nodes."""
    actions_per_block: float
    cpu_ms_per_action: float
    """Processor time of all four nodes together for one action."""
    loader_share: float
    """Of one core: what the load generator itself took, which ran on the same machine."""


@attrs.define(slots=True)
class _Payer:
    key: KeyPair
    actions: list[bytes] = attrs.Factory(list)
    sent: int = 0

    @property
    def actor_id(self) -> ActorId:
        return actor_id_of(self.key.public_key)


class _Load:
    """Payers at four nodes, each at one of them; how much is open is read from the state of the first node."""

    def __init__(self, made: MadeSwarm, clients: list[NodeClient], count: int) -> None:
        self._made = made
        self._clients = clients
        self._payers = [_Payer(KeyPair(os.urandom(32))) for _ in range(AGENTS)]
        self._by_id = {payer.actor_id: payer for payer in self._payers}
        # In turns, as they are ordered by the time at which they were signed.
        for nonce in range(1, count // AGENTS + 1):
            for number, payer in enumerate(self._payers):
                to = self._payers[(number + 1) % AGENTS].actor_id
                payment = TransferResource(resource=Name("sou"), to_actor_id=to, amount=U64(1))
                payer.actions.append(self._sign(payer.key, payment, nonce))

    def _sign(self, key: KeyPair, payload: object, nonce: int) -> bytes:
        return build_action(
            key, Hash32(self._made.genesis_hash), self._made.world_id, payload,
            nonce=nonce, timestamp_ms=time.time_ns() // 1_000_000,
        )  # fmt: skip

    def prepare(self) -> None:
        """Register the agents and fill their purses."""
        authority = keyfile.read(self._made.authority_key)
        payloads: list[object] = []
        for number, payer in enumerate(self._payers):
            name = Name(f"payer-{number}")
            payloads.append(RegisterAgent(name=name, public_key=payer.key.public_key, registration_quota=U64(0)))
            payloads.append(GrantResource(resource=Name("sou"), to_actor_id=payer.actor_id, amount=U64(10**9)))
        _hand_in(self._clients[0], [self._sign(authority, payload, n + 1) for n, payload in enumerate(payloads)])
        deadline = time.monotonic() + SETTLE_S
        for client in self._clients:
            while len(self._nonces(client)) < AGENTS:
                if time.monotonic() > deadline:
                    raise Unavailable(f"the agents are not registered within {SETTLE_S:.0f} s")
                time.sleep(LOOK_S)

    def _nonces(self, client: NodeClient) -> dict[ActorId, int]:
        """Last committed nonce by payer."""
        entries = client.get("/state/system", limit=4 * AGENTS)["entries"]
        values = {ActorId(entry["key"].removeprefix("actor/")): entry["value"] for entry in entries}
        return {actor_id: int(value["nonce"]) for actor_id, value in values.items() if actor_id in self._by_id}

    def run(self, seconds: float) -> None:
        """Keep every payer's open actions at OPEN_PER_AGENT for so long; raises Unavailable if they run out."""
        end = time.monotonic() + seconds
        while (looked_at := time.monotonic()) < end:
            committed = self._nonces(self._clients[0])
            for number, client in enumerate(self._clients):
                self._top_up(client, self._payers[number :: len(self._clients)], committed)
            time.sleep(max(0.0, LOOK_S - (time.monotonic() - looked_at)))

    def _top_up(self, client: NodeClient, payers: list[_Payer], committed: dict[ActorId, int]) -> None:
        bundle: list[bytes] = []
        for payer in payers:
            upto = committed[payer.actor_id] + OPEN_PER_AGENT
            if upto > len(payer.actions):
                raise Unavailable("the signed actions have run out; raise SIGNED_PER_S_MAX")
            bundle += payer.actions[payer.sent : upto]
            payer.sent = max(payer.sent, upto)
        _hand_in(client, bundle)


def _hand_in(client: NodeClient, actions: list[bytes]) -> None:
    for start in range(0, len(actions), GOSSIP_ACTIONS_MAX):
        part = actions[start : start + GOSSIP_ACTIONS_MAX]
        results = client.post_bytes("/actions/bundle", record.to_bytes(ActionBundle(actions=tuple(part))))["actions"]
        if refused := [result for result in results if "error" in result]:
            raise Unavailable(f"{len(refused)} actions were refused, the first by {refused[0]['error']}")


def measure_ours(directory: Path, seconds: float) -> OurRate:
    """Our four validators under load for so long after the warm-up."""
    made = make_ours(directory, attrs.evolve(MAINNET.batch, max_actions=BLOCK_ACTIONS))
    with our_nodes(made) as clients:
        wait_height(clients, 1)
        load = _Load(made, clients, int((WARM_UP_S + seconds + 1) * SIGNED_PER_S_MAX))
        load.prepare()
        load.run(WARM_UP_S)
        from_ns, from_cpu = time.monotonic_ns(), time.process_time()
        load.run(seconds)
        to_ns, loader_s = time.monotonic_ns(), time.process_time() - from_cpu
    rates, sizes, cpu_ms = [], [], 0.0
    for node in made.nodes:
        times = [each for each in json.loads(times_file(node.home).read_text()) if from_ns <= each[1] < to_ns]
        counts = _actions_by_height(node.home)
        first, last = times[0], times[-1]
        committed = sum(counts.get(height, 0) for height, _, _ in times[1:])
        rates.append(committed * 1e9 / (last[1] - first[1]))
        sizes.append(committed / (len(times) - 1))
        cpu_ms += (last[2] - first[2]) / 1e6 / committed
    return OurRate(
        per_s=round(statistics.median(rates), 1),
        actions_per_block=round(statistics.median(sizes), 1),
        cpu_ms_per_action=round(cpu_ms, 3),
        loader_share=round(loader_s * 1e9 / (to_ns - from_ns), 2),
    )


def _actions_by_height(home: Path) -> dict[int, int]:
    with closing(sqlite3.connect(home / "world.db")) as database:
        return dict(database.execute("SELECT height, count(*) FROM receipts GROUP BY height"))


def measure_etcd(directory: Path, seconds: float) -> float:
    """Puts a second of an etcd cluster with CLIENTS clients."""
    return peer_etcd_clients.measure(directory, MEMBERS, CLIENTS, seconds)


def measure_pysyncobj_rate(directory: Path, seconds: float) -> float:
    """Puts a second of a pysyncobj cluster with CLIENTS clients."""
    return measure_pysyncobj(directory, seconds, CLIENTS).per_second


def run(rounds: int, seconds: float) -> dict[str, Any]:
    """The row: systems in turns, medians, ratios; a peer that is not installed is 'skipped'."""
    systems: dict[str, Callable[[Path, float], Any] | None] = {
        "ours": measure_ours,
        "etcd": measure_etcd if peer_etcd.binary() is not None else None,
        "pysyncobj": measure_pysyncobj_rate if importlib.util.find_spec("pysyncobj") is not None else None,
    }
    measured: dict[str, list[Any]] = {}
    for _ in range(rounds):
        for name, measure in systems.items():
            if measure is not None:
                with tempfile.TemporaryDirectory(prefix=f"aw-bench-{name}-") as directory:
                    measured.setdefault(name, []).append(measure(Path(directory), seconds))
    ours = measured.pop("ours")
    figures: dict[str, Any] = dict.fromkeys(systems, "skipped")
    figures["ours"] = {
        "per_s": statistics.median(one.per_s for one in ours),
        "runs": [attrs.asdict(one) for one in ours],
    }
    ratios = {}
    for name, rates in measured.items():
        figures[name] = {"per_s": statistics.median(rates), "runs": rates}
        pairs = zip(ours, rates, strict=True)
        ratios[f"ours_over_{name}"] = round(statistics.median(one.per_s / rate for one, rate in pairs), 2)
    return {"row": 9, "what": "committed signed actions", "figures": figures, "ratios": ratios, "goals": GOALS}


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Turns of every system.")
@click.option("--seconds", type=click.FloatRange(0.5), default=4.0, show_default=True, help="Measured in each turn.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def main(rounds: int, seconds: float, as_json: bool) -> None:
    """Row 9: committed signed actions a second."""
    result = run(rounds, seconds)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    for name, shown in result["figures"].items():
        if shown == "skipped":
            click.echo(f"{name:10}  skipped: not installed")
        else:
            click.echo(f"{name:10}{shown['per_s']:9.1f} a second   {shown['runs']}")
    for name, value in {"ours_per_s": result["figures"]["ours"]["per_s"], **result["ratios"]}.items():
        click.echo(f"{name}: {value} (goal {GOALS[name]:g})")


if __name__ == "__main__":
    main()

"""Challenges between real hosts on loopback: who deleted its blobs fails every one, its honest neighbour none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from swarm import Client, Swarm, run_command

from agent_world.config import MAINNET, MINIMAL, ChallengeConfig
from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.distfs.challenge_round import AskReveal, ChallengeRound, Effect, Outcome, OutcomeKind, RoundRules
from agent_world.distfs.manifest import ManifestBuilder
from agent_world.handlers.challenge import ChallengeHandler
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.node.provision import SwarmSpec, make_swarm, triad_nodes
from agent_world.node.settings import Topology
from agent_world.store.blobs import LocalCasStore
from agent_world.store.home import Home
from agent_world.wire import rpc
from agent_world.wire.challenge import ChallengeQuestion, FailureReason
from agent_world.wire.cid import Cid
from agent_world.wire.ids import U32, U64, Hash32, TimeMs, WorldId

ROUNDS = 500
IN_FLIGHT = 16
WORLD, GENESIS = WorldId("sockets"), hash32(b"genesis")
RULES = RoundRules(genesis_hash=GENESIS, ttl_ms=10_000, skew_ms=1_000)
NOW_MS = 1_000
DATA = bytes(range(251)) * 4_000


def store_file(blobs: LocalCasStore) -> Cid:
    builder = ManifestBuilder()
    made = dict([*builder.add(DATA), *builder.finish()])
    blobs.put_many(made.values())
    *_others, top = made
    return top


class Holder:
    """A node with a store on disk and no block committed."""

    world_id = WORLD
    genesis_hash = GENESIS

    def __init__(self, blobs: LocalCasStore) -> None:
        self.read = blobs.get

    def block_hash(self, height: int) -> Hash32 | None:
        return None if height else GENESIS


@asynccontextmanager
async def holder(path: Path, seed: int) -> AsyncIterator[tuple[Libp2pNetwork, LocalCasStore, Cid]]:
    key = KeyPair(hash32(b"holder %d" % seed))
    Home.create(path, genesis_hash=GENESIS, genesis_toml="", node_toml="", node_key=key, validator_key=None)
    with Home.open(path, GENESIS) as home:
        blobs = LocalCasStore(home)
        top = store_file(blobs)
        async with Libp2pNetwork.open(MINIMAL.net, key) as network:
            handler = ChallengeHandler((network.peer_id, key), Holder(blobs), lambda: NOW_MS, skew_ms=1_000)
            network.serve(rpc.CHALLENGE, handler.serve_challenge)
            network.serve(rpc.CHALLENGE_REVEAL, handler.serve_reveal)
            yield network, blobs, top


async def outcomes(asker: tuple[Libp2pNetwork, KeyPair], target: Libp2pNetwork, content: Cid) -> Counter[Any]:
    """Of ROUNDS questions by who holds nothing, IN_FLIGHT at a time."""
    network, key = asker
    found: Counter[Any] = Counter()
    numbers = iter(range(ROUNDS))

    async def ask() -> None:
        for number in numbers:
            question = ChallengeQuestion(
                world_id=WORLD, challenger=network.peer_id, target=target.peer_id, content=content,
                max_sample_bytes=U32(65_536), seed_height=U64(0), seed_hash=GENESIS, nonce=hash32(b"%d" % number),
            )  # fmt: skip
            made = ChallengeRound(question, RULES)
            data = await network.request(target.peer_id, rpc.CHALLENGE, made.give(NOW_MS, key).payload)
            effect: Effect = made.answered(target.peer_id, data)
            if isinstance(effect, AskReveal):
                data = await network.request(target.peer_id, rpc.CHALLENGE_REVEAL, effect.payload)
                effect = made.revealed(target.peer_id, data)
            assert isinstance(effect, Outcome)
            found[effect.kind, effect.reason] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(IN_FLIGHT):
            nursery.start_soon(ask)
    return found


async def test_who_deleted_its_blobs_fails_500_rounds_and_its_neighbour_passes_500(tmp_path: Path) -> None:
    key = KeyPair(hash32(b"asker"))
    async with (
        Libp2pNetwork.open(MINIMAL.net, key) as network,
        holder(tmp_path / "honest", 1) as (honest, _blobs, content),
        holder(tmp_path / "emptied", 2) as (emptied, blobs, same),
    ):
        assert content == same
        blobs.delete_many(list(blobs.iterate()))
        for other in (honest, emptied):
            network.dial(other.peer_id, other.listen_addresses()[0])
        with trio.fail_after(30):
            while len(network.peers()) < 2:  # noqa: ASYNC110 - what is waited for is told by no event
                await trio.sleep(0.01)
        failed = {(OutcomeKind.FAILED, FailureReason.MISSING_SAMPLE): ROUNDS}
        assert await outcomes((network, key), emptied, content) == failed
        assert await outcomes((network, key), honest, content) == {(OutcomeKind.PASSED, None): ROUNDS}


def test_the_commands_against_running_nodes(tmp_path: Path) -> None:
    """A triad of processes: the observer challenges the storage node, which then loses a blob."""
    consensus = attrs.evolve(MAINNET.consensus, empty_block_interval_ms=300)
    spec = SwarmSpec(
        world_id=WorldId("challenges"),
        nodes=triad_nodes(),
        genesis_time_ms=TimeMs(1_700_000_000_000),
        topology=Topology.TRIAD_DISTRIBUTED,
        config=attrs.evolve(MAINNET, consensus=consensus, challenge=ChallengeConfig(interval_ms=0, settle_ms=0)),
    )
    made = make_swarm(tmp_path / "swarm", spec)
    homes = {node.name: node.home for node in made.nodes}
    with Swarm(made.nodes) as swarm:
        swarm.start("sequencer", "storage", "observer")
        swarm.wait_all_linked()
        swarm.wait_height(3, list(homes))
        observer = str(homes["observer"])
        ran = run_command("challenge", "run", "--home", observer, "--count", "5", "--json")
        assert ran.returncode == 0, ran.stderr
        rows = json.loads(ran.stdout)
        assert [row["outcome"] for row in rows] == ["passed"] * 5
        with Client(homes["storage"]) as client:
            content = client.post_bytes("/blobs", b"a poem" * 10_000)
            target = client.get("/status")["peer_id"]
        asked = ("challenge", "run", "--home", observer, "--content", content["cid"], "--target", target, "--json")
        ran = run_command(*asked)
        (row,) = json.loads(ran.stdout)
        assert (ran.returncode, row["outcome"], row["checked_against"]) == (0, "passed", "reveal")
        digest = content["content_hash"]
        (homes["storage"] / "blobs" / digest[:2] / digest).unlink()
        ran = run_command(*asked)
        (row,) = json.loads(ran.stdout)
        assert (ran.returncode, row["outcome"], row["reason"]) == (76, "failed", "MISSING_SAMPLE"), ran.stderr
        explained = run_command("challenge", "explain", row["challenge_id"], "--home", observer)
        assert "MISSING_SAMPLE" in explained.stdout
        status = json.loads(run_command("challenge", "status", "--home", observer, "--json").stdout)
        (state,) = status["distfs_challenge_report"]["targets"].values()
        assert (state["passed_checks"], state["failed_checks"], state["suspects"]) == (6, 1, [content["cid"]])
        assert state["last_backoff_reason"] == "MISSING_SAMPLE"
        assert run_command("challenge", "status", "--home", observer).stdout.count("MISSING_SAMPLE") >= 2

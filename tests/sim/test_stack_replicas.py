"""Stack tier: with a target below all each content is kept at so many storage nodes, which see to that themselves."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Final

import attrs
import trio

from agent_world.config import MINIMAL, NodeConfig, ReplicasConfig
from agent_world.crypto.hashing import content_hash
from agent_world.distfs.replicas import responsible
from agent_world.errors import BlobNotFound, ErrorCode, Refused
from agent_world.net.interface import RequestHandler
from agent_world.node.views import NodeViews
from agent_world.store.content import ContentState
from agent_world.store.home import HomeLayout
from agent_world.testing.stack import Stack, make_key, open_stack, specs
from agent_world.testing.stack_actions import applied, create, found_people
from agent_world.wire import record, rpc
from agent_world.wire.blob import FetchBlobsRequest, FetchBlobsResponse
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import RPC_INLINE_BYTES_MAX
from agent_world.wire.replica import ReplicaAsk, ReplicaRequest

TARGET: Final = 3
REPLICAS: Final = ReplicasConfig(target_replicas_per_blob=TARGET, poll_interval_ms=5_000)
CONFIG: Final[NodeConfig] = attrs.evolve(
    MINIMAL,
    replicas=REPLICAS,
    consensus=attrs.evolve(MINIMAL.consensus, empty_block_interval_ms=2_000),
    challenge=attrs.evolve(MINIMAL.challenge, interval_ms=2_000, settle_ms=2_000, challenge_ttl_ms=2_000),
)
KEEPERS: Final = ("s1", "s2", "s3", "s4", "s5")
SWARM: Final = specs(validators=3, storage=5)
OBJECT_BYTES: Final = 5_000


def copies(stack: Stack, cid: Cid) -> set[str]:
    """Who keeps it, by its own table and in its own store."""
    return {
        name
        for name in KEEPERS
        if stack.members[name].node is not None
        and (row := stack.node(name).content.get(cid)) is not None
        and row.state is ContentState.HAVE
        and stack.node(name).blobs.has(cid.digest)
    }


async def name_contents(stack: Stack, count: int, first: int = 0) -> list[Cid]:
    """Objects whose content a validator has."""
    cids = []
    for number in range(first, first + count):
        data = Random(f"object {number}").randbytes(OBJECT_BYTES)
        cids.append(NodeViews(stack.node("v1")).put_blob(data))
        payload = create(f"object-{number}", cids[-1], len(data))
        await applied(stack, "v1", stack.submit("v1", make_key("alice"), payload))
    return cids


async def kept_world(stack: Stack, count: int) -> list[Cid]:
    await stack.start_all()
    await found_people(stack, "v1")
    await stack.until(
        lambda: all(len(stack.node(name).replicas.holdings.members()) == len(KEEPERS) for name in KEEPERS), "all meet"
    )
    cids = await name_contents(stack, count)
    await stack.until(lambda: all(len(copies(stack, cid)) >= TARGET for cid in cids), "all have their copies")
    return cids


def counts(stack: Stack, cids: list[Cid]) -> list[int]:
    return [len(copies(stack, cid)) for cid in cids]


def sum_of(stack: Stack, counter: str) -> int:
    return sum(stack.counters(name).get(counter, 0) for name in KEEPERS if stack.members[name].node is not None)


async def test_new_content_is_kept_at_as_many_nodes_as_wanted(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        cids = await kept_world(stack, 20)
        await trio.sleep(30)
        assert counts(stack, cids) == [TARGET] * len(cids)
        assert all(sum(name in copies(stack, cid) for cid in cids) for name in KEEPERS), "everybody keeps some"
        assert sum_of(stack, "replicas.attempted") == 0, "there was nothing to plan"
        holders = {stack.members[name].peer_id for name in copies(stack, cids[0])}
        assert stack.dht.providers[cids[0].digest] == holders
        for name in ("o1", "s1", "v2"):
            if name in stack.members:
                assert await NodeViews(stack.node(name)).blob(cids[0].digest)


async def test_what_a_wiped_node_kept_is_copied_and_no_more(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        cids = await kept_world(stack, 20)
        await trio.sleep(60)
        lost = [cid for cid in cids if "s2" in copies(stack, cid)]
        assert lost
        await stack.stop("s2")
        assert {len(copies(stack, cid)) for cid in lost} == {TARGET - 1}
        pulled = sum_of(stack, "storage.pulled")
        await stack.until(lambda: counts(stack, cids) == [TARGET] * len(cids), "repaired")
        assert sum_of(stack, "storage.pulled") - pulled == len(lost), "a copy each, and nothing else moved"
        await trio.sleep(30)
        assert counts(stack, cids) == [TARGET] * len(cids)
        assert sum_of(stack, "storage.pulled") - pulled == len(lost)


QUOTA: Final = 200_000


def fill(stack: Stack, name: str, per_mille: int) -> None:
    """Give a node content of its own, pinned there, so that so much of its quota is used."""
    size = QUOTA * per_mille // 1_000 - stack.node(name).replicas.holdings.used_bytes()
    NodeViews(stack.node(name)).put_blob(Random(f"own {name}").randbytes(size))


async def test_a_loaded_node_is_relieved_and_drops_its_copies(tmp_path: Path, autojump_clock: object) -> None:
    """K-3.7: copy, verify, withdraw; never below the target."""
    config = attrs.evolve(CONFIG, storage=attrs.evolve(CONFIG.storage, quota_bytes=QUOTA))
    async with open_stack(tmp_path, SWARM, config=config) as stack:
        cids = await kept_world(stack, 20)
        mine = [cid for cid in cids if "s2" in copies(stack, cid)]
        assert len(mine) > 5
        await trio.sleep(40)  # a node that has just started promises for all that it may have promised before
        fill(stack, "s2", 950)

        def load(name: str) -> int:
            used = stack.node(name).replicas.holdings.used_bytes()
            return 1_000 * used // QUOTA

        assert load("s2") >= REPLICAS.rebalance_source_load_min_per_mille
        least = TARGET

        def is_relieved() -> bool:
            nonlocal least
            least = min(least, *counts(stack, cids))
            return load("s2") < REPLICAS.rebalance_source_load_min_per_mille and counts(stack, cids) == [TARGET] * 20

        await stack.until(is_relieved, "it is relieved")
        assert least == TARGET, "never below the target"
        given_up = [cid for cid in mine if "s2" not in copies(stack, cid)]
        assert given_up
        assert not any(stack.node("s2").blobs.has(cid.digest) for cid in given_up), "its bytes are freed"
        peer = stack.members["s2"].peer_id
        assert not any(peer in stack.dht.providers[cid.digest] for cid in given_up)
        assert stack.counters("s2")["replicas.given_up"] == len(given_up)
        assert await NodeViews(stack.node("s2")).blob(given_up[0].digest)


async def test_who_leaves_content_to_others_fails_no_challenge(tmp_path: Path, autojump_clock: object) -> None:
    """Every member challenges for content that only three of the five keep."""
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        await kept_world(stack, 12)
        await trio.sleep(120)
        reports = [stack.status(name)["distfs_challenge_report"] for name in stack.members]
        assert sum(report["passed_checks"] for report in reports) > 300
        assert [report["failure_reasons"] for report in reports] == [{}] * len(reports)
        assert sum(stack.counters(name).get("challenge.not_kept", 0) for name in stack.members) > 5


async def test_who_lies_about_what_it_holds_counts_as_no_copy(tmp_path: Path, autojump_clock: object) -> None:
    """It goes on saying that it holds what it has thrown away; the range of a challenge shows that it does not."""
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        cids = await kept_world(stack, 6)
        liar = stack.node("s4")
        mine = [cid for cid in cids if "s4" in copies(stack, cid)]
        gone = {cid.digest for cid in mine}

        def read(content: ContentHash) -> bytes:
            if content in gone:
                raise BlobNotFound(content.hex())
            return liar.blobs.get(content)

        assert mine
        liar.challenges.draw.read = read  # type: ignore[method-assign]
        honest = set(KEEPERS) - {"s4"}
        await stack.until(
            lambda: all(len(copies(stack, cid) & honest) >= TARGET for cid in mine), "honest nodes hold enough"
        )


async def test_a_planner_that_dies_is_followed_by_the_next(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        cids = await kept_world(stack, 12)
        planners = {cid: responsible(cid.digest, keepers(stack)) for cid in cids}
        names = {member.peer_id: name for name, member in stack.members.items()}
        planner = planners[cids[0]]
        assert planner is not None
        victim = names[planner]
        await stack.stop(victim)
        await stack.until(lambda: counts(stack, cids) == [TARGET] * len(cids), "the others plan what it planned")


def keepers(stack: Stack) -> list[PeerId]:
    return [stack.members[name].peer_id for name in KEEPERS]


async def test_a_target_that_refuses_is_noted_and_others_get_their_copies(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        cids = await kept_world(stack, 12)

        async def full(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
            request = record.from_bytes(ReplicaRequest, data, size_max=RPC_INLINE_BYTES_MAX)
            if request.ask is ReplicaAsk.HOLD:
                raise Refused(ErrorCode.BUSY, "there is no room for it here", rule="R8")
            return await handler(peer, data)

        stack.network("s5").lie(rpc.REPLICA, full)
        await stack.stop("s1")
        takers = set(KEEPERS) - {"s1", "s5"}
        able = [cid for cid in cids if not takers <= copies(stack, cid)]
        await stack.until(
            lambda: all(len(copies(stack, cid)) == TARGET or takers <= copies(stack, cid) for cid in cids),
            "who can takes the copies",
        )
        assert able
        failed = [
            row["error"]
            for name in takers
            for row in stack.status(name)["replicas"]["last_round"]["report"]["failed_tasks"]
        ]
        refused = sum_of(stack, "replicas.task_refused.R8")
        assert refused or not failed
        assert all("no room" in error for error in failed)


async def test_wrong_bytes_from_a_source_are_not_taken_for_a_copy(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        cids = await kept_world(stack, 12)

        async def wrong(_handler: RequestHandler, _peer: PeerId, data: bytes) -> bytes:
            asked = record.from_bytes(FetchBlobsRequest, data, size_max=RPC_INLINE_BYTES_MAX).content_hashes
            return record.to_bytes(FetchBlobsResponse(blobs=tuple(b"other bytes" for _ in asked)))

        stack.network("s3").lie(rpc.FETCH_BLOBS, wrong)
        await stack.stop("s1")
        await stack.until(lambda: counts(stack, cids) == [TARGET] * len(cids), "repaired from honest holders")
        for cid in cids:
            for name in copies(stack, cid):
                assert content_hash(stack.node(name).blobs.get(cid.digest)) == cid.digest


async def test_two_planners_that_see_different_nodes_do_no_harm(tmp_path: Path, autojump_clock: object) -> None:
    """Parted from each other, both halves make copies of what they lack; together again the surplus goes."""
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        cids = await kept_world(stack, 8)
        await trio.sleep(40)
        stack.hub.partition(stack.peers("s1", "s2"), stack.peers("s3", "s4", "s5"))
        await trio.sleep(60)
        assert all(len(copies(stack, cid)) >= TARGET for cid in cids)
        assert any(len(copies(stack, cid)) > TARGET for cid in cids), "both sides have planned"
        stack.hub.heal()
        least = TARGET

        def is_trimmed() -> bool:
            nonlocal least
            least = min(least, *counts(stack, cids))
            return counts(stack, cids) == [TARGET] * len(cids)

        await stack.until(is_trimmed, "the surplus is given up")
        assert least == TARGET


async def test_a_copy_made_and_not_announced_is_announced_after_a_restart(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        cids = await kept_world(stack, 6)
        await trio.sleep(10)
        mine = [cid for cid in cids if "s3" in copies(stack, cid)]
        await stack.stop("s3")
        peer = stack.members["s3"].peer_id
        with closing(sqlite3.connect(HomeLayout(stack.members["s3"].home).world_db)) as database, database:
            database.execute("DELETE FROM provided_roots")
        for cid in mine:
            stack.dht.providers[cid.digest].discard(peer)
        await stack.start("s3")
        await stack.until(lambda: all(peer in stack.dht.providers[cid.digest] for cid in mine), "announced")

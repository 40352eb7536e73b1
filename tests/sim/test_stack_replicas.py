"""Stack tier: with a target below all each content is kept at so many storage nodes, which see to that themselves."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import attrs
import trio
from sharing import (
    CONFIG,
    FILE_BYTES,
    KEEPERS,
    QUOTA,
    REPLICAS,
    SWARM,
    TARGET,
    copies,
    counts,
    fill,
    keepers,
    kept_world,
    name_contents,
    named_file,
    sum_of,
)

from agent_world.config import MINIMAL
from agent_world.crypto.hashing import content_hash
from agent_world.distfs.replicas import first_by_weight, responsible
from agent_world.errors import BlobNotFound, ErrorCode, Refused
from agent_world.net.interface import RequestHandler
from agent_world.node.views import NodeViews
from agent_world.store.content import ContentState
from agent_world.store.home import HomeLayout
from agent_world.testing.stack import open_stack
from agent_world.wire import record, rpc
from agent_world.wire.blob import FetchBlobsRequest, FetchBlobsResponse
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import RPC_INLINE_BYTES_MAX
from agent_world.wire.replica import ReplicaAsk, ReplicaRequest


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
    """T-8.13: whoever is to take a copy takes it and publishes that it has it."""
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
        for cid in lost:
            holders = {stack.members[name].peer_id for name in copies(stack, cid)}
            assert stack.dht.providers[cid.digest] >= holders, "the new copy is announced as well"


async def test_t_8_13_without_the_dht_copies_are_made_all_the_same(tmp_path: Path, autojump_clock: object) -> None:
    """T-8.13: no DHT is no error; an interval of 0 is refused, see tests/unit/test_config.py."""
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        cids = await kept_world(stack, 10)
        await trio.sleep(10)
        stack.cut_off.update(stack.members)
        lost = [cid for cid in cids if "s2" in copies(stack, cid)]
        await stack.stop("s2")
        assert lost
        await stack.until(lambda: counts(stack, cids) == [TARGET] * len(cids), "repaired")
        await trio.sleep(60)
        assert (sum_of(stack, "replicas.failed"), sum_of(stack, "dht.provide_failed") > 0) == (0, True)
        new = [(cid, name) for cid in lost for name in copies(stack, cid)]
        late = [name for cid, name in new if stack.members[name].peer_id not in stack.dht.providers[cid.digest]]
        assert len(late) == len(lost), "nobody could be told"
        stack.cut_off.clear()
        await stack.until(
            lambda: all(stack.members[name].peer_id in stack.dht.providers[cid.digest] for cid, name in new), "told"
        )


async def test_who_leaves_content_to_others_fails_no_challenge(tmp_path: Path, autojump_clock: object) -> None:
    """Every member challenges for content that only three of the five keep."""
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        await kept_world(stack, 12)
        await trio.sleep(120)

        def not_kept() -> int:
            return sum(stack.counters(name).get("challenge.not_kept", 0) for name in stack.members)

        # What is asked for is drawn by chance, and seldom content that its target leaves to others.
        for _ in range(20):
            if not_kept() > 5:
                break
            await trio.sleep(30)
        assert not_kept() > 5
        reports = [stack.status(name)["distfs_challenge_report"] for name in stack.members]
        assert sum(report["passed_checks"] for report in reports) > 300
        assert [report["failure_reasons"] for report in reports] == [{}] * len(reports)


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
        for _ in range(12):
            await trio.sleep(5)
            rounds = [stack.status(name)["replicas"]["last_round"] for name in honest]
            assert [row["release_tasks"] for row in rounds if row] == [[]] * len(honest), (
                "its word is not believed again"
            )
        assert all(len(copies(stack, cid) & honest) >= TARGET for cid in mine), "nor is it obeyed"


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


async def test_a_file_moves_as_a_whole_and_is_read_from_anywhere(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        await kept_world(stack, 1)
        cid = await named_file(stack)
        holder = min(copies(stack, cid))
        before = {name: stack.node(name).blobs.usage().size_bytes for name in KEEPERS if name not in copies(stack, cid)}
        await stack.stop(holder)
        await stack.until(lambda: len(copies(stack, cid)) == TARGET, "another node has copied it")
        (new,) = [name for name in before if name in copies(stack, cid)]
        assert await stack.node(new).large.here(cid) == FILE_BYTES
        moved = sum(stack.node(name).blobs.usage().size_bytes - size for name, size in before.items())
        assert FILE_BYTES <= moved < FILE_BYTES * 1.1, "once, and nowhere else"
        (other,) = [name for name in before if name not in copies(stack, cid)]
        await stack.stop("v1")  # who has put it there is gone
        assert await stack.node(other).large.here(cid) == 0
        views = NodeViews(stack.node(other))
        assert await views.content_size(cid, ()) == FILE_BYTES
        read = b"".join([part async for part in views.read_content(cid, 0, FILE_BYTES, ())])
        assert read == Random("file").randbytes(FILE_BYTES)


async def test_a_copy_that_was_cut_off_by_a_restart_is_finished(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        await kept_world(stack, 1)
        cid = await named_file(stack)
        takers = [name for name in KEEPERS if name not in copies(stack, cid)]
        await stack.stop(min(copies(stack, cid)))

        def fetching() -> list[str]:
            rows = {name: stack.node(name).content.get(cid) for name in takers}
            return [name for name, row in rows.items() if row is not None and row.state is ContentState.FETCHING]

        for _ in range(60_000):
            if fetching():
                break
            await trio.sleep(0.001)
        (taker,) = fetching()
        await stack.stop(taker)
        assert len(copies(stack, cid)) == TARGET - 1
        await stack.start(taker)
        await stack.until(lambda: len(copies(stack, cid)) >= TARGET, "it is finished")


async def test_a_node_that_is_away_for_a_moment_costs_no_copies(tmp_path: Path, autojump_clock: object) -> None:
    """A round finds it gone, and the next one finds it back: it is greeted within a fraction of a round."""
    async with open_stack(tmp_path, SWARM, config=attrs.evolve(CONFIG, net=MINIMAL.net)) as stack:
        cids = await kept_world(stack, 20)
        await trio.sleep(12)
        pulled = sum_of(stack, "storage.pulled") - stack.counters("s2").get("storage.pulled", 0)
        due_ms = stack.node("s1").replicas.rounds.next_at_ms
        await trio.sleep(max(0.0, (due_ms - stack.wall_ms()) / 1_000 - 0.3))
        await stack.stop("s2")
        for cid in cids:
            stack.dht.providers[cid.digest].discard(stack.members["s2"].peer_id)
        rounds = stack.counters("s1")["replicas.rounds"]
        await trio.sleep(REPLICAS.poll_interval_ms / 1_000 - 0.5)
        assert stack.counters("s1")["replicas.rounds"] == rounds + 1
        await stack.start("s2")
        await trio.sleep(30)
        assert sum_of(stack, "storage.pulled") == pulled, "nobody has copied anything"
        assert counts(stack, cids) == [TARGET] * len(cids)


async def test_new_content_that_does_not_fit_goes_elsewhere(tmp_path: Path, autojump_clock: object) -> None:
    config = attrs.evolve(CONFIG, storage=attrs.evolve(CONFIG.storage, quota_bytes=QUOTA))
    async with open_stack(tmp_path, SWARM, config=config) as stack:
        await kept_world(stack, 1)
        fill(stack, "s2", 990)
        cids = await name_contents(stack, 8, first=100)
        assert any(stack.members["s2"].peer_id in first_by_weight(cid.digest, keepers(stack), TARGET) for cid in cids)
        await stack.until(lambda: counts(stack, cids) == [TARGET] * len(cids), "all have their copies")
        assert not any("s2" in copies(stack, cid) for cid in cids)
        assert stack.counters("s2").get("storage.no_room", 0) == 0, "it did not even try"


async def test_copies_come_right_after_any_churn(tmp_path: Path, autojump_clock: object) -> None:
    """One node after the other is away for up to half a minute, while more content is named."""
    async with open_stack(tmp_path, SWARM, config=CONFIG, seed=11) as stack:
        cids = await kept_world(stack, 6)
        random = Random("churn")
        for turn in range(6):
            name = random.choice(KEEPERS)
            await stack.stop(name)
            cids.extend(await name_contents(stack, 1, first=200 + turn))
            await trio.sleep(random.uniform(0.5, 30))
            assert min(counts(stack, cids[:-1])) >= TARGET - 1
            await stack.start(name)
            await stack.until(lambda: min(counts(stack, cids)) >= TARGET, "enough copies")
        await stack.until(lambda: counts(stack, cids) == [TARGET] * len(cids), "as many copies as wanted")

"""Stack tier: copies are given up by loaded nodes and where there are too many, and never below the target."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio
from sharing import (
    CONFIG,
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
    sum_of,
)

from agent_world.distfs.replicas import first_by_weight
from agent_world.errors import BlobNotFound, Refused
from agent_world.node.replica_release import Releases
from agent_world.node.views import NodeViews
from agent_world.testing.stack import WORLD_ID, Stack, open_stack
from agent_world.wire import record, rpc
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import PeerId
from agent_world.wire.replica import ReplicaAsk, ReplicaRequest


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
        await stack.until(
            lambda: not any(stack.node("s2").blobs.has(cid.digest) for cid in given_up), "its bytes are freed"
        )
        peer = stack.members["s2"].peer_id
        assert not any(peer in stack.dht.providers[cid.digest] for cid in given_up)
        assert stack.counters("s2")["replicas.given_up"] == len(given_up)
        assert await NodeViews(stack.node("s2")).blob(given_up[0].digest)


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


async def test_what_a_pin_wants_is_not_given_up(tmp_path: Path, autojump_clock: object) -> None:
    config = attrs.evolve(CONFIG, storage=attrs.evolve(CONFIG.storage, quota_bytes=QUOTA))
    async with open_stack(tmp_path, SWARM, config=config) as stack:
        cids = await kept_world(stack, 10)
        mine = [cid for cid in cids if "s2" in copies(stack, cid)]
        for cid in mine:
            stack.node("s2").pinning.keep(cid)
        await trio.sleep(40)
        fill(stack, "s2", 950)
        await trio.sleep(60)
        assert [cid for cid in cids if "s2" in copies(stack, cid)] == mine
        assert counts(stack, cids) == [TARGET] * len(cids), "and nothing was copied in vain"


async def test_only_who_may_plan_is_obeyed(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        cids = await kept_world(stack, 3)
        await trio.sleep(40)
        (content,) = cids[:1]
        holder = min(copies(stack, content))
        peer = stack.members[holder].peer_id
        request = ReplicaRequest(world_id=WORLD_ID, ask=ReplicaAsk.RELEASE, contents=(content,), source=None)
        with pytest.raises(Refused, match="only storage nodes"):
            await stack.network("v1").request(peer, rpc.REPLICA, record.to_bytes(request))
        planners = first_by_weight(content.digest, keepers(stack), 3)
        outsider = next(name for name in KEEPERS if stack.members[name].peer_id not in planners and name != holder)
        with pytest.raises(Refused, match="others plan"):
            await stack.network(outsider).request(peer, rpc.REPLICA, record.to_bytes(request))
        await trio.sleep(20)
        assert counts(stack, cids) == [TARGET] * 3


async def test_a_planner_that_orders_everything_away_gets_nothing(tmp_path: Path, autojump_clock: object) -> None:
    """Whoever asks: with only as many copies as wanted each holder finds too few others."""
    async with open_stack(tmp_path, SWARM, config=CONFIG) as stack:
        cids = await kept_world(stack, 4)
        await trio.sleep(40)
        least = TARGET
        for _ in range(3):
            for cid in cids:
                planner = next(
                    name for name in KEEPERS
                    if stack.members[name].peer_id in first_by_weight(cid.digest, keepers(stack), 1)
                )  # fmt: skip
                request = ReplicaRequest(world_id=WORLD_ID, ask=ReplicaAsk.RELEASE, contents=(cid,), source=None)
                for name in copies(stack, cid) - {planner}:
                    with suppress(Refused):
                        await stack.network(planner).request(
                            stack.members[name].peer_id, rpc.REPLICA, record.to_bytes(request)
                        )
            for _ in range(100):
                await trio.sleep(0.05)
                least = min(least, *counts(stack, cids))
        assert least == TARGET
        assert sum_of(stack, "replicas.release_failed") > 0


async def with_a_surplus_copy(stack: Stack) -> tuple[Cid, list[str]]:
    """A content that four nodes keep, long enough after their start for them to give copies up; rounds are far off."""
    (cid,) = await kept_world(stack, 1)
    await trio.sleep(40)
    extra = next(name for name in KEEPERS if name not in copies(stack, cid))
    stack.node(extra).replicas.holdings.hold(cid, None)
    await stack.until(lambda: len(copies(stack, cid)) == TARGET + 1, "one copy more")
    return cid, sorted(copies(stack, cid))


RARELY: Final = attrs.evolve(CONFIG, replicas=attrs.evolve(REPLICAS, poll_interval_ms=3_600_000))


def slow_down(releases: Releases) -> None:
    """Make sure that two that give up copies at once are both at it."""
    challenge = releases.challenge
    assert challenge is not None

    async def slow(peer: PeerId, content: Cid) -> dict[str, Any]:
        await trio.sleep(1)
        return await challenge(peer, content)

    releases.challenge = slow


async def test_of_two_that_go_at_once_one_stays(tmp_path: Path, autojump_clock: object) -> None:
    """Each of the two has three others, among them the other one."""
    async with open_stack(tmp_path, SWARM, config=RARELY) as stack:
        cid, (one, other, *_) = await with_a_surplus_copy(stack)
        for name in (one, other):
            slow_down(stack.node(name).replicas.releases)
            assert stack.node(name).replicas.holdings.release(cid)
        for _ in range(400):
            await trio.sleep(0.05)
            assert len(copies(stack, cid)) >= TARGET
        assert sum_of(stack, "replicas.no_promise.R6") > 0, "they have asked each other"


async def test_who_only_says_that_it_holds_is_not_counted_on(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=RARELY) as stack:
        cid, (liar, honest, *_) = await with_a_surplus_copy(stack)

        def gone(content: ContentHash) -> bytes:
            raise BlobNotFound(content.hex())

        stack.node(liar).challenges.draw.read = gone  # type: ignore[method-assign]
        stack.node(honest).replicas.holdings.release(cid)
        await trio.sleep(30)
        assert honest in copies(stack, cid)
        assert "2 have promised and shown it" in stack.status(honest)["replicas"]["last_release_error"]


async def test_a_surplus_copy_goes_once_others_have_shown_theirs(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=RARELY) as stack:
        cid, (one, *others) = await with_a_surplus_copy(stack)
        stack.node(one).replicas.holdings.release(cid)
        await stack.until(lambda: copies(stack, cid) == set(others), "it is given up")
        assert all(stack.node(name).replicas.holdings.is_pledged(cid) for name in others)


async def test_promises_that_may_be_over_are_not_counted_on(tmp_path: Path, autojump_clock: object) -> None:
    """As if the process had stood still between the last proof and the giving up."""
    async with open_stack(tmp_path, SWARM, config=RARELY) as stack:
        cid, (one, *_) = await with_a_surplus_copy(stack)
        holdings, releases = stack.node(one).replicas.holdings, stack.node(one).replicas.releases
        challenge, now_ms, stood_ms = releases.challenge, holdings.now_ms, 0
        assert challenge is not None

        async def stand_still(peer: PeerId, content: Cid) -> dict[str, Any]:
            nonlocal stood_ms
            shown = await challenge(peer, content)
            stood_ms += 20_000
            return shown

        holdings.now_ms = lambda: now_ms() + stood_ms  # type: ignore[method-assign]
        releases.challenge = stand_still
        holdings.release(cid)
        await trio.sleep(20)
        assert one in copies(stack, cid)
        assert "have not shown it" in stack.status(one)["replicas"]["last_release_error"]

"""Stack tier: actions that gossip has lost are asked for and fetched (D7)."""

from __future__ import annotations

from pathlib import Path

import attrs
import trio

from agent_world.config import MINIMAL
from agent_world.crypto.hashing import hash32
from agent_world.net.interface import RequestHandler
from agent_world.net.memory import LinkSettings
from agent_world.net.reputation import Offence
from agent_world.testing.stack import Stack, make_key, open_stack, specs
from agent_world.testing.stack_actions import applied, balances, found_people, pay
from agent_world.wire import record, rpc
from agent_world.wire.action import GetPendingResponse
from agent_world.wire.ids import U32, PeerId
from agent_world.wire.limits import PENDING_IDS_MAX

NO_GOSSIP = LinkSettings(gossip_loss=1.0)
HEARTBEAT_S = MINIMAL.net.heartbeat_s


def waiting(stack: Stack, name: str) -> int:
    return len(stack.node(name).pool.mempool)


async def test_without_any_gossip_actions_of_an_observer_are_committed(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=3, observers=1), link=NO_GOSSIP) as stack:
        await stack.start_all()
        await stack.until(lambda: len(stack.status("o1")["peers"]) == 3, "linked")
        await found_people(stack, "o1")
        paid = [stack.submit("o1", make_key("alice"), pay("bob", 1)) for _ in range(50)]
        await applied(stack, "o1", *paid)
        await stack.until_height(stack.top())
        assert balances(stack, "v1") == {"alice": 50, "bob": 50}
        assert sum(stack.counters(name).get("repair.actions", 0) for name in ("v1", "v2", "v3")) >= 53


async def test_what_gossip_loses_is_in_the_neighbours_pool_within_a_heartbeat(
    tmp_path: Path, autojump_clock: object
) -> None:
    """Two of four validators cannot decide, so the actions stay where they can be seen."""
    async with open_stack(tmp_path, specs(validators=4), link=NO_GOSSIP) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        await stack.until_height(stack.top())
        await stack.stop("v3")
        await stack.stop("v4")
        await trio.sleep(1)
        for _ in range(20):
            stack.submit("v1", make_key("alice"), pay("bob", 1))
        assert waiting(stack, "v2") == 0
        # One neighbour to ask: a heartbeat, the grace of a fifth of it, and the two requests.
        await trio.sleep(1.2 * HEARTBEAT_S + 0.05)
        assert waiting(stack, "v1") == waiting(stack, "v2") == 20


async def test_equal_pools_name_no_action(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4), link=NO_GOSSIP) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        await stack.until_height(stack.top())
        await stack.stop("v3")
        await stack.stop("v4")
        stack.submit("v1", make_key("alice"), pay("bob", 1))
        await stack.until(lambda: waiting(stack, "v2") == 1, "repaired")
        sizes: list[int] = []

        async def measured(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
            answer = await handler(peer, data)
            sizes.append(len(data) + len(answer))
            return answer

        stack.network("v1").lie(rpc.GET_PENDING, measured)
        await trio.sleep(10 * HEARTBEAT_S)
        assert len(sizes) >= 9
        assert max(sizes) < 150


async def test_a_pool_of_several_answers_is_fetched_whole(tmp_path: Path, autojump_clock: object) -> None:
    config = attrs.evolve(MINIMAL, mempool=attrs.evolve(MINIMAL.mempool, max_per_actor=4_000, nonce_window=4_000))
    async with open_stack(tmp_path, specs(validators=4), link=NO_GOSSIP, config=config) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        await stack.until_height(stack.top())
        for name in ("v2", "v3", "v4"):
            await stack.stop(name)
        count = PENDING_IDS_MAX + 8
        for _ in range(count):
            stack.submit("v1", make_key("alice"), pay("bob", 1))
        await stack.start("v2")
        await stack.until(lambda: waiting(stack, "v2") == count, "a new pool is filled")


async def test_a_restarted_node_gets_the_pool_of_its_neighbours(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        await stack.until_height(stack.top())
        await stack.stop("v3")
        await stack.stop("v4")
        for _ in range(5):
            stack.submit("v1", make_key("alice"), pay("bob", 1))
        await stack.until(lambda: waiting(stack, "v2") == 5, "gossip")
        await stack.stop("v1")
        await stack.start("v1")
        assert waiting(stack, "v1") == 0, "a pool is not kept on disk"
        await stack.until(lambda: waiting(stack, "v1") == 5, "the pool of its neighbour")


async def test_who_names_actions_it_does_not_have_costs_little(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4), link=NO_GOSSIP) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        invented = tuple(hash32(b"invented %d" % number) for number in range(10))

        async def invent(_handler: RequestHandler, _peer: PeerId, _data: bytes) -> bytes:
            return record.to_bytes(GetPendingResponse(pending=U32(10), action_ids=invented))

        stack.network("v4").lie(rpc.GET_PENDING, invent)
        await applied(stack, "v1", stack.submit("v1", make_key("alice"), pay("bob", 1)))
        await trio.sleep(5)
        assert stack.counters("v1")["repair.differed"] > 0
        assert stack.counters("v1").get("repair.actions", 0) == 0
        assert waiting(stack, "v1") == 0


async def test_a_broken_answer_is_counted_and_blamed(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        blamed: list[tuple[PeerId, Offence]] = []
        stack.node("v1").repair.offence = lambda peer, kind: blamed.append((peer, kind))

        async def double(_handler: RequestHandler, _peer: PeerId, _data: bytes) -> bytes:
            return record.to_bytes(GetPendingResponse(pending=U32(2), action_ids=(hash32(b"x"), hash32(b"x"))))

        stack.network("v4").lie(rpc.GET_PENDING, double)
        await stack.until(lambda: stack.counters("v1").get("repair.broken.A16", 0) > 0, "asked")
        assert set(blamed) == {(stack.members["v4"].peer_id, Offence.GARBAGE)}
        await found_people(stack, "v2")

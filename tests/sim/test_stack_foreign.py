"""Stack tier: a peer of another world, or of another genesis of the same name, is refused and let go (N1, N2)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import trio

from agent_world.net.interface import RequestHandler
from agent_world.testing.stack import Stack, open_stack, specs
from agent_world.testing.stack_actions import found_people
from agent_world.wire import record, rpc
from agent_world.wire.hello import Hello
from agent_world.wire.ids import Hash32, PeerId, WorldId
from agent_world.wire.limits import RPC_INLINE_BYTES_MAX

FOREIGN = {
    "N1": lambda hello: attrs.evolve(hello, world_id=WorldId("another")),
    "N2": lambda hello: attrs.evolve(hello, genesis_hash=Hash32(bytes(32))),
}


def linked(stack: Stack, one: str, other: str) -> bool:
    return stack.hub.is_connected(stack.members[one].peer_id, stack.members[other].peer_id)


@pytest.mark.parametrize("rule", FOREIGN)
async def test_a_foreign_answer_ends_the_link(tmp_path: Path, autojump_clock: object, rule: str) -> None:
    change: Callable[[Hello], Hello] = FOREIGN[rule]

    async def foreign(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
        hello = record.from_bytes(Hello, await handler(peer, data), size_max=RPC_INLINE_BYTES_MAX)
        return record.to_bytes(change(hello))

    async with open_stack(tmp_path, specs(validators=3, observers=1)) as stack:
        await stack.start("v1")
        stack.network("v1").lie(rpc.HELLO, foreign)
        for name in ("v2", "v3"):
            await stack.start(name)
        await stack.until(lambda: stack.counters("v2").get(f"hello.refused.{rule}", 0) >= 1, "v2 has refused v1")
        await stack.until(lambda: not linked(stack, "v1", "v2"), "the link is dropped")
        await trio.sleep(20)
        assert not linked(stack, "v1", "v2")
        assert stack.status("v2")["peers"] == []  # its only address was that of v1


async def test_a_node_of_another_genesis_is_told_why_and_both_let_go(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=3, observers=1)) as stack:
        for name in ("v1", "v2", "v3"):
            await stack.start(name)
        await found_people(stack, "v1")
        native, stack.genesis = stack.genesis, attrs.evolve(stack.genesis, epoch_length_slots=native_epoch(stack) + 1)
        foreigner = stack.members["o1"]
        foreigner.home = tmp_path / "foreign"
        stack.make_home(foreigner)
        await stack.start("o1")
        stack.genesis = native
        await stack.until(lambda: stack.counters("o1").get("hello.refused.N2", 0) >= 1, "the foreigner knows why")
        await stack.until(lambda: not any(linked(stack, "o1", name) for name in ("v1", "v2", "v3")), "let go")
        await trio.sleep(20)
        assert not any(linked(stack, "o1", name) for name in ("v1", "v2", "v3"))
        assert stack.node("o1").ledger.height == 0
        await stack.until_height(stack.top() + 2, "v1", "v2", "v3")


def native_epoch(stack: Stack) -> int:
    return stack.genesis.epoch_length_slots

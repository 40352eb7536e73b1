"""Stack tier: a missing height is asked of one peer after the other, and a failure is kept and shown (T-8.3, Gap 3)."""

from __future__ import annotations

import re
from pathlib import Path

from agent_world.errors import ErrorCode, Refused
from agent_world.net.interface import RequestHandler
from agent_world.testing.stack import Stack, open_stack, specs
from agent_world.testing.tapped_network import Lie
from agent_world.wire import rpc
from agent_world.wire.ids import PeerId

SOURCES = ("v1", "v2", "v3", "v4")


class Refusing:
    """All sources refuse ranges with one code, until ``end``; remembers who was asked."""

    def __init__(self, stack: Stack, code: ErrorCode) -> None:
        self._stack = stack
        self._code = code
        self.asked: list[str] = []
        for name in SOURCES:
            stack.network(name).lie(rpc.GET_BLOCKS, self._lie_of(name))

    def _lie_of(self, name: str) -> Lie:
        async def lie(_handler: RequestHandler, _peer: PeerId, _data: bytes) -> bytes:
            self.asked.append(name)
            raise Refused(self._code, "no blocks today", rule="B5")

        return lie

    def end(self) -> None:
        for name in SOURCES:
            self._stack.network(name).lie(rpc.GET_BLOCKS, None)


async def test_a_height_that_fails_everywhere_is_shown_and_goes_on_later(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, specs(validators=4, observers=1)) as stack:
        for name in SOURCES:
            await stack.start(name)
        await stack.until_height(5)
        refusing = Refusing(stack, ErrorCode.NOT_AVAILABLE)
        await stack.start("o1")
        await stack.until(lambda: "after 3 attempts" in str(stack.status("o1")["last_error"]), "three attempts")
        shown = stack.status("o1")
        match = re.fullmatch(
            r"gap sync height 1 failed after 3 attempts: attempt 3/3 failed, peer (\w+): .*no blocks today",
            shown["last_error"],
        )
        assert match is not None
        assert shown["last_error"] == shown["consensus"]["last_error"]
        assert match[1] in {stack.members[name].peer_id for name in SOURCES}
        await stack.until(lambda: len(refusing.asked) >= 12, "it is tried again and again")
        assert set(refusing.asked) == set(SOURCES)
        assert stack.node("o1").ledger.height == 0
        refusing.end()
        await stack.until_height(stack.top())
        await stack.until(lambda: stack.status("o1")["last_error"] is None, "the error is over")
        assert stack.agree()


async def test_a_height_that_nobody_has_is_no_failure(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4, observers=1)) as stack:
        for name in SOURCES:
            await stack.start(name)
        await stack.until_height(5)
        refusing = Refusing(stack, ErrorCode.NOT_FOUND)
        await stack.start("o1")
        await stack.until(lambda: set(refusing.asked) == set(SOURCES), "all are asked")
        await stack.until(lambda: len(refusing.asked) >= 12, "and again")
        assert stack.status("o1")["last_error"] is None
        assert stack.status("o1")["consensus"]["attempts"] == 0
        refusing.end()
        await stack.until_height(stack.top())
        assert stack.counters("o1")["sync.heights"] >= 5

"""protocols/replica at the node that is asked: which rule comes first, and that nothing is done before all hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from agent_world.crypto.hashing import cid_of
from agent_world.errors import DecodeError, ErrorCode, Refused, RemoteError
from agent_world.handlers.replica import ReplicaHandler, open_replicas
from agent_world.wire import record
from agent_world.wire.cid import Cid
from agent_world.wire.ids import U16, U64, PeerId, PublicKey, WorldId, peer_id_of
from agent_world.wire.limits import REPLICA_CONTENTS_MAX
from agent_world.wire.replica import Holding, ReplicaAsk, ReplicaRequest, ReplicaResponse

WORLD = WorldId("w")
CONTENT = cid_of(b"content")
SOURCE = peer_id_of(PublicKey(bytes([8]) * 32))
STATUS, HOLD, RELIEVE = ReplicaAsk.STATUS, ReplicaAsk.HOLD, ReplicaAsk.RELIEVE
RELEASE, KEEP = ReplicaAsk.RELEASE, ReplicaAsk.KEEP


@attrs.define(kw_only=True)
class Host:
    """A node at which everything is in order, but for what is said."""

    world_id: WorldId = WORLD
    stores: bool = True
    shares: bool = True
    plans: bool = True
    room: bool = True
    idle: bool = True
    pledged: bool = False
    leaving: bool = False
    place: bool = True
    many: bool = False
    holding: Holding = Holding.NAMED
    done: list[Any] = attrs.Factory(list)

    def is_storage(self, _peer: PeerId) -> bool:
        return self.stores

    def takes_part(self) -> bool:
        return self.shares

    def may_plan(self, _peer: PeerId, _content: Cid) -> bool:
        return self.plans

    def has_room(self, _content: Cid, *, is_relief: bool) -> bool:
        return self.room and (self.idle or not is_relief)

    def is_pledged(self, _content: Cid) -> bool:
        return self.pledged

    def is_leaving(self, _content: Cid) -> bool:
        return self.leaving

    def hold(self, content: Cid, source: PeerId | None) -> None:
        self.done.append(("hold", content, source))

    def release(self, content: Cid) -> bool:
        if self.place:
            self.done.append(("release", content))
        return self.place

    def pledge(self, content: Cid) -> None:
        if self.many:
            raise Refused(ErrorCode.BUSY, "too many", rule="R6")
        self.done.append(("keep", content))

    def answer(self, contents: Sequence[Cid]) -> ReplicaResponse:
        return ReplicaResponse(
            holdings=(self.holding,) * len(contents), quota_bytes=U64(9), free_bytes=U64(9), target=U16(3)
        )


async def serve(host: Host, peer: PeerId, ask: ReplicaAsk, **changes: Any) -> tuple[str, list[str]]:
    """The rule that refuses, or nothing; and what was counted."""
    counted: list[str] = []
    handler = ReplicaHandler(host)
    handler.count = counted.append
    request = ReplicaRequest(world_id=WORLD, ask=ask, contents=(CONTENT,), source=SOURCE)
    try:
        answer = await handler.serve(peer, record.to_bytes(attrs.evolve(request, **changes)))
    except Refused as error:
        return error.rule or "none", counted
    assert open_replicas(answer, len(changes.get("contents", [CONTENT]))).target == 3
    return "", counted


@pytest.mark.parametrize(
    ("ask", "holding", "done"),
    [
        (STATUS, Holding.NAMED, []),
        (HOLD, Holding.NAMED, [("hold", CONTENT, SOURCE)]),
        (RELIEVE, Holding.NAMED, [("hold", CONTENT, SOURCE)]),
        (HOLD, Holding.HELD, []),
        (HOLD, Holding.BOUND, []),
        (RELIEVE, Holding.COMING, []),
        (RELEASE, Holding.HELD, [("release", CONTENT)]),
        (RELEASE, Holding.NAMED, []),
        (RELEASE, Holding.COMING, []),
        (KEEP, Holding.HELD, [("keep", CONTENT)]),
        (KEEP, Holding.BOUND, [("keep", CONTENT)]),
    ],
)
async def test_what_is_done(peer: PeerId, ask: ReplicaAsk, holding: Holding, done: list[Any]) -> None:
    host = Host(holding=holding)
    assert await serve(host, peer, ask) == ("", [f"replicas.asked.{ask.value}"])
    assert host.done == done


@pytest.mark.parametrize(
    ("ask", "rule", "changes"),
    [
        (HOLD, "R3", {"stores": False}),
        (KEEP, "R3", {"stores": False}),
        (HOLD, "R4", {"shares": False}),
        (RELEASE, "R4", {"shares": False}),
        (HOLD, "R5", {"holding": Holding.UNKNOWN}),
        (KEEP, "R5", {"holding": Holding.UNKNOWN}),
        (KEEP, "R6", {"holding": Holding.NAMED}),
        (KEEP, "R6", {"holding": Holding.COMING}),
        (KEEP, "R6", {"holding": Holding.HELD, "leaving": True}),
        (KEEP, "R6", {"holding": Holding.HELD, "many": True}),
        (HOLD, "R7", {"plans": False}),
        (RELEASE, "R7", {"holding": Holding.HELD, "plans": False}),
        (HOLD, "R8", {"room": False}),
        (RELIEVE, "R8", {"idle": False}),
        (RELEASE, "R9", {"holding": Holding.BOUND}),
        (RELEASE, "R10", {"holding": Holding.BOUND, "pledged": True}),
        (RELEASE, "R10", {"holding": Holding.HELD, "place": False}),
    ],
)
async def test_what_is_refused_does_nothing(peer: PeerId, ask: ReplicaAsk, rule: str, changes: dict[str, Any]) -> None:
    host = Host(**changes)
    assert await serve(host, peer, ask) == (rule, [f"replicas.refused.{rule}"])
    assert host.done == []


async def test_a_promise_is_given_by_who_keeps_everything_and_to_who_does_not_plan(peer: PeerId) -> None:
    host = Host(shares=False, plans=False, holding=Holding.BOUND)
    assert await serve(host, peer, KEEP) == ("", ["replicas.asked.keep"])


async def test_a_loaded_node_takes_what_too_few_hold(peer: PeerId) -> None:
    host = Host(idle=False)
    assert (await serve(host, peer, HOLD))[0] == ""


@pytest.mark.parametrize("ask", ReplicaAsk)
async def test_how_many_contents(peer: PeerId, ask: ReplicaAsk) -> None:
    host = Host()
    assert (await serve(host, peer, ask, contents=()))[0] == "R2"
    two = (CONTENT, cid_of(b"another"))
    assert (await serve(host, peer, ask, contents=two))[0] == ("" if ask is STATUS else "R2")
    most = tuple(cid_of(b"%d" % number) for number in range(REPLICA_CONTENTS_MAX + 1))
    assert (await serve(host, peer, ask, contents=most[:-1]))[0] == ("" if ask is STATUS else "R2")
    assert (await serve(host, peer, ask, contents=most))[0] == "R2"
    assert (await serve(host, peer, ask, world_id=WorldId("x")))[0] == "R1"
    assert host.done == []


async def test_what_is_no_request_is_no_refusal_of_ours(peer: PeerId) -> None:
    with pytest.raises(DecodeError):
        await ReplicaHandler(Host()).serve(peer, b"\xff")


@pytest.mark.parametrize(("asked", "free"), [(2, 9), (0, 9), (1, 10)])
def test_an_answer_that_does_not_fit(asked: int, free: int) -> None:
    answer = record.to_bytes(attrs.evolve(Host().answer([CONTENT]), free_bytes=U64(free)))
    with pytest.raises(RemoteError) as caught:
        open_replicas(answer, asked)
    assert caught.value.rule == "R11"

"""Runs the vectors of protocols/replica."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from broken_rules import Case, rule_of

from agent_world.handlers.replica import ReplicaHandler, check_promise, open_replicas
from agent_world.wire.cid import Cid
from agent_world.wire.ids import U16, U64, PeerId, WorldId
from agent_world.wire.replica import Holding, ReplicaResponse


class Keeper:
    """A node at which the facts of a case are so; ``done`` is what it was made to do."""

    def __init__(self, file: Case, case: Case) -> None:
        self.world_id = WorldId(file["world_id"])
        self.case = case
        self.done: list[str] = []

    def is_storage(self, _peer: PeerId) -> bool:
        return bool(self.case["is_storage"])

    def takes_part(self) -> bool:
        return bool(self.case["takes_part"])

    def may_plan(self, _peer: PeerId, _content: Cid) -> bool:
        return bool(self.case["may_plan"])

    def has_room(self, _content: Cid, *, is_relief: bool) -> bool:
        return bool(self.case["has_room"])

    def is_pledged(self, _content: Cid) -> bool:
        return bool(self.case["is_pledged"])

    def is_leaving(self, _content: Cid) -> bool:
        return bool(self.case["is_leaving"])

    def hold(self, _content: Cid, source: PeerId | None) -> None:
        assert source is not None
        self.done.append("hold")

    def release(self, _content: Cid) -> bool:
        if self.case["has_place"]:
            self.done.append("release")
        return bool(self.case["has_place"])

    def pledge(self, _content: Cid) -> None:
        self.done.append("pledge")

    def answer(self, contents: Sequence[Cid]) -> ReplicaResponse:
        holding = Holding(self.case["holding"])
        return ReplicaResponse(
            holdings=(holding,) * len(contents), quota_bytes=U64(9), free_bytes=U64(1), target=U16(3)
        )


def run_replica_requests(file: Case, case: Case) -> None:
    keeper = Keeper(file, case)
    handler = ReplicaHandler(keeper)
    request = bytes.fromhex(case["request"])
    assert rule_of(lambda: trio.run(handler.serve, PeerId(file["asker"]), request)) == case.get("rule")
    assert keeper.done == ([case["does"]] if "does" in case else [])


def run_replica_answers(_file: Case, case: Case) -> None:
    assert rule_of(lambda: open_replicas(bytes.fromhex(case["answer"]), 2)) == case.get("rule")


def run_replica_promises(_file: Case, case: Case) -> None:
    assert rule_of(lambda: check_promise(open_replicas(bytes.fromhex(case["answer"]), 1))) == case.get("rule")

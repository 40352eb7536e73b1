"""Vectors of protocols/replica: requests that a node judges by what is so at it, and answers; each breaks one rule."""

from __future__ import annotations

from typing import Any, Final

import attrs

from agent_world.crypto.hashing import cid_of
from agent_world.testing.examples import key_of
from agent_world.wire import record
from agent_world.wire.cid import Codec
from agent_world.wire.ids import U16, U64, WorldId, peer_id_of
from agent_world.wire.limits import REPLICA_CONTENTS_MAX
from agent_world.wire.replica import Holding, ReplicaAsk, ReplicaRequest, ReplicaResponse

WORLD: Final = WorldId("w1")
CONTENT: Final = cid_of(b"a poem", Codec.RAW)
_AT_HOME: Final[dict[str, Any]] = {
    "is_storage": True, "takes_part": True, "may_plan": True, "has_room": True, "is_pledged": False,
    "is_leaving": False, "has_place": True, "holding": "named",
}  # fmt: skip


def _request(ask: ReplicaAsk, **changes: Any) -> ReplicaRequest:
    made = ReplicaRequest(world_id=WORLD, ask=ask, contents=(CONTENT,), source=peer_id_of(key_of("source").public_key))
    return attrs.evolve(made, **changes)


def replica_request_vectors() -> dict[str, Any]:
    """The file ``replica/vectors/requests.json``."""
    ask, held = ReplicaAsk, {"holding": "held"}
    many = tuple(cid_of(bytes([number % 256, number // 256]), Codec.RAW) for number in range(REPLICA_CONTENTS_MAX + 1))
    stranger = {"is_storage": False}
    cases: list[tuple[str, ReplicaRequest, dict[str, Any], str | None, str | None]] = [
        ("a status", _request(ask.STATUS), {}, None, None),
        ("a status for a stranger", _request(ask.STATUS), {**stranger, "takes_part": False}, None, None),
        ("a status of many", _request(ask.STATUS, contents=many[:-1]), {}, None, None),
        ("hold", _request(ask.HOLD), {}, "hold", None),
        ("hold what is held", _request(ask.HOLD), {**held, "has_room": False}, None, None),
        ("relieve", _request(ask.RELIEVE), {}, "hold", None),
        ("release", _request(ask.RELEASE), held, "release", None),
        ("release what is not held", _request(ask.RELEASE), {}, None, None),
        ("keep", _request(ask.KEEP), {**held, "takes_part": False, "may_plan": False}, "pledge", None),
        ("keep what is bound", _request(ask.KEEP), {"holding": "bound"}, "pledge", None),
        ("in another world", _request(ask.STATUS, world_id=WorldId("w2")), {}, None, "R1"),
        ("about nothing", _request(ask.STATUS, contents=()), {}, None, "R2"),
        ("about too much", _request(ask.STATUS, contents=many), {}, None, "R2"),
        ("hold two", _request(ask.HOLD, contents=many[:2]), {}, None, "R2"),
        ("hold for a stranger", _request(ask.HOLD), stranger, None, "R3"),
        ("keep for a stranger", _request(ask.KEEP), {**held, **stranger}, None, "R3"),
        ("hold at a node that keeps all", _request(ask.HOLD), {"takes_part": False}, None, "R4"),
        ("release at a node that keeps all", _request(ask.RELEASE), {"takes_part": False, **held}, None, "R4"),
        ("hold what nobody names", _request(ask.HOLD), {"holding": "unknown"}, None, "R5"),
        ("keep what is coming", _request(ask.KEEP), {"holding": "coming"}, None, "R6"),
        ("keep what is leaving", _request(ask.KEEP), {**held, "is_leaving": True}, None, "R6"),
        ("hold for who does not plan", _request(ask.HOLD), {"may_plan": False}, None, "R7"),
        ("release for who does not plan", _request(ask.RELEASE), {**held, "may_plan": False}, None, "R7"),
        ("hold without room", _request(ask.HOLD), {"has_room": False}, None, "R8"),
        ("release what is bound", _request(ask.RELEASE), {"holding": "bound"}, None, "R9"),
        ("release what was promised", _request(ask.RELEASE), {**held, "is_pledged": True}, None, "R10"),
        ("release when much is leaving", _request(ask.RELEASE), {**held, "has_place": False}, None, "R10"),
    ]
    return {
        "about": "What a node of world `world_id`, at which the facts of a case are so, does on `request` from "
        "`asker`: it refuses by exactly `rule`, or answers, and does `does` (hold, release, pledge) if named.",
        "world_id": WORLD,
        "asker": peer_id_of(key_of("planner").public_key),
        "cases": [
            {"id": what, "request": record.to_bytes(request).hex(), **_AT_HOME, **facts}
            | ({} if does is None else {"does": does})
            | ({} if rule is None else {"rule": rule})
            for what, request, facts, does, rule in cases
        ],
    }


def replica_answer_vectors() -> dict[str, Any]:
    """The file ``replica/vectors/answers.json``."""
    good = ReplicaResponse(
        holdings=(Holding.HELD, Holding.NAMED), quota_bytes=U64(1_000), free_bytes=U64(1_000), target=U16(3)
    )
    cases: list[tuple[str, ReplicaResponse, str | None]] = [
        ("right", good, None),
        ("without room", attrs.evolve(good, free_bytes=U64(0)), None),
        ("one short", attrs.evolve(good, holdings=(Holding.HELD,)), "R11"),
        ("one too many", attrs.evolve(good, holdings=(Holding.HELD,) * 3), "R11"),
        ("more room than there is", attrs.evolve(good, free_bytes=U64(1_001)), "R11"),
    ]
    return {
        "about": "Whether `answer`, to a request about two contents, is taken, or breaks exactly `rule`.",
        "cases": [
            {"id": what, "answer": record.to_bytes(answer).hex()} | ({} if rule is None else {"rule": rule})
            for what, answer, rule in cases
        ],
    }


def replica_promise_vectors() -> dict[str, Any]:
    """The file ``replica/vectors/promises.json``."""
    good = ReplicaResponse(holdings=(Holding.BOUND,), quota_bytes=U64(9), free_bytes=U64(9), target=U16(3))
    cases: list[tuple[str, ReplicaResponse, str | None]] = [
        ("a promise", good, None),
        ("a promise of a node that keeps all", attrs.evolve(good, target=U16(0)), None),
        *((f"it is {said.value}", attrs.evolve(good, holdings=(said,)), "R12")
          for said in Holding if said is not Holding.BOUND),
        ("for two contents", attrs.evolve(good, holdings=(Holding.BOUND,) * 2), "R11"),
    ]  # fmt: skip
    return {
        "about": "Whether `answer`, to a request to keep one content, promises that, or breaks exactly `rule`.",
        "cases": [
            {"id": what, "answer": record.to_bytes(answer).hex()} | ({} if rule is None else {"rule": rule})
            for what, answer, rule in cases
        ],
    }

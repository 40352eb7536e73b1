"""Stack tier: every way an action can be wrong gives its typed code and its counter, and nothing else happens."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import trio

from agent_world.config import MINIMAL, MempoolConfig
from agent_world.crypto.hashing import actor_id_of, hash32
from agent_world.crypto.signing import Domain, sign_record
from agent_world.errors import ErrorCode, Refused
from agent_world.node.views import NodeViews
from agent_world.testing.stack import WORLD_ID, Stack, make_key, open_stack, specs
from agent_world.testing.stack_actions import applied, found_people, pay
from agent_world.wire import record, rpc
from agent_world.wire.action import ActionBundle, ActionEnvelope
from agent_world.wire.ids import U64, Hash32, Label, TimeMs, WorldId
from agent_world.wire.limits import ENVELOPE_BYTES_MAX
from agent_world.wire.signed import Signed
from agent_world.wire.submit import SubmitActionRequest, SubmitActionResponse

POOL = MempoolConfig(max_actions=4, max_per_actor=3, nonce_window=8)
CONFIG = attrs.evolve(MINIMAL, mempool=POOL)
ALICE, BOB, MALLORY = make_key("alice"), make_key("bob"), make_key("mallory")


def envelope(**changes: object) -> ActionEnvelope:
    payload = record.to_bytes(pay("bob", 1))
    plain = ActionEnvelope(
        world_id=WORLD_ID, actor_id=actor_id_of(ALICE.public_key), action_kind=Label("resource.transfer"),
        payload_cbor=payload, payload_hash=hash32(payload), nonce=U64(1), timestamp_ms=TimeMs(1),
    )  # fmt: skip
    return attrs.evolve(plain, **changes)


def with_payload(data: bytes) -> ActionEnvelope:
    return envelope(payload_cbor=data, payload_hash=hash32(data))


def signed(stack: Stack, body: ActionEnvelope, key: object = ALICE, genesis: Hash32 | None = None) -> bytes:
    return sign_record(Domain.ACTION, genesis or stack.genesis_hash, body, key)  # type: ignore[arg-type]


def non_canonical(stack: Stack) -> bytes:
    good = signed(stack, envelope())
    assert good[0] == 0xA4  # a map of four; the same in the long form of its length
    return b"\xb8\x04" + good[1:]


def altered_signature(stack: Stack) -> bytes:
    good = record.from_bytes(Signed, signed(stack, envelope()), size_max=ENVELOPE_BYTES_MAX)
    return record.to_bytes(attrs.evolve(good, sig=good.sig[:-1] + bytes([good.sig[-1] ^ 1])))


def another_key_put_in(stack: Stack) -> bytes:
    good = record.from_bytes(Signed, signed(stack, envelope()), size_max=ENVELOPE_BYTES_MAX)
    return record.to_bytes(attrs.evolve(good, key=MALLORY.public_key))


Bad = Callable[[Stack], bytes]
BAD: dict[str, tuple[str, ErrorCode, Bad]] = {
    "empty": ("A1", ErrorCode.BAD_REQUEST, lambda _: b""),
    "garbage": ("A1", ErrorCode.BAD_REQUEST, lambda _: b"\xff" * 64),
    "oversized": ("A1", ErrorCode.BAD_REQUEST, lambda _: bytes(ENVELOPE_BYTES_MAX + 1)),
    "non-canonical": ("A1", ErrorCode.BAD_REQUEST, non_canonical),
    "trailing": ("A1", ErrorCode.BAD_REQUEST, lambda s: signed(s, envelope()) + b"\x00"),
    "truncated": ("A1", ErrorCode.BAD_REQUEST, lambda s: signed(s, envelope())[:-1]),
    "body-no-envelope": (
        "A1", ErrorCode.BAD_REQUEST, lambda s: sign_record(Domain.ACTION, s.genesis_hash, pay("bob", 1), ALICE),
    ),
    "other-world": ("A2", ErrorCode.BAD_REQUEST, lambda s: signed(s, envelope(world_id=WorldId("another")))),
    "payload-hash": ("A3", ErrorCode.INVALID_HASH, lambda s: signed(s, envelope(payload_hash=Hash32(bytes(32))))),
    "kind": ("A4", ErrorCode.UNSUPPORTED, lambda s: signed(s, envelope(action_kind=Label("agent.fly")))),
    "payload-garbage": ("A5", ErrorCode.BAD_REQUEST, lambda s: signed(s, with_payload(b"\xff"))),
    "payload-of-another-kind": (
        "A5", ErrorCode.BAD_REQUEST, lambda s: signed(s, envelope(action_kind=Label("agent.move"))),
    ),
    "signature": ("A6", ErrorCode.UNAUTHORIZED, altered_signature),
    "key": ("A6", ErrorCode.UNAUTHORIZED, another_key_put_in),
    "other-genesis": ("A6", ErrorCode.UNAUTHORIZED, lambda s: signed(s, envelope(), genesis=Hash32(bytes(32)))),
    "unknown-actor": (
        "A7", ErrorCode.UNAUTHORIZED,
        lambda s: signed(s, envelope(actor_id=actor_id_of(MALLORY.public_key)), MALLORY),
    ),
    "foreign-signature": ("A8", ErrorCode.UNAUTHORIZED, lambda s: signed(s, envelope(), MALLORY)),
    "nonce-zero": ("A9", ErrorCode.STATE_MISMATCH, lambda s: signed(s, envelope(nonce=U64(0)))),
    "nonce-used": (
        "A9", ErrorCode.STATE_MISMATCH, lambda s: signed(s, envelope(nonce=U64(1), timestamp_ms=TimeMs(2))),
    ),
    "nonce-far": ("A10", ErrorCode.STATE_MISMATCH, lambda s: signed(s, envelope(nonce=U64(2**64 - 1)))),
    "nonce-beyond": ("A10", ErrorCode.STATE_MISMATCH, lambda s: signed(s, envelope(nonce=U64(2 + 8)))),
    "actor-limit": ("A11", ErrorCode.RATE_LIMITED, lambda s: signed(s, envelope(nonce=U64(6)))),
    "pool-full": (
        "A12", ErrorCode.BUSY,
        lambda s: signed(s, envelope(actor_id=actor_id_of(BOB.public_key), nonce=U64(4)), BOB),
    ),
    "nonce-taken": (
        "A14", ErrorCode.STATE_MISMATCH, lambda s: signed(s, envelope(nonce=U64(3), timestamp_ms=TimeMs(9))),
    ),
}  # fmt: skip


async def full_pools(stack: Stack) -> None:
    """People are there, Alice's nonce 1 is used, and every pool is full of actions that wait for a nonce before."""
    await stack.start_all()
    await found_people(stack, "v1")
    await applied(stack, "v1", stack.submit("v1", ALICE, pay("bob", 1)))
    await stack.until_height(stack.top())
    waiting = [stack.sign(ALICE, pay("bob", 1), nonce=nonce) for nonce in (3, 4, 5)]
    waiting.append(stack.sign(BOB, pay("alice", 1), nonce=3))
    for name in stack.members:
        for data in waiting:
            NodeViews(stack.node(name)).submit(data)
        assert len(stack.node(name).pool.mempool) == POOL.max_actions


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_action_is_refused_counted_and_has_no_effect(
    tmp_path: Path, autojump_clock: object, case: str
) -> None:
    rule, code, make = BAD[case]
    async with open_stack(tmp_path, specs(validators=2, observers=1), config=CONFIG) as stack:
        await full_pools(stack)
        before = {name: dict(stack.node(name).pool.mempool.counters()) for name in stack.members}
        pending = [action.action_id for action in stack.node("o1").pool.mempool.arrivals()]
        data = make(stack)
        with pytest.raises(Refused) as refused:  # handed in at the node
            NodeViews(stack.node("o1")).submit(data)
        assert (refused.value.code, refused.value.rule) == (code, rule)
        assert stack.counters("o1")[f"action.refused.{rule}"] == 1
        request = record.to_bytes(SubmitActionRequest(action=data))
        with pytest.raises(Refused) as by_request:  # handed in over the network
            await stack.node("v1").network.request(stack.members["o1"].peer_id, rpc.SUBMIT_ACTION, request)
        assert (by_request.value.code, by_request.value.rule) == (code, rule)
        assert by_request.value.retryable is code.retryable
        assert stack.counters("o1")[f"action.refused.{rule}"] == 2
        await stack.until_height(stack.top() + 2)
        assert [action.action_id for action in stack.node("o1").pool.mempool.arrivals()] == pending
        assert dict(stack.node("v1").pool.mempool.counters()) == before["v1"]
        assert not stack.node("o1").ledger.is_committed(hash32(data))
        others = [name for name in stack.counters("o1") if name.startswith("action.refused.")]
        assert others == [f"action.refused.{rule}"]


async def test_the_same_action_again_is_no_error(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=2)) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        data = stack.sign(ALICE, pay("bob", 1))
        view = NodeViews(stack.node("v1"))
        first = view.submit(data)
        assert view.submit(data) == first  # A13, pending
        await applied(stack, "v1", first)
        assert view.submit(data) == first  # A13, committed
        assert stack.counters("v1")["action.duplicate"] == 2
        request = record.to_bytes(SubmitActionRequest(action=data))
        answer = await stack.node("v2").network.request(stack.members["v1"].peer_id, rpc.SUBMIT_ACTION, request)
        assert record.from_bytes(SubmitActionResponse, answer, size_max=100).action_id == first


async def test_one_bad_action_of_a_bundle_loses_none_of_its_neighbours(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=2, observers=1)) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        await stack.until_height(stack.top())
        good = [stack.sign(ALICE, pay("bob", 1)), stack.sign(ALICE, pay("bob", 2))]
        bundle = ActionBundle(actions=(good[0], altered_signature(stack), b"garbage", good[1]))
        topic = rpc.topic(WORLD_ID, "action")
        await stack.node("o1").network.publish(topic, record.to_bytes(bundle))
        await applied(stack, "v1", *map(hash32, good))
        counters = stack.counters("v1")
        assert (counters["action.refused.A1"], counters["action.refused.A6"]) == (1, 1)
        assert counters["net.gossip_reject"] >= 1


async def test_actions_flow_while_a_flood_is_refused(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=2, observers=1), config=CONFIG) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        flood = {"refused": 0}

        async def pour() -> None:
            for number in range(500):
                with pytest.raises(Refused):
                    NodeViews(stack.node("v1")).submit(bytes([number % 256]) * 1000)
                flood["refused"] += 1
                await trio.sleep(0.001)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pour)
            for _turn in range(3):
                await applied(stack, "v1", stack.submit("v1", ALICE, pay("bob", 1)))
        assert stack.counters("v1")["action.refused.A1"] == flood["refused"] == 500


def test_every_refusing_rule_of_the_contract_has_a_case() -> None:
    text = (Path(__file__).parents[2] / "protocols" / "action" / "README.md").read_text()
    rules = {f"A{number}" for number in range(1, 15)} - {"A13"}
    get_pending = {"A15", "A16"}
    assert set(re.findall(r"\[(?:REJECT|IGNORE)\] (A\d+)", text)) == rules | {"A13"} | get_pending
    assert {rule for rule, _, _ in BAD.values()} == rules

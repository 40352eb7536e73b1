from __future__ import annotations

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import AUTHORITY, Blobs, SmallWorld, key, small_genesis

from agent_world.crypto.hashing import actor_id_of, content_hash, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import ChainError
from agent_world.wire import limits, record
from agent_world.wire.action import MOVE as MOVE_KIND
from agent_world.wire.action import CreateObject, GrantResource, MoveAgent, RegisterAgent, TransferResource
from agent_world.wire.block import Outcome
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import I64, U64, Name, TimeMs, WorldId
from agent_world.world import kernel as kernel_module
from agent_world.world import queries
from agent_world.world.events import EVENTS, AgentMoved
from agent_world.world.genesis import genesis_head, initial_state
from agent_world.world.kernel import execute_block
from agent_world.world.reasons import REASONS, TOO_FAST, RuleRefusal
from agent_world.world.records import WORLD
from agent_world.world.rules.agent_move import move_agent
from agent_world.world.rules.context import RuleContext
from agent_world.world.trie import NodeMissing

MOVE = MoveAgent(x_cm=I64(0), y_cm=I64(0), z_cm=I64(0))
FAR = MoveAgent(x_cm=I64(10**9), y_cm=I64(0), z_cm=I64(0))


def pay(to: KeyPair, amount: int, resource: str = "gold") -> TransferResource:
    return TransferResource(resource=Name(resource), to_actor_id=actor_id_of(to.public_key), amount=U64(amount))


def test_an_empty_block_moves_the_clock_only(world: SmallWorld) -> None:
    before = world.state
    execution = world.execute([])
    assert (execution.receipts, execution.events) == ((), ())
    assert execution.state_root != before.root
    world.commit()
    clock = world.state.clock
    assert (clock.height, clock.timestamp_ms, clock.last_event_id) == (1, 1_001_000, 0)
    assert world.state.roots["rules"] == before.roots["rules"]


def test_events_are_numbered_through_the_world(world: SmallWorld, alice: KeyPair) -> None:
    world.join(alice, gold=5)
    first, second = world.sign(alice, MOVE), world.sign(alice, pay(AUTHORITY, 2))
    sealed = world.commit(first, second)
    events, receipts = sealed.execution.events, sealed.execution.receipts
    assert [event.event_id for event in events] == [3, 4]
    assert [event.caused_by for event in events] == [first.action_id, second.action_id]
    assert {event.height for event in events} == {3}
    assert [(receipt.from_event_id, receipt.event_count) for receipt in receipts] == [(3, 1), (4, 1)]
    assert world.state.clock.last_event_id == 4
    moved = record.from_bytes(EVENTS[events[0].kind], events[0].payload_cbor, size_max=999)
    assert moved == AgentMoved(actor_id=actor_id_of(alice.public_key), x_cm=I64(0), y_cm=I64(0), z_cm=I64(0))


def test_a_refused_action_uses_its_nonce_and_does_nothing_else(world: SmallWorld, alice: KeyPair) -> None:
    world.join(alice, gold=5)
    rules_before = world.state.roots["rules"]
    good, bad, last = world.sign(alice, MOVE), world.sign(alice, FAR), world.sign(alice, pay(AUTHORITY, 6))
    sealed = world.commit(bad_first := world.sign(AUTHORITY, pay(alice, 0)), good, bad, last)
    receipts = sealed.execution.receipts
    assert [(receipt.outcome, receipt.code) for receipt in receipts] == [
        (Outcome.REJECTED, "zero_amount"),
        (Outcome.APPLIED, "ok"),
        (Outcome.REJECTED, "too_fast"),
        (Outcome.REJECTED, "insufficient_balance"),
    ]
    assert [receipt.action_id for receipt in receipts] == [action.action_id for action in (bad_first, good, bad, last)]
    assert [(receipt.from_event_id, receipt.event_count) for receipt in receipts] == [(0, 0), (3, 1), (0, 0), (0, 0)]
    assert world.nonce_of(alice) == 3
    assert len(sealed.execution.events) == 1
    assert {receipt.code for receipt in receipts} <= REASONS.keys()
    assert world.state.roots["rules"] != rules_before


def test_writes_before_the_refusal_are_rolled_back(
    world: SmallWorld, alice: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule may write first and refuse later."""

    def move_then_refuse(context: RuleContext, payload: MoveAgent) -> None:
        move_agent(context, payload)
        raise RuleRefusal(TOO_FAST)

    world.join(alice)
    monkeypatch.setitem(kernel_module.HANDLERS, MOVE_KIND, move_then_refuse)
    before = world.state
    sealed = world.commit(world.sign(alice, MOVE))
    assert sealed.execution.events == ()
    assert world.state.roots["rules"] == before.roots["rules"]
    assert world.nonce_of(alice) == 1


def test_a_rule_without_events_names_none(world: SmallWorld, alice: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    world.join(alice)
    monkeypatch.setitem(kernel_module.HANDLERS, MOVE_KIND, lambda _context, _payload: None)
    (receipt,) = world.execute([world.sign(alice, MOVE)]).receipts
    assert (receipt.outcome, receipt.from_event_id, receipt.event_count) == (Outcome.APPLIED, 0, 0)


def test_the_state_that_is_executed_on_does_not_change(world: SmallWorld, alice: KeyPair) -> None:
    state, root = world.state, world.head.state_root
    register = RegisterAgent(name=Name("a"), public_key=alice.public_key, registration_quota=U64(0))
    action = world.sign(AUTHORITY, register)
    first = execute_block(state, world.context(), [action])
    assert state.root == root
    assert execute_block(state, world.context(), [action]) == first


def test_an_agent_can_act_in_the_block_that_registers_it(world: SmallWorld, alice: KeyPair) -> None:
    register = RegisterAgent(name=Name("a"), public_key=alice.public_key, registration_quota=U64(0))
    sealed = world.commit(world.sign(AUTHORITY, register), world.sign(alice, MOVE))
    assert [receipt.code for receipt in sealed.execution.receipts] == ["ok", "ok"]


class TestInvalidBlocks:
    @pytest.fixture
    def town(self, world: SmallWorld, alice: KeyPair) -> SmallWorld:
        world.join(alice, gold=5)
        return world

    def refused(self, town: SmallWorld, what: str, *actions: object, **context: object) -> None:
        root = town.head.state_root
        with pytest.raises(ChainError) as caught:
            execute_block(town.state, attrs.evolve(town.context(), **context), actions)  # type: ignore[arg-type]
        assert caught.value.what == what
        assert caught.value.height == context.get("height", town.head.height + 1)
        assert town.state.root == root

    @pytest.mark.parametrize("nonce", [0, 2, 3, 2**64 - 1])
    def test_nonce(self, town: SmallWorld, alice: KeyPair, nonce: int) -> None:
        self.refused(town, "nonce", town.sign(alice, MOVE, nonce=nonce))

    def test_the_same_action_twice(self, town: SmallWorld, alice: KeyPair) -> None:
        action = town.sign(alice, MOVE)
        self.refused(town, "nonce", action, action)

    def test_an_action_of_an_earlier_block(self, town: SmallWorld, alice: KeyPair) -> None:
        action = town.sign(alice, MOVE)
        town.commit(action)
        self.refused(town, "nonce", action)

    def test_no_actor(self, town: SmallWorld, bob: KeyPair) -> None:
        self.refused(town, "actor", town.sign(bob, MOVE))

    def test_key_of_another(self, town: SmallWorld, alice: KeyPair, bob: KeyPair) -> None:
        action = town.sign(bob, MOVE)
        forged = attrs.evolve(action.envelope, actor_id=actor_id_of(alice.public_key))
        self.refused(town, "key", attrs.evolve(action, envelope=forged))

    def test_world(self, town: SmallWorld) -> None:
        self.refused(town, "world_id", world_id=WorldId("w.other"))

    @pytest.mark.parametrize("step", [0, 2])
    def test_height(self, town: SmallWorld, step: int) -> None:
        self.refused(town, "height", height=U64(town.head.height + step))

    def test_time_must_move(self, town: SmallWorld) -> None:
        self.refused(town, "timestamp_ms", timestamp_ms=town.head.timestamp_ms)
        execute_block(town.state, town.context(after_ms=1), [])

    def test_too_many_actions(self, town: SmallWorld, alice: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kernel_module, "BLOCK_ACTIONS_MAX", 2)
        actions = [town.sign(alice, MOVE) for _ in range(3)]
        execute_block(town.state, town.context(), actions[:2])
        self.refused(town, "actions", *actions)

    def test_too_many_bytes(self, town: SmallWorld, alice: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
        action = town.sign(alice, MOVE)
        monkeypatch.setattr(kernel_module, "BLOCK_ACTION_BYTES_MAX", len(action.data))
        execute_block(town.state, town.context(), [action])
        monkeypatch.setattr(kernel_module, "BLOCK_ACTION_BYTES_MAX", len(action.data) - 1)
        self.refused(town, "actions", action)


def test_a_block_of_the_largest_size_executes(world: SmallWorld, alice: KeyPair) -> None:
    world.join(alice, gold=600)
    one = world.sign(alice, pay(AUTHORITY, 1))
    same = [
        attrs.evolve(one, envelope=attrs.evolve(one.envelope, nonce=U64(number)))
        for number in range(1, limits.BLOCK_ACTIONS_MAX + 1)
    ]
    assert {receipt.code for receipt in world.execute(same).receipts} == {"ok"}


def test_a_missing_node_is_named_and_execution_succeeds_once_it_is_there(world: SmallWorld, alice: KeyPair) -> None:
    world.join(alice)
    expected = world.execute([world.sign(alice, MOVE, nonce=1)])
    gone = world.state.roots["system"].digest
    kept = world.blobs.pop(gone)
    with pytest.raises(NodeMissing) as caught:
        world.execute([world.sign(alice, MOVE, nonce=1)])
    assert caught.value.content_hash == gone
    world.blobs[gone] = kept
    assert world.execute([world.sign(alice, MOVE, nonce=1)]) == expected


def test_execution_does_not_ask_for_an_objects_content(world: SmallWorld, alice: KeyPair) -> None:
    world.join(alice)
    world.blobs.reads.clear()
    content = Cid(Codec.RAW, ContentHash(bytes(32)))
    assert world.do(alice, CreateObject(object_id=Name("book"), content=content, size_bytes=U64(1))) == "ok"
    assert content.digest not in world.blobs.reads


def test_a_state_without_the_world_is_not_executed_on(world: SmallWorld) -> None:
    state = world.state
    state.delete(WORLD)
    root, blobs = state.flush()
    world.blobs.update(blobs)
    world.head = attrs.evolve(world.head, state_root=root)
    with pytest.raises(ChainError, match="world"):
        world.execute([])


def test_validator_hashes_are_those_of_the_states(world: SmallWorld) -> None:
    execution = world.execute([])
    expected = hash32(record.to_bytes(world.genesis.validators))
    assert (execution.validators_hash, execution.next_validators_hash) == (expected, expected)


AGENTS = [key(number) for number in range(2, 6)]
STEP = st.tuples(
    st.sampled_from(range(4)), st.sampled_from(range(5)), st.integers(0, 40), st.sampled_from(["gold", "iron"])
)


@given(blocks=st.lists(st.lists(STEP, max_size=8), min_size=1, max_size=4))
@settings(deadline=None, max_examples=20)
def test_sums_are_conserved_and_every_blob_is_named_by_its_hash(
    blocks: list[list[tuple[int, int, int, str]]],
) -> None:
    genesis = small_genesis()
    world = SmallWorld(genesis, Blobs(initial_state(genesis)[1]), genesis_head(genesis))
    for agent in AGENTS:
        world.join(agent, gold=30)
    grant = GrantResource(resource=Name("iron"), to_actor_id=actor_id_of(AGENTS[0].public_key), amount=U64(50))
    world.do(AUTHORITY, grant)
    everybody = [*AGENTS, key(99)]
    for block in blocks:
        sealed = world.commit(
            *(world.sign(AGENTS[payer], pay(everybody[to], amount, what)) for payer, to, amount, what in block)
        )
        assert all(content_hash(data) == digest for digest, data in sealed.blobs.items())
        owned: dict[str, int] = {}
        for _, resource, amount in queries.balances(world.state):
            assert amount > 0
            owned[resource] = owned.get(resource, 0) + amount
        assert owned == {"gold": 120, "iron": 50}
        assert [queries.supply(world.state, Name(name)) for name in ("gold", "iron", "tin")] == [120, 50, 0]


def test_block_time_is_the_only_clock(world: SmallWorld, alice: KeyPair) -> None:
    world.join(alice)
    action = world.sign(alice, MOVE)
    early, late = world.execute([action], after_ms=1), world.execute([action], after_ms=2)
    assert early.state_root != late.state_root
    assert early.events == late.events
    assert TimeMs(world.head.timestamp_ms + 1) == early.context.timestamp_ms

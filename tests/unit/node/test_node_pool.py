from __future__ import annotations

import pytest

from agent_world.config import BatchRules, MempoolConfig
from agent_world.errors import ErrorCode, Refused
from agent_world.node.clock import Clock
from agent_world.node.pool import ActionPool
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.stack import GENESIS_TIME_MS, make_key
from agent_world.testing.stack_actions import actor, grant, pay
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import PeerId
from agent_world.world.admission import SignedAction

ALICE, BOB = make_key("alice"), make_key("bob")
PEER = PeerId("peer")


def make_pool(chain: LedgerChain, **config: int) -> ActionPool:
    return ActionPool(chain.ledger, MempoolConfig(**config), Clock(lambda: GENESIS_TIME_MS))


@pytest.fixture
def pool(chain: LedgerChain) -> ActionPool:
    return make_pool(chain)


def rule_of(pool: ActionPool, data: bytes) -> tuple[str, ErrorCode]:
    with pytest.raises(Refused) as caught:
        pool.admit(data, source=None)
    return caught.value.rule, caught.value.code


def test_an_action_is_pending_until_it_is_committed(chain: LedgerChain, pool: ActionPool) -> None:
    arrived: list[tuple[SignedAction, PeerId | None]] = []
    pool.arrived = lambda action, source: arrived.append((action, source))
    action = chain.sign(ALICE, pay("bob", 1))
    admitted = pool.admit(action.data, source=PEER)
    assert (admitted.action_id, admitted.is_new) == (action.action_id, True)
    assert arrived == [(action, PEER)]
    assert pool.get(action.action_id) == action
    assert pool.find_body(ContentHash(action.action_id)) == action.data
    assert pool.pending_of(actor("alice")) == 1
    assert [item.action_id for item in pool.batch(BatchRules()).actions] == [action.action_id]
    assert pool.get(action.action_id) is not None  # a batch takes nothing out
    chain.commit(action)
    pool.committed(chain.ledger.last_actions)
    assert pool.get(action.action_id) is None
    assert pool.find_body(ContentHash(action.action_id)) is None
    assert pool.pending_of(actor("alice")) == 0


def test_the_same_action_again_is_told_so_and_not_announced(chain: LedgerChain, pool: ActionPool) -> None:
    action = chain.sign(ALICE, pay("bob", 1))
    pool.admit(action.data, source=None)
    pool.arrived = lambda _action, _source: pytest.fail("it is not new")
    assert pool.admit(action.data, source=PEER).is_new is False
    chain.commit(action)
    pool.committed(chain.ledger.last_actions)
    assert pool.admit(action.data, source=None).is_new is False
    assert dict(pool.counters) == {"action.admitted": 1, "action.duplicate": 2}


def test_every_refusal_is_counted_by_its_rule(chain: LedgerChain, pool: ActionPool) -> None:
    assert rule_of(pool, b"") == ("A1", ErrorCode.BAD_REQUEST)
    used = chain.sign(ALICE, pay("bob", 1), nonce=1).data
    assert rule_of(pool, used) == ("A9", ErrorCode.STATE_MISMATCH)
    assert rule_of(pool, chain.sign(make_key("stranger"), pay("bob", 1)).data) == ("A7", ErrorCode.UNAUTHORIZED)
    assert rule_of(pool, used) == ("A9", ErrorCode.STATE_MISMATCH)
    assert dict(pool.counters) == {"action.refused.A1": 1, "action.refused.A7": 1, "action.refused.A9": 2}
    assert len(pool.mempool) == 0


def test_what_another_action_has_superseded_is_forgotten(chain: LedgerChain, pool: ActionPool) -> None:
    waiting = chain.sign(ALICE, pay("bob", 1))
    nonce = waiting.envelope.nonce
    pool.admit(waiting.data, source=None)
    chain.commit(chain.sign(ALICE, pay("bob", 2), nonce=nonce))
    pool.committed(chain.ledger.last_actions)
    assert pool.get(waiting.action_id) is None
    assert rule_of(pool, waiting.data)[0] == "A9"


def test_what_was_evicted_is_forgotten_too(chain: LedgerChain) -> None:
    pool = make_pool(chain, max_actions=1)
    gapped = chain.sign(ALICE, pay("bob", 1), nonce=9)
    pool.admit(gapped.data, source=None)
    ready = chain.sign(chain.authority, grant("alice", 1))
    pool.admit(ready.data, source=None)
    assert pool.get(gapped.action_id) is None
    assert pool.get(ready.action_id) is not None
    assert rule_of(pool, gapped.data) == ("A12", ErrorCode.BUSY)


def test_what_can_never_be_ordered_is_forgotten_with_the_batch(chain: LedgerChain, pool: ActionPool) -> None:
    action = chain.sign(ALICE, pay("bob", 1))
    pool.admit(action.data, source=None)
    assert pool.batch(BatchRules(max_payload_bytes=10)).actions == ()
    assert pool.get(action.action_id) is None
    assert pool.admit(action.data, source=None).is_new is True

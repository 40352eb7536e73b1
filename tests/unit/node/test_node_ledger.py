from __future__ import annotations

import attrs
import pytest
import trio

from agent_world.crypto.hashing import cid_of, hash32
from agent_world.errors import ChainError, RemoteError
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.stack import make_key
from agent_world.testing.stack_actions import GOLD, actor, pay
from agent_world.wire import record
from agent_world.wire.block import BlockBundle, WorldBlock
from agent_world.wire.cid import Codec
from agent_world.wire.ids import U64, Hash32, TimeMs, ValidatorId
from agent_world.world import queries

ALICE = make_key("alice")


def gold(chain: LedgerChain) -> tuple[int, int]:
    state = chain.ledger.state
    return queries.balance(state, actor("alice"), GOLD), queries.balance(state, actor("bob"), GOLD)


def test_a_new_home_is_at_genesis(empty_chain: LedgerChain) -> None:
    ledger = empty_chain.ledger
    assert (ledger.height, ledger.header, ledger.head.block_hash) == (0, None, empty_chain.genesis_hash)
    head = ledger.certified_head()
    assert (head.block, head.certificate) == (b"", b"")
    assert ledger.bundle(0) is None
    assert ledger.links(1) == ()
    assert ledger.journal(1) == ()
    assert ledger.stated_sizes(1) == {}


def test_heights_and_state_move_together_and_survive_a_restart(chain: LedgerChain) -> None:
    before = chain.ledger.head
    assert chain.ledger.height == chain.ledger.state.clock.height == 5
    assert gold(chain) == (90, 10)
    chain.close()
    chain.reopen()
    assert chain.ledger.head == before
    assert gold(chain) == (90, 10)
    chain.commit()
    assert chain.ledger.height == 6


def test_receipts_and_nonces(chain: LedgerChain) -> None:
    action = chain.sign(ALICE, pay("bob", 1_000))
    assert chain.ledger.next_nonce(actor("alice")) == action.envelope.nonce
    assert not chain.ledger.is_committed(action.action_id)
    assert chain.ledger.receipt(action.action_id) is None
    chain.commit(action)
    found = chain.ledger.receipt(action.action_id)
    assert found is not None
    assert (found[0], found[1].action_id, found[1].code) == (6, action.action_id, "insufficient_balance")
    assert chain.ledger.is_committed(action.action_id)
    assert chain.ledger.next_nonce(actor("alice")) == action.envelope.nonce + 1
    assert chain.ledger.next_nonce(actor("nobody")) is None
    assert chain.ledger.receipt(Hash32(bytes(32))) is None


def test_stated_sizes_of_objects(chain: LedgerChain) -> None:
    assert chain.ledger.stated_sizes(4) == {
        cid_of(b"content held here", Codec.RAW): 17,
        cid_of(b"content held elsewhere", Codec.RAW): 22,
    }
    assert chain.ledger.stated_sizes(3) == {}


async def test_who_waits_for_a_height_is_woken(chain: LedgerChain, autojump_clock: object) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chain.ledger.wait_above, 6)
        await trio.testing.wait_all_tasks_blocked()
        chain.commit()
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        chain.commit()
    await chain.ledger.wait_above(6)


def test_a_block_once_executed_is_committed_without_doing_it_again(chain: LedgerChain) -> None:
    action = chain.sign(ALICE, pay("bob", 1))
    block = chain.propose(action)
    assert chain.ledger.verify(block, [action]).height == 6
    chain.ledger.commit(block, chain.certify(block), [action])
    chain.ledger.commit(block, b"", [])  # the head already: nothing happens
    assert chain.ledger.height == 6
    assert chain.ledger.last_actions == (action,)


@pytest.fixture
def follower(chain: LedgerChain, tmp_path_factory: pytest.TempPathFactory) -> LedgerChain:
    """Another home of the same world, at height 0."""
    other = LedgerChain(tmp_path_factory.mktemp("follower") / "home")
    assert other.genesis_hash == chain.genesis_hash
    return other


def bundle_of(chain: LedgerChain, height: int) -> BlockBundle:
    bundle = chain.ledger.bundle(height)
    assert bundle is not None
    return bundle


def test_bundles_are_all_that_is_needed_to_follow(chain: LedgerChain, follower: LedgerChain) -> None:
    with follower:
        for height in range(1, 6):
            follower.ledger.apply_bundle(height, bundle_of(chain, height))
        assert follower.ledger.head == chain.ledger.head
        assert gold(follower) == gold(chain)


def altered(chain: LedgerChain, bundle: BlockBundle, **changes: object) -> BlockBundle:
    """The block with other fields, certified all the same: what a validator gone bad could make."""
    block = record.from_bytes(WorldBlock, bundle.block, size_max=4096)
    data = record.to_bytes(attrs.evolve(block, **changes))
    return attrs.evolve(bundle, block=data, certificate=chain.certify(data, height=block.height))


CHANGES = {
    "state_root": cid_of(b"other"),
    "receipts_root": cid_of(b"other"),
    "journal_ref": cid_of(b"other"),
    "action_root": cid_of(b"other"),
    "event_root": hash32(b"other"),
    "prev_block_hash": hash32(b"other"),
    "validators_hash": hash32(b"other"),
    "next_validators_hash": hash32(b"other"),
    "slot": U64(7),
    "epoch": U64(7),
    "proposer_id": ValidatorId("v2"),
    "timestamp_ms": TimeMs(1),
}


@pytest.mark.parametrize("field", CHANGES)
def test_no_field_of_a_certified_block_is_believed(chain: LedgerChain, follower: LedgerChain, field: str) -> None:
    bad = altered(chain, bundle_of(chain, 1), **{field: CHANGES[field]})
    with follower:
        with pytest.raises(ChainError):
            follower.ledger.apply_bundle(1, bad)
        assert follower.ledger.height == 0
        follower.ledger.apply_bundle(1, bundle_of(chain, 1))
        assert follower.ledger.height == 1


@pytest.mark.parametrize("what", ["certificate", "other height", "order", "actions", "no actions", "garbage"])
def test_what_does_not_check_out_changes_nothing(chain: LedgerChain, follower: LedgerChain, what: str) -> None:
    good = bundle_of(chain, 1)
    bad = {
        "certificate": attrs.evolve(good, certificate=bundle_of(chain, 2).certificate),
        "other height": bundle_of(chain, 2),
        "order": attrs.evolve(good, actions=good.actions[::-1]),
        "actions": attrs.evolve(good, actions=bundle_of(chain, 2).actions),
        "no actions": attrs.evolve(good, actions=()),
        "garbage": BlockBundle(block=b"\xff", certificate=b"\xff", actions=()),
    }[what]
    with follower:
        with pytest.raises((ChainError, RemoteError)):
            follower.ledger.apply_bundle(1, bad)
        assert follower.ledger.height == 0
        assert follower.ledger.state.clock.height == 0
        follower.ledger.apply_bundle(1, good)

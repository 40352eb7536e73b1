"""Two sequencers race for the lease over one chain (T-9.14)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from agent_world.crypto.keys import KeyPair
from agent_world.sequencer.lease import is_active
from agent_world.testing.ledger_chain import BLOCK_MS, VALIDATOR, LedgerChain
from agent_world.testing.node_swarm import make_key
from agent_world.wire.ids import U64, ValidatorId
from agent_world.wire.lease import AcquireLease, ReleaseLease, RenewLease
from agent_world.world import queries
from agent_world.world.records import LeaseRecord

INTERLEAVINGS = 100
BLOCKS = 6
TTL_MS = 3 * BLOCK_MS
OTHER = ValidatorId("v2")


@pytest.fixture
def race(tmp_path: Path) -> Iterator[tuple[LedgerChain, dict[ValidatorId, KeyPair]]]:
    other = make_key("other sequencer")
    with LedgerChain(tmp_path / "home", others={OTHER: other}) as chain:
        yield chain, {VALIDATOR: chain.voter, OTHER: other}


def wanted(chain: LedgerChain, record: LeaseRecord, random: Random) -> object | None:
    """What a sequencer that does not know what the other is doing may ask for."""
    ttl_ms = U64(random.choice((BLOCK_MS, TTL_MS)))
    lease_id = None if record.lease is None else record.lease.lease_id
    choices: list[object | None] = [None, AcquireLease(ttl_ms=ttl_ms), AcquireLease(ttl_ms=ttl_ms)]
    if lease_id is not None:
        choices += [RenewLease(lease_id=lease_id, ttl_ms=ttl_ms), ReleaseLease(lease_id=lease_id)]
    return random.choice(choices)


def test_t_9_14_terms_only_rise_and_every_block_has_its_holders(
    race: tuple[LedgerChain, dict[ValidatorId, KeyPair]],
) -> None:
    """T-9.14: two sequencers, one store, 100 interleavings; each asks by what it saw a block or two ago."""
    chain, keys = race
    seen = {name: queries.lease(chain.ledger.state) for name in keys}
    holders: dict[int, ValidatorId] = {}
    term, moves = 0, 0
    for number in range(INTERLEAVINGS):
        random = Random(f"interleaving {number}")
        for _ in range(BLOCKS):
            before, before_ms = queries.lease(chain.ledger.state), chain.ledger.timestamp_ms
            asked = [(name, wanted(chain, seen[name], random)) for name in random.sample(sorted(keys), 2)]
            chain.commit(*[chain.sign(keys[name], payload) for name, payload in asked if payload is not None])
            header, after = chain.ledger.header, queries.lease(chain.ledger.state)
            assert header is not None
            assert header.lease_term == after.term >= before.term, f"interleaving {number}"
            assert after.term - before.term in (0, 1, 2)
            if after.lease is not None:
                assert after.lease.term == after.term
                assert holders.setdefault(after.term, after.lease.holder_id) == after.lease.holder_id
            if before.lease is not None and is_active(before.lease, header.timestamp_ms) and after.term > before.term:
                # It was in force at this block's time: only its holder can have ended it.
                assert ReleaseLease(lease_id=before.lease.lease_id) in dict(asked).values(), f"interleaving {number}"
                assert dict(asked)[before.lease.holder_id] == ReleaseLease(lease_id=before.lease.lease_id)
            assert header.timestamp_ms > before_ms
            moves += after.term - term
            term = after.term
            for name in keys:
                if random.random() < 0.7:
                    seen[name] = after
    assert moves == term > INTERLEAVINGS
    assert set(holders.values()) == set(keys), "both have held it"
    assert set(holders) <= set(range(1, term + 1))

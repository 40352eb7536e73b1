from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from agent_world.crypto.hashing import content_hash
from agent_world.errors import BlobHashMismatch, DataError
from agent_world.node.heal import NODES_MAX, QUEUE_MAX, Healer
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.wire.cid import ContentHash
from agent_world.world.trie import NodeMissing

DATA = b"a state node"
HASH = content_hash(DATA)


class FakeClient:
    """Neighbours that have what is in ``held``; nobody in the DHT has more."""

    def __init__(self, *held: bytes) -> None:
        self.held = {content_hash(data): data for data in held}
        self.asked: list[ContentHash] = []

    async def fetch_near(self, wanted: Sequence[ContentHash]) -> dict[ContentHash, bytes]:
        await trio.lowlevel.checkpoint()
        asked = list(wanted)
        self.asked += asked
        return {item: self.held[item] for item in asked if item in self.held}

    async def fetch_far(self, _wanted: Sequence[ContentHash]) -> dict[ContentHash, bytes]:
        return {}


def healer(chain: LedgerChain, client: FakeClient) -> Healer:
    return Healer(client, chain.blobs)  # type: ignore[arg-type]


def needing(chain: LedgerChain, *digests: ContentHash) -> bytes:
    for digest in digests:
        if not chain.blobs.has(digest):
            raise NodeMissing(digest)
    return b"done"


async def test_what_is_missing_is_fetched_and_the_operation_runs_again(empty_chain: LedgerChain) -> None:
    nodes = [b"node %d" % number for number in range(5)]
    client = FakeClient(*nodes)
    made = healer(empty_chain, client)
    assert await made.with_state(lambda: needing(empty_chain, *map(content_hash, nodes))) == b"done"
    assert client.asked == list(map(content_hash, nodes))
    assert made.counters["heal.fetched"] == 5


async def test_what_nobody_has_is_an_error(empty_chain: LedgerChain) -> None:
    made = healer(empty_chain, FakeClient())
    with pytest.raises(NodeMissing):
        await made.with_state(lambda: needing(empty_chain, HASH))
    assert made.counters["heal.not_found"] == 1


async def test_too_many_are_an_error(empty_chain: LedgerChain) -> None:
    nodes = [b"node %d" % number for number in range(NODES_MAX + 5)]
    made = healer(empty_chain, FakeClient(*nodes))
    with pytest.raises(NodeMissing):
        await made.with_state(lambda: needing(empty_chain, *map(content_hash, nodes)))
    assert made.counters["heal.fetched"] == NODES_MAX


async def test_damage_is_met_once_and_then_fetched(empty_chain: LedgerChain) -> None:
    damaged = [HASH]

    def operation() -> bytes:
        if damaged:
            damaged.clear()
            raise BlobHashMismatch(HASH.hex())
        return needing(empty_chain, HASH)

    made = healer(empty_chain, FakeClient(DATA))
    assert await made.with_state(operation) == b"done"
    assert (made.counters["heal.damaged"], made.counters["heal.fetched"]) == (1, 1)


async def test_other_errors_are_not_its_affair(empty_chain: LedgerChain) -> None:
    def broken() -> None:
        raise DataError("something else")

    with pytest.raises(DataError, match="something else"):
        await healer(empty_chain, FakeClient()).with_state(broken)


async def test_what_is_reported_lost_comes_back(empty_chain: LedgerChain, autojump_clock: object) -> None:
    made = healer(empty_chain, FakeClient(DATA))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        made.lost(HASH)
        await trio.sleep(1)
        assert empty_chain.blobs.get(HASH) == DATA
        nursery.cancel_scope.cancel()


async def test_reports_are_bounded_and_counted(empty_chain: LedgerChain) -> None:
    made = healer(empty_chain, FakeClient())
    for number in range(QUEUE_MAX + 3):
        made.lost(content_hash(b"%d" % number))
        made.lost(content_hash(b"0"))  # waits already
    assert made.counters["heal.queue_full"] == 3


async def test_what_no_neighbour_has_is_looked_for_in_the_dht(empty_chain: LedgerChain, nursery: trio.Nursery) -> None:
    searched: list[Sequence[ContentHash]] = []

    class Client(FakeClient):
        async def fetch_near(self, wanted: Sequence[ContentHash]) -> dict[ContentHash, bytes]:
            return {}

        async def fetch_far(self, wanted: Sequence[ContentHash]) -> dict[ContentHash, bytes]:
            searched.append(wanted)
            return await super().fetch_near(wanted)

    made = healer(empty_chain, Client(DATA))
    for _turn in range(2):  # it is looked for once
        with pytest.raises(NodeMissing):
            await made.with_state(lambda: needing(empty_chain, HASH))
    nursery.start_soon(made.run)
    await trio.testing.wait_all_tasks_blocked()
    assert await made.with_state(lambda: needing(empty_chain, HASH)) == b"done"
    assert searched == [[HASH]]
    assert (made.counters["heal.not_found"], made.counters["heal.fetched"]) == (3, 1)

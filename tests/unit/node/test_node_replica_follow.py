from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import trio

from agent_world.config import ReplicationConfig
from agent_world.crypto.hashing import cid_of
from agent_world.distfs.replication import (
    FileEntry,
    OpenedRecord,
    SingleWriterReplicationGuard,
    WriterLease,
    build_replication_record,
    sign_replication_record,
    validate_and_advance,
)
from agent_world.errors import ErrorCode, Refused
from agent_world.net.interface import DistributedNetwork
from agent_world.net.reputation import Offence
from agent_world.node.clock import Clock
from agent_world.node.distributed_client import DistributedClient
from agent_world.node.heal import Healer
from agent_world.node.replica_follow import ReplicaFollower
from agent_world.node.replica_log import ReplicaLog
from agent_world.node.replica_parts import ReplicationParts
from agent_world.store.replication import ReplicationStore
from agent_world.testing.ledger_chain import BLOCK_MS, VALIDATOR, LedgerChain
from agent_world.testing.node_swarm import WORLD_ID, make_key
from agent_world.wire import record, rpc
from agent_world.wire.cid import Codec, ContentHash
from agent_world.wire.ids import U64, PeerId, TimeMs, peer_id_of
from agent_world.wire.lease import AcquireLease
from agent_world.wire.replication import GetRecordsRequest, GetRecordsResponse

A, B, C = (peer_id_of(make_key(name).public_key) for name in "ABC")
CONFIG = ReplicationConfig(ask_interval_ms=1_000)
Answer = Callable[[GetRecordsRequest], Awaitable[bytes]]


class Network:
    """Peers that answer get_records as told."""

    def __init__(self) -> None:
        self.answers: dict[PeerId, Answer] = {}
        self.asked: list[PeerId] = []
        self.blamed: list[tuple[PeerId, Offence]] = []
        self.gate = self

    def blame(self, peer: PeerId, offence: Offence) -> None:
        self.blamed.append((peer, offence))

    async def request(self, peer: PeerId, method: str, payload: bytes) -> bytes:
        assert method == rpc.GET_RECORDS
        self.asked.append(peer)
        return await self.answers[peer](record.from_bytes(GetRecordsRequest, payload, size_max=999))


class Client:
    """Blobs that all peers have; notes every request."""

    def __init__(self) -> None:
        self.blobs: dict[ContentHash, bytes] = {}
        self.asked: list[int] = []
        self.first: list[tuple[PeerId, ...]] = []
        self.sought: list[ContentHash] = []

    async def fetch_far(self, wanted: list[ContentHash]) -> dict[ContentHash, bytes]:
        self.sought.extend(wanted)
        return {}

    async def fetch_near(
        self, wanted: list[ContentHash], preferred: tuple[PeerId, ...] = ()
    ) -> dict[ContentHash, bytes]:
        self.first.append(preferred)
        self.asked.append(len(wanted))
        return {item: self.blobs[item] for item in wanted if item in self.blobs}


class Following:
    """A follower whose world's one validator has written ``records``."""

    def __init__(self, chain: LedgerChain, count: int) -> None:
        chain.do(chain.voter, AcquireLease(ttl_ms=U64(100 * BLOCK_MS)))
        self.chain = chain
        self.network, self.client = Network(), Client()
        self.store = ReplicationStore(chain.home, chain.blobs, WORLD_ID)
        self.log = ReplicaLog(self.store, chain.ledger, CONFIG)
        self.neighbours = [A, B, C]
        parts = ReplicationParts(
            home=chain.home,
            ledger=chain.ledger,
            blobs=chain.blobs,
            network=cast(DistributedNetwork, self.network),
            client=cast(DistributedClient, self.client),
            healer=Healer(cast(DistributedClient, self.client), chain.blobs),
            clock=Clock(lambda: 0),
            config=CONFIG,
            neighbours=lambda: self.neighbours,
            voter=lambda: None,
            ask_proof=lambda _peer: None,
        )
        self.follower = ReplicaFollower(self.log, parts)
        self.records: list[OpenedRecord] = []
        self.guard = SingleWriterReplicationGuard(world_id=WORLD_ID)
        for number in range(count):
            self.write(f"file {number}", b"%d" % number)

    def write(self, path: str, data: bytes, *, height: int = 1, signer: str = "") -> None:
        key = make_key(signer) if signer else self.chain.voter
        lease = WriterLease(height=U64(height), holder_id=VALIDATOR, term=U64(1), key=key.public_key)
        content = cid_of(data, Codec.RAW)
        entry = FileEntry(path=path, content=content, size_bytes=U64(len(data)), updated_at_ms=TimeMs(0))
        said = build_replication_record(self.guard, lease, entry)
        self.guard = validate_and_advance(self.guard, said)
        self.records.append(sign_replication_record(said, self.chain.genesis_hash, key))
        self.client.blobs[content.digest] = data

    def answer(self, *records: bytes) -> bytes:
        return record.to_bytes(GetRecordsResponse(records=records, term=U64(1), holder_id=VALIDATOR))

    async def honest(self, asked: GetRecordsRequest) -> bytes:
        after = (asked.after_epoch, asked.after_sequence)
        return self.answer(*[item.data for item in self.records if item.place > after][:100])

    async def lacks(self, _asked: GetRecordsRequest) -> bytes:
        return self.answer()

    async def busy(self, _asked: GetRecordsRequest) -> bytes:
        raise Refused(ErrorCode.BUSY, "not now")

    async def nonsense(self, _asked: GetRecordsRequest) -> bytes:
        return b"\xff"

    def all_answer(self, **answers: Answer) -> None:
        for name, peer in zip("ABC", (A, B, C), strict=True):
            self.network.answers[peer] = answers.get(name, self.lacks)

    async def run_for(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self.follower.run()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[int], Following]]:
    with LedgerChain(tmp_path / "home") as chain:
        yield lambda count: Following(chain, count)


Make = Callable[[int], Following]


async def test_neighbours_are_asked_in_turn(make: Make, autojump_clock: object) -> None:  # T-8.12
    following = make(3)
    following.all_answer(A=following.honest)
    await following.run_for(6.5)
    asked = following.network.asked
    assert sorted(asked[:3]) == sorted([A, B, C])
    assert asked[:3] == asked[3:6]
    assert following.log.place() == (1, 3)
    assert following.follower.confirmed == {A, B, C}


async def test_contents_of_many_records_are_one_request(make: Make, autojump_clock: object) -> None:
    following = make(50)
    following.all_answer(A=following.honest, B=following.honest, C=following.honest)
    await following.run_for(1.5)
    assert following.log.place() == (1, 50)
    assert following.client.asked == [50]
    assert following.client.first[0][0] in (A, B, C)  # who gave the records is asked first


@pytest.mark.parametrize(
    ("kind", "counter", "blamed"),
    [
        ("busy", "replication.not_answered.ERR_BUSY", []),
        ("nonsense", "replication.broken.D2", [Offence.GARBAGE]),
    ],
)
async def test_a_neighbour_that_fails_is_left_alone_and_holds_up_nobody(
    make: Make, autojump_clock: object, kind: str, counter: str, blamed: list[Offence]
) -> None:
    following = make(3)
    following.all_answer(**dict.fromkeys("AB", getattr(following, kind)), C=following.honest)
    following.follower.is_seeking = True  # so that questions follow each other at once
    await following.run_for(0.4)
    assert following.network.asked.count(A) == following.network.asked.count(B) == 1
    assert following.log.place() == (1, 3)
    assert following.follower.counters[counter] == 2, dict(following.follower.counters)
    assert [offence for _peer, offence in following.network.blamed] == blamed * 2
    await following.run_for(1.5)
    assert following.network.asked.count(A) >= 2


async def test_a_record_that_is_none_ends_the_answer_and_those_before_it_stay(
    make: Make, autojump_clock: object
) -> None:
    following = make(4)
    records = [item.data for item in following.records]
    records[2] = records[2][:-1] + bytes([records[2][-1] ^ 1])

    async def half(_asked: GetRecordsRequest) -> bytes:
        return following.answer(*records)

    following.all_answer(A=half, B=half, C=half)
    await following.run_for(1.2)
    assert following.log.place() == (1, 2)
    assert following.network.blamed[0][1] is Offence.INVALID_MESSAGE
    assert "W5" in (following.follower.last_error or "")


async def test_a_record_of_a_height_that_is_not_reached_waits(make: Make, autojump_clock: object) -> None:
    following = make(2)
    following.write("later", b"later", height=2)
    following.all_answer(**dict.fromkeys("ABC", following.honest))
    await following.run_for(3)
    assert following.log.place() == (1, 2)
    assert following.network.blamed == []
    following.chain.commit()
    await following.run_for(3)
    assert following.log.place() == (1, 3)


async def test_content_that_nobody_has_is_said_and_comes_later(make: Make, autojump_clock: object) -> None:
    following = make(3)
    lost = following.records[1].record.content
    data = following.client.blobs.pop(lost.digest)
    following.all_answer(**dict.fromkeys("ABC", following.honest))
    await following.run_for(3)
    assert following.log.place() == (1, 1)
    assert str(lost) in (following.follower.last_error or "")
    assert set(following.client.sought) == {lost.digest}, "providers are looked for too"
    following.client.blobs[lost.digest] = data
    await following.run_for(3)
    assert (following.log.place(), following.follower.last_error) == ((1, 3), None)


async def test_records_that_lead_nowhere_are_no_answer(make: Make, autojump_clock: object) -> None:
    following = make(3)

    async def again(_asked: GetRecordsRequest) -> bytes:
        return following.answer(following.records[0].data)

    following.all_answer(A=following.honest, B=again)
    following.follower.is_seeking = True
    await following.run_for(1.2)
    assert following.log.place() == (1, 3)
    assert following.follower.confirmed >= {A, C}
    assert following.follower.counters["replication.no_use"] >= 1


async def test_what_was_gossiped_out_of_order_is_applied_in_order_and_the_rest_asked_for(
    make: Make, autojump_clock: object
) -> None:
    following = make(5)
    following.all_answer(**dict.fromkeys("ABC", following.honest))
    applied: list[Any] = []
    following.log.accepted = lambda opened: applied.append(opened.place)
    for number in (4, 1, 0):
        following.log.take(following.records[number].data, A)
    await following.run_for(0.01)
    assert applied == [(1, 1), (1, 2)]
    await following.run_for(0.2)  # a gap is known: nobody waits for the next interval
    assert applied == [(1, number) for number in range(1, 6)]
    assert attrs.asdict(following.store.guard())["last_sequence"] == 5


async def test_nobody_is_asked_before_the_first_lease(make: Make, autojump_clock: object) -> None:
    following = make(0)
    following.all_answer()
    following.log.committed_lease = lambda: (U64(0), None)  # type: ignore[method-assign]
    await following.run_for(10)
    assert following.network.asked == []

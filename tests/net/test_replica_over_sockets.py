"""The method replica between real hosts on loopback: answers, refusals, broken peers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from agent_world.config import MINIMAL, ReplicasConfig
from agent_world.crypto.hashing import cid_of
from agent_world.errors import ErrorCode, Refused
from agent_world.handlers.replica import ReplicaHandler
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.net.libp2p.requests import KEPT_PROTOCOL
from agent_world.net.libp2p.streams import FrameReader, framed
from agent_world.net.reputation import Offence
from agent_world.node.clock import Clock
from agent_world.node.holdings import HoldingParts, Holdings
from agent_world.node.peering import Peering
from agent_world.node.replica_ask import ReplicaAsker
from agent_world.store.content import ContentState, ContentTable
from agent_world.store.own_content import OwnContent
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.node_swarm import WORLD_ID
from agent_world.wire import record, rpc
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.hello import Role
from agent_world.wire.ids import U32, U64, PeerId, WorldId
from agent_world.wire.limits import REPLICA_CONTENTS_MAX, RPC_FRAME_BYTES_MAX, RPC_INLINE_BYTES_MAX
from agent_world.wire.replica import Holding, ReplicaAsk, ReplicaRequest
from agent_world.wire.rpc import RequestFrame, ResponseFrame

DATA = [b"content %d" % number for number in range(REPLICA_CONTENTS_MAX)]
CIDS = [cid_of(data, Codec.RAW) for data in DATA]
HERE, LEFT = 4, 8
"""The first contents are kept, the next ones are named and left to others, the rest is not named."""


class Keeper:
    """The parts of a storage node that answer, on a real host."""

    def __init__(self, chain: LedgerChain, network: Libp2pNetwork, storing: Iterable[PeerId]) -> None:
        self.network, self.table = network, ContentTable(chain.home)
        hellos = {peer: SimpleNamespace(role=Role.STORAGE) for peer in storing}
        self.holdings = Holdings(
            HoldingParts(
                config=ReplicasConfig(target_replicas_per_blob=3), quota_bytes=1_000_000, role=Role.STORAGE,
                own_id=network.peer_id, ledger=chain.ledger, peering=cast(Peering, SimpleNamespace(hellos=hellos)),
                blobs=chain.blobs, table=self.table, own=OwnContent(chain.home), clock=Clock(),
            )
        )  # fmt: skip
        chain.blobs.put_many(DATA[:HERE])
        self.table.name([(cid, 10) for cid in CIDS[:LEFT]], 0)
        self.table.mark_have(CIDS[:HERE])
        self.table.leave(CIDS[HERE:LEFT])
        self.counted: list[str] = []
        handler = ReplicaHandler(self.holdings)
        handler.count = self.counted.append
        network.serve(rpc.REPLICA, handler.serve)
        self.asker = ReplicaAsker(network, self.holdings)


@pytest.fixture
def keepers(networks: Any, tmp_path: Path) -> Callable[..., Any]:
    """``async with keepers(3, storing=...) as (network, ..., keeper)``: a keeper and those linked with it."""

    @asynccontextmanager
    async def make(storing: bool = True) -> AsyncIterator[tuple[Keeper, Keeper]]:
        async with networks(2) as (one, two):
            with LedgerChain(tmp_path / "one") as first, LedgerChain(tmp_path / "two") as second:
                yield Keeper(first, one, [two.peer_id]), Keeper(second, two, [one.peer_id] if storing else [])

    return make


async def refusal(asking: Any) -> tuple[ErrorCode, str | None]:
    with pytest.raises(Refused) as caught:
        await asking
    return caught.value.code, caught.value.rule


async def test_good_answers(keepers: Any) -> None:
    async with keepers() as (one, two):
        peer = two.network.peer_id
        said = await one.asker.ask(peer, ReplicaAsk.STATUS, CIDS)
        assert said.holdings[: LEFT + 1] == (Holding.BOUND,) * HERE + (Holding.NAMED,) * (LEFT - HERE) + (
            Holding.UNKNOWN,
        )
        assert (len(said.holdings), said.target) == (REPLICA_CONTENTS_MAX, 3)
        said = await one.asker.ask(peer, ReplicaAsk.HOLD, [CIDS[HERE]], one.network.peer_id)
        assert said.holdings == (Holding.COMING,)
        assert (await one.asker.ask(peer, ReplicaAsk.RELIEVE, [CIDS[HERE + 1]])).holdings == (Holding.COMING,)
        assert (await one.asker.ask(peer, ReplicaAsk.KEEP, [CIDS[0]])).holdings == (Holding.BOUND,)
        # What may have been promised before the start is not given up.
        assert await refusal(one.asker.ask(peer, ReplicaAsk.RELEASE, [CIDS[0]])) == (ErrorCode.BUSY, "R10")
        assert [two.table.get(cid).state for cid in CIDS[HERE : HERE + 2]] == [ContentState.WANTED] * 2
        assert two.counted == [
            *(f"replicas.asked.{ask}" for ask in ("status", "hold", "relieve", "keep")), "replicas.refused.R10",
        ]  # fmt: skip
        found = await one.asker.status_of_all([one.network.peer_id, peer], CIDS[:1])
        assert [answer.holdings for answer in found.values()] == [(Holding.BOUND,)] * 2


async def test_unknown_content(keepers: Any) -> None:
    async with keepers() as (one, two):
        peer, unknown = two.network.peer_id, CIDS[-1]
        assert (await one.asker.ask(peer, ReplicaAsk.STATUS, [unknown])).holdings == (Holding.UNKNOWN,)
        for ask in (ReplicaAsk.HOLD, ReplicaAsk.RELIEVE, ReplicaAsk.RELEASE, ReplicaAsk.KEEP):
            assert await refusal(one.asker.ask(peer, ask, [unknown])) == (ErrorCode.NOT_AVAILABLE, "R5")
        assert two.table.get(unknown) is None


async def test_who_does_not_store_may_only_ask_for_the_status(keepers: Any) -> None:
    async with keepers(storing=False) as (one, two):
        peer = two.network.peer_id
        assert (await one.asker.ask(peer, ReplicaAsk.STATUS, CIDS[:1])).holdings == (Holding.BOUND,)
        for ask in (ReplicaAsk.HOLD, ReplicaAsk.RELIEVE, ReplicaAsk.RELEASE, ReplicaAsk.KEEP):
            assert await refusal(one.asker.ask(peer, ask, CIDS[:1])) == (ErrorCode.UNAUTHORIZED, "R3")
        assert two.counted == ["replicas.asked.status", *["replicas.refused.R3"] * 4]


def request_of(contents: Iterable[Cid], *, ask: ReplicaAsk = ReplicaAsk.STATUS, world: WorldId = WORLD_ID) -> bytes:
    return record.to_bytes(ReplicaRequest(world_id=world, ask=ask, contents=tuple(contents), source=None))


async def test_malformed_questions(keepers: Any) -> None:
    good = request_of(CIDS[:1])
    async with keepers() as (one, two):
        peer = two.network.peer_id

        def ask(payload: bytes) -> Any:
            return one.network.request(peer, rpc.REPLICA, payload)

        for payload in (b"", b"\xff", good[:-1], good + b"\x00"):
            code, rule = await refusal(ask(payload))
            assert (code, rule in {"D2", "D5"}) == (ErrorCode.BAD_REQUEST, True), payload
        for contents, kind in ((CIDS + CIDS[:1], "status"), ([], "status"), (CIDS[:2], "hold"), ([], "keep")):
            asked = request_of(contents, ask=ReplicaAsk(kind))
            assert await refusal(ask(asked)) == (ErrorCode.BAD_REQUEST, "R2"), kind
        assert await refusal(ask(request_of(CIDS[:1], world=WorldId("another")))) == (ErrorCode.BAD_REQUEST, "R1")
        assert [two.table.get(cid).state for cid in CIDS[:2]] == [ContentState.HAVE] * 2
        assert await ask(good), "and it still answers"


@pytest.mark.parametrize(("size", "is_framed"), [(RPC_INLINE_BYTES_MAX + 1, True), (RPC_FRAME_BYTES_MAX + 1, False)])
async def test_oversized_questions(
    keepers: Any, stranger: Any, join: Any, until: Any, size: int, is_framed: bool
) -> None:
    """By a client made by hand, as ours sends none. What does not even fit a frame is held against who sends it."""
    async with keepers() as (_one, two), stranger() as host:
        blamed: list[Offence] = []
        two.network.gate.blame = lambda _of, offence: blamed.append(offence)
        await join(host, two.network)
        stream = await host.open_stream(two.network.peer_id, KEPT_PROTOCOL)
        frame = RequestFrame(id=U64(1), method=rpc.REPLICA, payload=bytes(size), deadline_ms=U32(5_000))
        await stream.write(framed(record.to_bytes(frame)))
        if is_framed:
            data = await FrameReader(stream).next(RPC_FRAME_BYTES_MAX)
            answer = record.from_bytes(ResponseFrame, data, size_max=RPC_FRAME_BYTES_MAX)
            assert answer.error is not None
            assert answer.error.code is ErrorCode.BAD_REQUEST
        else:
            await until(lambda: blamed)
            assert blamed == [Offence.BROKEN_FRAMING]
        assert two.counted == []


@pytest.mark.parametrize("size", [1, 100, RPC_INLINE_BYTES_MAX, RPC_INLINE_BYTES_MAX + 1, 1_000_000])
async def test_malformed_and_oversized_answers_are_held_against_their_peer(keepers: Any, size: int) -> None:
    async with keepers() as (one, two):
        peer, blamed = two.network.peer_id, []

        async def lie(_peer: PeerId, _payload: bytes) -> bytes:
            return b"\xff" * size

        two.network.serve(rpc.REPLICA, lie)
        one.network.gate.blame = lambda of, offence: blamed.append((of, offence))
        code, _rule = await refusal(one.asker.ask(peer, ReplicaAsk.STATUS, CIDS[:1]))
        assert code is ErrorCode.NOT_AVAILABLE
        assert blamed == [(peer, Offence.GARBAGE)]


async def test_a_peer_that_goes_in_the_middle(networks: Any, tmp_path: Path, new_key: Any, until: Any) -> None:
    """Its question ends, with a code that says that it may be tried again; the others are heard all the same."""
    asked = trio.Event()

    async def hang(_peer: PeerId, _payload: bytes) -> bytes:
        asked.set()
        await trio.sleep_forever()
        raise AssertionError

    async with networks(2) as (one, two):
        with LedgerChain(tmp_path / "one") as first, LedgerChain(tmp_path / "two") as second:
            asking, steady = Keeper(first, one, []), Keeper(second, two, [])
            found: dict[PeerId, Any] = {}

            async def ask(peers: list[PeerId]) -> None:
                found.update(await asking.asker.status_of_all(peers, CIDS[:1]))

            async with trio.open_nursery() as nursery, Libp2pNetwork.open(MINIMAL.net, new_key()) as leaving:
                leaving.serve(rpc.REPLICA, hang)
                one.dial(leaving.peer_id, leaving.listen_addresses()[0])
                await until(lambda: leaving.peer_id in {info.peer for info in one.peers()})
                started = trio.current_time()
                nursery.start_soon(ask, [leaving.peer_id, steady.network.peer_id])
                await asked.wait()
            assert trio.current_time() - started < MINIMAL.net.request_timeout_s, "nobody waits for its time-out"
            assert found[leaving.peer_id] is None
            assert found[steady.network.peer_id].holdings == (Holding.BOUND,)
            (counter,) = asking.asker.counters
            assert counter in {"replicas.no_status.ERR_NOT_AVAILABLE", "replicas.no_status.ERR_TIMEOUT"}
            # It is not connected any more: nobody else is asked in its place.
            code, _rule = await refusal(asking.asker.ask(leaving.peer_id, ReplicaAsk.STATUS, CIDS[:1]))
            assert code is ErrorCode.NOT_AVAILABLE

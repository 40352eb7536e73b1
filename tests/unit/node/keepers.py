"""Parts of one storage node on a real home, among storage nodes that answer ``replica`` as they are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, Final, cast

import attrs
import trio

from agent_world.config import ReplicasConfig
from agent_world.crypto.hashing import cid_of
from agent_world.distfs.providers import ProviderRecord
from agent_world.distfs.replicas import first_by_weight
from agent_world.errors import ErrorCode, Refused
from agent_world.net.interface import DistributedNetwork
from agent_world.net.reputation import Offence
from agent_world.node.clock import Clock
from agent_world.node.holdings import GATHER_MS, PLEDGE_MS, HoldingParts, Holdings
from agent_world.node.peering import Peering
from agent_world.node.replica_ask import ReplicaAsker
from agent_world.node.replica_outside import Outside
from agent_world.store.content import Content, ContentState, ContentTable
from agent_world.store.own_content import OwnContent
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.node_swarm import GENESIS_TIME_MS, make_key
from agent_world.wire import record, rpc
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.hello import Role
from agent_world.wire.ids import U16, U64, PeerId, peer_id_of
from agent_world.wire.limits import RPC_INLINE_BYTES_MAX
from agent_world.wire.replica import Holding, ReplicaAsk, ReplicaRequest, ReplicaResponse

ME: Final = peer_id_of(make_key("me").public_key)
TARGET: Final = 3
CONFIG: Final = ReplicasConfig(target_replicas_per_blob=TARGET, poll_interval_ms=5_000)
QUOTA: Final = 1_000_000
SETTLED_S: Final = max(PLEDGE_MS, GATHER_MS) / 1_000
"""After so long a node that has just started behaves as one that has run for long."""


def peer(number: int) -> PeerId:
    return peer_id_of(make_key("keeper", number).public_key)


def data_of(number: int) -> bytes:
    return b"content %05d" % number


def named(number: int) -> Cid:
    return cid_of(data_of(number), Codec.RAW)


def named_where(wanted: Callable[[Cid], bool], count: int = 1, first: int = 0) -> list[int]:
    """The first numbers whose content is as ``wanted``."""
    numbers = (number for number in range(first, first + 100_000) if wanted(named(number)))
    return [next(numbers) for _ in range(count)]


def ranked(rank: int, *, among: Iterable[PeerId]) -> Callable[[Cid], bool]:
    """Of which content this node comes at that place by weight."""
    members = tuple(among)
    return lambda cid: first_by_weight(cid.digest, members, len(members)).index(ME) == rank


@attrs.define(eq=False)
class Keeper:
    """A storage node that does what it is asked, unless ``on`` says otherwise."""

    holdings: dict[Cid, Holding] = attrs.Factory(dict)
    rest: Holding = Holding.NAMED
    """Of all other content."""
    quota_bytes: int = QUOTA
    free_bytes: int = QUOTA
    target: int = TARGET
    on: dict[ReplicaAsk, Callable[[ReplicaRequest], Awaitable[bytes | None]]] = attrs.Factory(dict)
    """What it does instead; None: then as usual."""
    becomes: Holding = Holding.HELD
    """What it says at once of what it is to hold."""
    shows: Callable[[Cid], str] = lambda _cid: "passed"
    """Outcome of a challenge for a content."""
    done: list[tuple[ReplicaAsk, Cid, PeerId | None]] = attrs.Factory(list)

    async def answer(self, request: ReplicaRequest) -> bytes:
        if request.ask in self.on and (said := await self.on[request.ask](request)) is not None:
            return said
        for cid in request.contents if request.ask is not ReplicaAsk.STATUS else ():
            self.done.append((request.ask, cid, request.source))
            if request.ask is ReplicaAsk.KEEP:
                self.holdings[cid] = Holding.BOUND
            elif request.ask is ReplicaAsk.RELEASE:
                self.holdings[cid] = Holding.NAMED
            else:
                self.holdings[cid] = self.becomes
        return self.say([self.holdings.get(cid, self.rest) for cid in request.contents])

    def say(self, holdings: Iterable[Holding]) -> bytes:
        return record.to_bytes(
            ReplicaResponse(
                holdings=tuple(holdings),
                quota_bytes=U64(self.quota_bytes),
                free_bytes=U64(self.free_bytes),
                target=U16(self.target),
            )
        )


def refusing(rule: str, code: ErrorCode = ErrorCode.BUSY) -> Callable[[ReplicaRequest], Awaitable[bytes | None]]:
    async def refuse(_request: ReplicaRequest) -> bytes | None:
        raise Refused(code, "no", rule=rule)

    return refuse


def late(seconds: float) -> Callable[[ReplicaRequest], Awaitable[bytes | None]]:
    """It does as usual, after a while."""

    async def wait(_request: ReplicaRequest) -> None:
        await trio.sleep(seconds)  # virtual: whoever uses this has the autojump clock

    return wait


class KeeperNode:
    """Made by ``keeper_node``; ``others`` are the storage nodes that it is linked with."""

    def __init__(self, chain: LedgerChain, config: ReplicasConfig, role: Role, quota_bytes: int) -> None:
        self.chain = chain
        self.others: dict[PeerId, Keeper] = {}
        self.hellos: dict[PeerId, Any] = {}
        self.asked: list[tuple[PeerId, ReplicaAsk, tuple[Cid, ...]]] = []
        self.blamed: list[tuple[PeerId, Offence]] = []
        self.challenged: Counter[tuple[PeerId, Cid]] = Counter()
        self.in_dht: dict[ContentHash, list[PeerId]] = {}
        self.suspected: dict[PeerId, list[str]] = {}
        self.peer_id, self.gate = ME, self
        self.config = config
        self.table = ContentTable(chain.home)
        self.own = OwnContent(chain.home)
        self.clock = Clock(lambda: GENESIS_TIME_MS + int(trio.current_time() * 1_000))
        self.holdings = Holdings(
            HoldingParts(
                config=config, quota_bytes=quota_bytes, role=role, own_id=ME, ledger=chain.ledger,
                peering=cast(Peering, SimpleNamespace(hellos=self.hellos)), blobs=chain.blobs, table=self.table,
                own=self.own, clock=self.clock,
            )
        )  # fmt: skip
        self.asker = ReplicaAsker(cast(DistributedNetwork, self), self.holdings)

    def link(self, *keepers: Keeper) -> list[PeerId]:
        """More storage nodes; their ids."""
        new = [peer(len(self.others) + place) for place in range(len(keepers))]
        for peer_id, keeper in zip(new, keepers, strict=True):
            self.others[peer_id] = keeper
            self.hellos[peer_id] = SimpleNamespace(role=Role.STORAGE)
        return new

    def name(self, *numbers: int, here: bool = False, ago_ms: int = 0) -> list[Cid]:
        """The world names these; ``here``: and this node keeps them."""
        sizes = {named(number): len(data_of(number)) for number in numbers}
        self.table.name(sizes.items(), self.clock.wall_ms() - ago_ms)
        if here:
            self.chain.blobs.put_many(map(data_of, numbers))
            self.table.mark_have(sizes)
        elif sizes:
            self.table.leave(sizes)
        return list(sizes)

    def row(self, cid: Cid) -> Content:
        row = self.table.get(cid)
        assert row is not None
        return row

    def state(self, cid: Cid) -> ContentState:
        return self.row(cid).state

    def says(self, cid: Cid) -> Holding:
        (holding,) = self.holdings.answer([cid]).holdings
        return holding

    def blame(self, peer: PeerId, offence: Offence) -> None:
        """Of the gate."""
        self.blamed.append((peer, offence))

    async def request(self, peer: PeerId, method: str, payload: bytes) -> bytes:
        """Of the network."""
        assert method == rpc.REPLICA
        request = record.from_bytes(ReplicaRequest, payload, size_max=RPC_INLINE_BYTES_MAX)
        self.asked.append((peer, request.ask, request.contents))
        await trio.lowlevel.checkpoint()
        return await self.others[peer].answer(request)

    async def challenge(self, peer: PeerId, cid: Cid) -> dict[str, Any]:
        """Of the challenger."""
        self.challenged[peer, cid] += 1
        await trio.lowlevel.checkpoint()
        return {"outcome": self.others[peer].shows(cid)}

    @asynccontextmanager
    async def providers(self, contents: Sequence[ContentHash]) -> AsyncIterator[list[PeerId]]:
        """Of the DHT."""
        yield [peer for content in contents for peer in self.in_dht.get(content, [])]

    def outside(self, random: Any) -> Outside:
        return Outside(
            describe=lambda peer: ProviderRecord(provider_id=peer, last_seen_ms=0),
            suspects=lambda peer: self.suspected.get(peer, ()),
            challenge=self.challenge,
            providers=self.providers,
            random=random,
        )

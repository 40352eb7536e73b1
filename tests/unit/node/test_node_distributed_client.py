"""T-3.7, T-3.9, T-3.12: providers of the DHT are asked one after the other, best first, and nobody else is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest

from agent_world.crypto.hashing import content_hash
from agent_world.distfs.distribution import DistributionPolicy
from agent_world.distfs.providers import ProviderRecord
from agent_world.errors import ErrorCode, Refused
from agent_world.net.memory import InMemoryNetwork
from agent_world.node.distributed_client import DistributedClient
from agent_world.testing.stack import make_key
from agent_world.wire import record, rpc
from agent_world.wire.blob import FetchBlobRequest, FetchBlobResponse
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import PeerId, peer_id_of

DATA = b"content"
HASH = content_hash(DATA)


class FakeDht:
    """Names providers; they are connected already."""

    def __init__(self) -> None:
        self.named: dict[ContentHash, Sequence[PeerId]] = {}

    async def find_providers(self, content: Cid, *, timeout_s: float) -> Sequence[PeerId]:
        return self.named.get(content.digest, ())

    def addresses(self, _peer: PeerId) -> tuple[str, ...]:
        return ()


class Rig:
    def __init__(self, hub: InMemoryNetwork) -> None:
        self.own = hub.node(peer_id_of(make_key("client").public_key))
        self.dht = FakeDht()
        self.asked: list[str] = []
        self.uptime: dict[PeerId, int] = {}
        self.peers: dict[str, PeerId] = {}
        self.client = DistributedClient(self.own, self.dht, self.describe)  # type: ignore[arg-type]

    def describe(self, peer: PeerId) -> ProviderRecord:
        return ProviderRecord(provider_id=peer, last_seen_ms=0, uptime_ratio_per_mille=self.uptime.get(peer))


@asynccontextmanager
async def rig(**answers: bytes | ErrorCode) -> AsyncIterator[Rig]:
    """Providers by name with what each answers; in the order given each has a higher uptime."""
    hub = InMemoryNetwork(Random(1))
    async with hub.open():
        made = Rig(hub)
        for place, (name, answer) in enumerate(answers.items()):
            node = hub.node(peer_id_of(make_key(name).public_key))

            def serve(_peer: PeerId, data: bytes, name: str = name, answer: bytes | ErrorCode = answer) -> bytes:
                made.asked.append(name)
                record.from_bytes(FetchBlobRequest, data, size_max=100)
                if isinstance(answer, ErrorCode):
                    raise Refused(answer, "no")
                return record.to_bytes(FetchBlobResponse(content_hash=HASH, blob=answer))

            async def handle(peer: PeerId, data: bytes, serve=serve) -> bytes:  # type: ignore[no-untyped-def]
                result: bytes = serve(peer, data)
                return result

            node.serve(rpc.FETCH_BLOB, handle)
            made.own.dial(node.peer_id, node.listen_addresses()[0])
            made.peers[name] = node.peer_id
            made.uptime[node.peer_id] = 100 * place
        made.dht.named[HASH] = [*made.peers.values(), made.own.peer_id]
        yield made


async def test_the_best_provider_is_asked_first_and_alone_if_it_gives_it(autojump_clock: object) -> None:
    async with rig(worst=DATA, best=DATA) as made:
        assert await made.client.fetch_blob_from_dht(HASH, 0) == DATA
        assert made.asked == ["best"]


async def test_a_provider_that_fails_or_lies_is_followed_by_the_next(autojump_clock: object) -> None:
    async with rig(honest=DATA, liar=b"other", gone=ErrorCode.NOT_FOUND) as made:
        assert await made.client.fetch_blob_from_dht(HASH, 0) == DATA
        assert made.asked == ["gone", "liar", "honest"]
        assert made.client.counters["client.provider_failed"] == 2


async def test_without_a_provider_nobody_is_asked(autojump_clock: object) -> None:
    async with rig(other=DATA) as made:
        made.dht.named = {}
        with pytest.raises(Refused, match="names no provider"):
            await made.client.fetch_blob_from_dht(HASH, 0)
        assert made.asked == []


async def test_when_all_fail_the_last_error_is_told(autojump_clock: object) -> None:
    async with rig(one=ErrorCode.BUSY, two=ErrorCode.NOT_FOUND) as made:
        with pytest.raises(Refused) as caught:
            await made.client.fetch_blob_from_dht(HASH, 0)
        assert (caught.value.code, made.asked) == (ErrorCode.BUSY, ["two", "one"])
    async with rig(liar=b"other") as made:
        with pytest.raises(Refused) as caught:
            await made.client.fetch_blob_from_dht(HASH, 0)
        assert caught.value.code is ErrorCode.INVALID_HASH


async def test_several_contents_are_fetched_only_if_they_are_spread_as_asked(autojump_clock: object) -> None:
    async with rig(one=DATA, two=DATA) as made:
        assert await made.client.fetch_blobs_from_dht([HASH, HASH], 0, DistributionPolicy()) == {HASH: DATA}
        made.asked.clear()
        made.dht.named[HASH] = [made.peers["one"]]
        with pytest.raises(Refused, match="1 providers, 2 are required"):
            await made.client.fetch_blobs_from_dht([HASH], 0, DistributionPolicy())
        assert made.asked == []
        assert await made.client.fetch_blobs_from_dht([HASH], 0) == {HASH: DATA}

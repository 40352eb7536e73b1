"""T-3.7, T-3.9, T-3.10, T-3.12: providers of the DHT are asked one after the other, best first, and nobody else is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio

from agent_world.crypto.hashing import content_hash
from agent_world.distfs.distribution import DistributionPolicy
from agent_world.distfs.providers import ProviderRecord
from agent_world.errors import ErrorCode, Refused
from agent_world.net.memory import InMemoryNetwork
from agent_world.node.counters import Counters
from agent_world.node.distributed_client import DistributedClient
from agent_world.node.fetch import BlobFetcher
from agent_world.node.provider_search import ProviderSearch
from agent_world.testing.stack import make_key
from agent_world.wire import record, rpc
from agent_world.wire.blob import (
    BlobRef,
    FetchBlobRequest,
    FetchBlobResponse,
    FetchBlobsRequest,
    FetchBlobsResponse,
)
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import U64, Label, PeerId, peer_id_of
from agent_world.wire.module import (
    GetModuleArtifactRequest,
    GetModuleArtifactResponse,
    GetModuleManifestRequest,
    GetModuleManifestResponse,
)

DATA = b"content"
HASH = content_hash(DATA)
Handler = Callable[[PeerId, bytes], Awaitable[bytes]]


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
        search = ProviderSearch(self.own, lambda _peer: True)
        search.join(self.dht)  # type: ignore[arg-type]
        self.hub = hub
        self.fetcher = BlobFetcher(self.own, Counters())
        self.client = DistributedClient(self.own, search, self.fetcher, self.describe)

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
        assert made.client.counters["sources.provider_failed"] == 2


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


async def test_neighbours_come_first_and_the_dht_is_asked_for_the_rest_alone(autojump_clock: object) -> None:
    async with rig(neighbour=DATA, far=DATA) as made:
        near, rest = content_hash(b"near"), content_hash(b"far")
        blobs = {"neighbour": {near: b"near"}, "far": {near: b"near", rest: b"far"}}
        wanted: list[tuple[str, int]] = []

        def serving(name: str) -> Handler:
            async def serve(_peer: PeerId, data: bytes) -> bytes:
                hashes = record.from_bytes(FetchBlobsRequest, data, size_max=999).content_hashes
                wanted.append((name, len(hashes)))
                return record.to_bytes(FetchBlobsResponse(blobs=tuple(blobs[name].get(each) for each in hashes)))

            return serve

        for name in blobs:
            made.hub.node(made.peers[name]).serve(rpc.FETCH_BLOBS, serving(name))
        made.fetcher.order = lambda _connected: [made.peers["neighbour"]]
        made.dht.named[rest] = [made.peers["far"]]
        await trio.sleep(1)  # until both are connected
        assert await made.client.fetch([near, rest, near]) == {near: b"near", rest: b"far"}
        assert wanted == [("neighbour", 2), ("neighbour", 1), ("far", 1)]
        assert await made.client.fetch([content_hash(b"nobody")]) == {}
        assert await made.client.fetch_far([]) == {}


def registered(content: bytes, told: bytes | None = None) -> bytes:
    """A provider's answer about a module whose manifest or program is ``content``; it names the blob ``told``."""
    ref = BlobRef(content=Cid(Codec.RAW, content_hash(told or content)), size_bytes=U64(len(content)))
    return record.to_bytes(GetModuleManifestResponse(manifest_ref=ref))


async def test_a_modules_manifest_comes_from_a_provider_that_has_it_registered(autojump_clock: object) -> None:
    """T-3.10: directed at whom the DHT names; who knows no such module or names another blob is passed over."""
    async with rig(good=DATA, liar=DATA, ignorant=DATA) as made:
        said: list[tuple[str, Label]] = []

        def serving(name: str) -> Handler:
            async def serve(_peer: PeerId, data: bytes) -> bytes:
                request = record.from_bytes(GetModuleManifestRequest, data, size_max=999)
                said.append((name, request.module_id))
                if name == "ignorant":
                    raise Refused(ErrorCode.NOT_FOUND, "no", rule="M1")
                return registered(DATA, b"another" if name == "liar" else None)

            return serve

        for name, peer in made.peers.items():
            made.hub.node(peer).serve(rpc.GET_MODULE_MANIFEST, serving(name))
        assert await made.client.fetch_module_manifest_from_dht(Label("weather"), HASH, 0) == DATA
        assert said == [("ignorant", "weather"), ("liar", "weather"), ("good", "weather")]
        assert made.asked == ["good"]
        made.dht.named = {}
        with pytest.raises(Refused, match="names no provider"):
            await made.client.fetch_module_manifest_from_dht(Label("weather"), HASH, 0)
        assert len(said) == 3


async def test_a_modules_program_is_asked_for_by_its_hash(autojump_clock: object) -> None:
    async with rig(one=DATA) as made:

        async def serve(_peer: PeerId, data: bytes) -> bytes:
            assert record.from_bytes(GetModuleArtifactRequest, data, size_max=999).wasm_hash == HASH
            ref = BlobRef(content=Cid(Codec.RAW, HASH), size_bytes=U64(len(DATA)))
            return record.to_bytes(GetModuleArtifactResponse(artifact_ref=ref))

        made.hub.node(made.peers["one"]).serve(rpc.GET_MODULE_ARTIFACT, serve)
        assert await made.client.fetch_module_artifact_from_dht(HASH, 0) == DATA


async def test_a_node_without_a_dht_says_so(autojump_clock: object) -> None:
    async with rig(one=DATA) as made:
        search = ProviderSearch(made.own, lambda _peer: True)
        alone = DistributedClient(made.own, search, made.fetcher, made.describe)
        with pytest.raises(Refused) as caught:
            await alone.fetch_blob_from_dht(HASH, 0)
        assert caught.value.code is ErrorCode.UNSUPPORTED
        assert await alone.fetch_far([HASH]) == {}

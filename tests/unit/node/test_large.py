"""node/large.py and node/transfer.py on the in-memory network: several providers, liars, resumption, ranges."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager

import pytest
import trio

from agent_world.crypto.hashing import content_hash
from agent_world.distfs.manifest import ManifestBuilder, assemble
from agent_world.errors import BlobHashMismatch, BlobNotFound, ErrorCode, Refused
from agent_world.handlers.blob import BlobHandler
from agent_world.net.memory import InMemoryNetwork, LinkSettings
from agent_world.net.memory_node import InMemoryNode
from agent_world.node import transfer
from agent_world.node.counters import Counters
from agent_world.node.fetch import BlobFetcher
from agent_world.node.large import LargeContent
from agent_world.node.storing import at_once
from agent_world.node.transfer import BlobTransfer
from agent_world.wire import rpc
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import PeerId, PublicKey, peer_id_of
from agent_world.wire.limits import BLOB_BYTES_MAX, CHUNK_BYTES

DATA = random.Random(5).randbytes(6 * CHUNK_BYTES + 100)


class Staged:
    def __init__(self, blobs: Mapping[ContentHash, bytes]) -> None:
        self.prepared = blobs

    def write(self) -> Iterator[None]:
        yield None


class Hold(contextlib.AbstractContextManager["Hold"]):
    """Nothing is collected here."""

    def renew(self) -> None:
        pass

    def __exit__(self, *_error: object) -> None:
        pass


class Held(dict[ContentHash, bytes]):
    """What LargeContent asks of a store, in memory."""

    def __init__(self, blobs: Iterable[bytes] = ()) -> None:
        super().__init__((content_hash(blob), blob) for blob in blobs)
        self.batches: list[int] = []
        self.lie: bytes | None = None
        """Served instead of every blob."""

    def put(self, data: bytes) -> ContentHash:
        return self.put_many([data])[0]

    def put_many(self, blobs: Iterable[bytes]) -> tuple[ContentHash, ...]:
        hashed = [(content_hash(blob), blob) for blob in blobs]
        self.update(hashed)
        self.batches.append(len(hashed))
        return tuple(digest for digest, _ in hashed)

    def stage(self, blobs: Mapping[ContentHash, bytes], *, verified: bool) -> Staged:
        assert verified, "hashed a second time"
        return Staged(blobs)

    def commit(self, prepared: Mapping[ContentHash, bytes]) -> frozenset[ContentHash]:
        self.put_many(prepared.values())
        return frozenset()

    def hold(self) -> Hold:
        return Hold()

    def get_blob(self, digest: ContentHash) -> bytes:
        if digest not in self:
            raise BlobNotFound(digest.hex())
        return self[digest]

    def find_blobs(self, hashes: Iterable[ContentHash]) -> list[bytes | None]:
        return [self.lie or dict.get(self, digest) for digest in hashes]

    def has_many(self, hashes: Iterable[ContentHash]) -> frozenset[ContentHash]:
        return frozenset(digest for digest in hashes if digest in self)

    def stat(self, digest: ContentHash) -> object:
        blob = self[digest]

        class Stat:
            size_bytes = len(blob)

        return Stat()


class Store:
    """Held with ``get`` as a store has it, which dict has differently."""

    def __init__(self, held: Held) -> None:
        self._held = held

    def __getattr__(self, name: str) -> object:
        return self._held.get_blob if name == "get" else getattr(self._held, name)


def blobs_of(data: bytes) -> tuple[Cid, list[bytes]]:
    builder = ManifestBuilder()
    made = [*builder.add(data), *builder.finish()]
    return made[-1][0], [blob for _, blob in made]


CID, BLOBS = blobs_of(DATA)


class Swarm:
    def __init__(self, hub: InMemoryNetwork, own: InMemoryNode, others: list[tuple[InMemoryNode, Held]]) -> None:
        self.hub, self.own, self.others = hub, own, others
        self.peers = [node.peer_id for node, _ in others]
        self.held, self.counters = Held(), Counters()
        self.transfer = BlobTransfer(own, self.counters)
        self.large = LargeContent(Store(self.held), self.transfer)  # type: ignore[arg-type]
        self.large.aside = at_once

    async def read(self, start: int = 0, end: int = 2**64, peers: list[PeerId] | None = None) -> bytes:
        parts = self.large.read(CID, start, end, self.peers if peers is None else peers)
        return b"".join([part async for part in parts])


@asynccontextmanager
async def swarm(*held: list[bytes]) -> AsyncIterator[Swarm]:
    """One node with nothing, connected with a node for each list of blobs."""
    hub = InMemoryNetwork(random.Random(1), LinkSettings(delay_min_s=0.001, delay_max_s=0.002))
    async with hub.open():
        own, *others = (hub.node(peer_id_of(PublicKey(bytes([number]) * 32))) for number in range(len(held) + 1))
        stores = [Held(blobs) for blobs in held]
        for node, store in zip(others, stores, strict=True):
            handler = BlobHandler(store)
            node.serve(rpc.FETCH_BLOBS, handler.serve_blobs)
            node.serve_body(rpc.STREAM_BLOBS, handler.stream_blobs)
            own.dial(node.peer_id, node.listen_addresses()[0])
        await trio.sleep(1)
        yield Swarm(hub, own, list(zip(others, stores, strict=True)))


async def stream(data: bytes, step: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), step):
        yield data[start : start + step]


@pytest.mark.parametrize("step", [1000, CHUNK_BYTES, len(DATA)])
async def test_import_makes_the_manifest_of_the_bytes(step: int) -> None:
    held = Held()
    large = LargeContent(Store(held), BlobTransfer(None, Counters()))  # type: ignore[arg-type]
    stored = await large.store(stream(DATA, step))
    assert (stored.cid, stored.size_bytes) == (CID, len(DATA))
    assert b"".join(assemble(CID, lambda cid: held[cid.digest])) == DATA


@pytest.mark.parametrize("size", [0, 1, BLOB_BYTES_MAX, BLOB_BYTES_MAX + 1])
async def test_up_to_one_blob_it_is_a_blob(size: int) -> None:
    large = LargeContent(Store(Held()), BlobTransfer(None, Counters()))  # type: ignore[arg-type]
    stored = await large.store(stream(bytes(size), 70_000))
    assert (stored.cid.codec is Codec.RAW) is (size <= BLOB_BYTES_MAX)
    assert stored.size_bytes == size
    assert await large.size(stored.cid, []) == size


async def test_a_file_from_peers_that_have_parts_of_it(autojump_clock: object) -> None:
    async with swarm(BLOBS[::2], BLOBS[1::2], []) as one:
        pulled = await one.large.pull(CID, one.peers)
        assert (pulled.missing, pulled.size_bytes) == (0, len(DATA))
        assert await one.read(peers=[]) == DATA


async def test_a_liar_among_them_costs_nothing_but_its_share(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "SHARE_MIN", 1)  # so that everybody is asked for something
    async with swarm(BLOBS, BLOBS) as one:
        one.others[0][1].lie = b"other bytes"
        assert (await one.large.pull(CID, one.peers)).missing == 0
        assert one.counters["transfer.wrong_bytes"] > 0
        assert all(content_hash(blob) == digest for digest, blob in one.held.items())


async def test_only_what_is_missing_is_asked_for(autojump_clock: object) -> None:
    async with swarm(BLOBS) as one:
        one.held.put_many(BLOBS[:4])
        await one.large.pull(CID, one.peers)
        assert one.counters["transfer.blobs"] == len(BLOBS) - 4
        await one.large.pull(CID, one.peers)
        assert one.counters["transfer.blobs"] == len(BLOBS) - 4


async def test_what_nobody_gives_is_told_and_the_rest_is_kept(autojump_clock: object) -> None:
    async with swarm([*BLOBS[:2], *BLOBS[3:]]) as one:
        assert (await one.large.pull(CID, one.peers)).missing == 1
        assert await one.read(0, CHUNK_BYTES) == DATA[:CHUNK_BYTES]
        with pytest.raises(Refused) as caught:
            await one.read()
        assert caught.value.code is ErrorCode.NOT_AVAILABLE


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, 1), (CHUNK_BYTES - 1, CHUNK_BYTES + 1), (5, 5), (len(DATA) - 3, 2**64), (2**50, 2**60), (100, len(DATA))],
)
async def test_a_range_brings_its_chunks_and_no_others(autojump_clock: object, start: int, end: int) -> None:
    async with swarm(BLOBS) as one:
        assert await one.read(start, end) == DATA[start:end]
        touched = -(-min(end, len(DATA)) // CHUNK_BYTES) - start // CHUNK_BYTES if start < min(end, len(DATA)) else 0
        assert len(one.held) == 1 + max(0, touched)


async def test_a_peer_that_goes_away_in_the_middle_is_replaced(autojump_clock: object) -> None:
    async with swarm(BLOBS, BLOBS) as one:
        one.hub.set_link(one.own.peer_id, one.peers[0], LinkSettings(connection_loss=1.0))
        assert (await one.large.pull(CID, one.peers)).missing == 0


async def test_only_the_named_providers_are_asked(autojump_clock: object) -> None:
    """K-1.2: somebody else who has it is no help."""
    async with swarm([], BLOBS) as one:
        with pytest.raises(Refused) as caught:
            await one.large.pull(CID, one.peers[:1])
        assert caught.value.code is ErrorCode.NOT_AVAILABLE
        fetcher = BlobFetcher(one.own, Counters())
        wanted = [content_hash(blob) for blob in BLOBS]
        for providers in ([one.peers[0]], [], [peer_id_of(PublicKey(b"\xee" * 32))]):
            with pytest.raises(Refused) as caught:
                await fetcher.fetch_from(providers, wanted)
            assert caught.value.code is ErrorCode.NOT_AVAILABLE
        assert one.others[1][0].counters().get("request_served", 0) == 0
        assert one.others[1][0].counters().get("body_served", 0) == 0
        assert len(await fetcher.fetch_from([one.peers[1]], wanted)) == len(wanted)


async def test_a_damaged_chunk_is_fetched_again(autojump_clock: object) -> None:
    async with swarm(BLOBS) as one:
        await one.large.pull(CID, one.peers)
        damaged = {content_hash(BLOBS[1])}
        get = one.held.get_blob

        def get_blob(digest: ContentHash) -> bytes:
            if digest in damaged:
                damaged.discard(digest)
                del one.held[digest]
                raise BlobHashMismatch("in quarantine")
            return get(digest)

        one.held.get_blob = get_blob  # type: ignore[method-assign]
        assert await one.read() == DATA
        assert not damaged
        assert one.counters["transfer.blobs"] == len(BLOBS) + 1

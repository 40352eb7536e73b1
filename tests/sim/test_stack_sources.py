"""Stack tier: whom nodes ask first, and content that only somebody has whom no node of the world knows."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio

from agent_world.crypto.hashing import cid_of, content_hash
from agent_world.distfs.manifest import ManifestBuilder
from agent_world.handlers.blob import BlobHandler
from agent_world.net.interface import RequestHandler
from agent_world.net.memory_node import InMemoryNode
from agent_world.node.views import NodeViews
from agent_world.store.content import ContentState
from agent_world.testing.stack import Stack, make_key, open_stack, specs
from agent_world.testing.stack_actions import applied, create, found_people
from agent_world.wire import rpc
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import PeerId, peer_id_of
from agent_world.wire.limits import CHUNK_BYTES, MIB

SWARM = specs(validators=3, storage=1, observers=1)


class Shelf:
    """Content of a provider; satisfies ``handlers.views.BlobView``."""

    def __init__(self, *blobs: bytes) -> None:
        self.blobs = {content_hash(blob): blob for blob in blobs}

    def find_blobs(self, hashes: list[ContentHash]) -> list[bytes | None]:
        return [self.blobs.get(item) for item in hashes]


async def provider(stack: Stack, content: Cid, shelf: Shelf) -> InMemoryNode:
    """Somebody outside of the swarm, who says no hello, and whom the DHT names."""
    node = stack.hub.node(peer_id_of(make_key("provider").public_key))
    handler = BlobHandler(shelf)  # type: ignore[arg-type]
    node.serve(rpc.FETCH_BLOBS, handler.serve_blobs)
    node.serve_body(rpc.STREAM_BLOBS, handler.stream_blobs)
    dht = stack.dht.node(node.peer_id)
    await dht.provide(content)
    dht.learned(node.peer_id, node.listen_addresses()[0])
    return node


async def name_content(stack: Stack, content: Cid, size_bytes: int) -> None:
    await applied(stack, "v1", stack.submit("v1", make_key("alice"), create("thing", content, size_bytes)))


def state_of(stack: Stack, content: Cid) -> ContentState | None:
    found = stack.node("s1").content.get(content)
    return None if found is None else found.state


def is_linked(stack: Stack, name: str, peer: PeerId) -> bool:
    return stack.hub.is_connected(stack.members[name].peer_id, peer)


async def test_storage_pulls_from_a_provider_that_nobody_is_linked_with(tmp_path: Path, autojump_clock: object) -> None:
    data = b"a poem"
    content = cid_of(data, Codec.RAW)
    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        stranger = await provider(stack, content, Shelf(data))
        await name_content(stack, content, len(data))
        await stack.until(lambda: state_of(stack, content) is ContentState.HAVE, "it is pulled")
        assert stack.node("s1").blobs.get(content.digest) == data
        await stack.until(lambda: not is_linked(stack, "s1", stranger.peer_id), "the provider is let go")
        await trio.sleep(20)
        assert not is_linked(stack, "s1", stranger.peer_id)
        counters = stack.counters("s1")
        assert counters["storage.sought_found"] == 1
        assert counters["sources.found"] >= 1
        assert counters["sources.given_back"] >= 1


@pytest.mark.parametrize("manifest_is_near", [False, True])
async def test_a_file_whose_chunks_only_a_provider_has(
    tmp_path: Path, autojump_clock: object, manifest_is_near: bool
) -> None:
    builder, shelf = ManifestBuilder(), Shelf()
    data = random.Random(1).randbytes(2 * MIB)
    made = [*builder.add(data), *builder.finish()]
    shelf.blobs = {cid.digest: blob for cid, blob in made}
    content = made[-1][0]
    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        await provider(stack, content, shelf)
        if manifest_is_near:
            stack.node("v2").blobs.put(shelf.blobs[content.digest])
        await name_content(stack, content, len(data))
        store = stack.node("s1").blobs
        await stack.until(lambda: all(store.has(digest) for digest in shelf.blobs), "manifest and chunks are here")
        assert len(shelf.blobs) == 2 * MIB // CHUNK_BYTES + 1
        assert state_of(stack, content) is ContentState.HAVE
        # What the DHT was asked for is the file; its chunks are provided by nobody.
        assert stack.counters("s1")["sources.searches"] <= 3


@pytest.mark.parametrize("shelf", [Shelf(b"a lie"), Shelf()])
async def test_a_provider_without_the_content_stalls_nothing(
    tmp_path: Path, autojump_clock: object, shelf: Shelf
) -> None:
    content = cid_of(b"a poem", Codec.RAW)
    if shelf.blobs:
        shelf.blobs = {content.digest: b"a lie"}
    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        await provider(stack, content, shelf)
        await name_content(stack, content, 6)
        await stack.until(lambda: state_of(stack, content) is ContentState.UNAVAILABLE, "it is given up for now")
        await stack.until(lambda: stack.counters("s1").get("sources.found", 0) >= 1, "the provider was asked")
        kept = NodeViews(stack.node("v1")).put_blob(b"kept")
        await applied(stack, "v1", stack.submit("v1", make_key("alice"), create("kept", kept, 4)))
        await stack.until(lambda: state_of(stack, kept) is ContentState.HAVE, "other content is pulled")
        if shelf.blobs:
            assert stack.counters("s1")["fetch.wrong_bytes.L4"] >= 1
        assert not stack.node("s1").blobs.has(content.digest)


async def test_catch_up_asks_storage_nodes_that_have_signed_to_keep_the_height(
    tmp_path: Path, autojump_clock: object
) -> None:
    asked: list[str] = []

    def tap(stack: Stack, name: str) -> None:
        async def counted(handler: RequestHandler, peer: PeerId, request: bytes) -> bytes:
            if peer == stack.members["o1"].peer_id:
                asked.append(name)
            return await handler(peer, request)

        stack.network(name).lie(rpc.GET_BLOCKS, counted)

    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        others = ("v1", "v2", "v3", "s1")
        keepers = stack.node("o1").sources.keepers
        await stack.until(
            lambda: all(keepers.of(peer) for peer in stack.peers(*others)),
            "records are read",
        )
        for name in others:
            tap(stack, name)
        stack.hub.partition(stack.peers(*others), stack.peers("o1"))
        await stack.until_height(stack.node("o1").ledger.height + 20, *others)
        stack.hub.heal()
        await stack.until_height(stack.top(), "o1")
        assert asked
        await stack.until(lambda: len(stack.network("o1").peers()) == len(others), "all are linked again")
        # Which of them is linked again first is chance; once all are, the order is not.
        (keeper,) = stack.peers("s1")
        assert stack.node("o1").catch_up.order(stack.top(), stack.peers(*others))[0] == keeper
        # It is a preference: without the storage node the others do.
        await stack.stop("s1")
        stack.hub.partition(stack.peers("v1", "v2", "v3"), stack.peers("o1"))
        await stack.until_height(stack.node("o1").ledger.height + 10, "v1", "v2", "v3")
        stack.hub.heal()
        await stack.until_height(stack.top(), "o1")
        assert {"v1", "v2", "v3"} & set(asked)


async def test_content_is_asked_of_storage_nodes_first_and_of_neighbours_only(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        node, storage = stack.node("o1"), stack.members["s1"].peer_id
        await stack.until(lambda: len(node.peering.hellos) == 4, "hellos")
        visitor = stack.hub.node(peer_id_of(make_key("visitor").public_key))
        visitor.dial(stack.members["o1"].peer_id, stack.network("o1").listen_addresses()[0])
        await stack.until(lambda: is_linked(stack, "o1", visitor.peer_id), "a visitor")
        ordered = node.fetcher.peers()
        assert ordered[0] == storage, "by its hello, as long as its record is not read"
        assert sorted(ordered) == sorted(stack.peers("v1", "v2", "v3", "s1"))
        await stack.until(lambda: node.sources.keepers.of(storage) is not None, "its record")
        assert node.fetcher.peers()[0] == storage
        assert stack.node("v1").fetcher.peers()[0] == storage

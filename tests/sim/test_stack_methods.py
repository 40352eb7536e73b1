"""Stack tier: files of many chunks, and every request method answered with what the node holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent_world.crypto.hashing import hash32
from agent_world.errors import ErrorCode, Refused
from agent_world.node.views import NodeViews
from agent_world.store.content import ContentState
from agent_world.testing.stack import WORLD_ID, Stack, make_key, open_stack, specs
from agent_world.testing.stack_actions import applied, create, found_people
from agent_world.wire import record, rpc
from agent_world.wire.blob import FetchBlobsRequest, FetchBlobsResponse
from agent_world.wire.block import (
    GetJournalSegmentRequest,
    GetJournalSegmentResponse,
    GetReceiptSegmentRequest,
    GetReceiptSegmentResponse,
    JournalSegment,
    ReceiptList,
)
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import U64, Label, peer_id_of
from agent_world.wire.limits import CHUNK_BYTES, RPC_BODY_BYTES_MAX
from agent_world.wire.module import GetModuleArtifactRequest, GetModuleManifestRequest
from agent_world.wire.snapshot import GetSnapshotRequest, SnapshotManifest
from agent_world.world.snapshot import open_pack
from agent_world.world.state import WorldState
from agent_world.world.trie import Blobs

FILM = Random(3).randbytes(9 * CHUNK_BYTES + 1)


async def film() -> AsyncIterator[bytes]:
    for start in range(0, len(FILM), 100_000):
        yield FILM[start : start + 100_000]


async def create_film(stack: Stack, size_bytes: int) -> Any:
    stored = await NodeViews(stack.node("v3")).put_content(film())
    action = stack.submit("v1", make_key("alice"), create("film", stored.cid, size_bytes))
    await applied(stack, "v1", action)
    return stored.cid


async def test_the_storage_role_pulls_a_file_whole(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=3, storage=1)) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        cid = await create_film(stack, len(FILM))
        node = stack.node("s1")

        def is_here() -> bool:
            found = node.content.get(cid)
            return found is not None and found.state is ContentState.HAVE

        await stack.until(is_here, "the manifest is here")
        await stack.until(lambda: stack.counters("s1").get("storage.files", 0) == 1, "the file is here")
        parts = [part async for part in NodeViews(node).read_content(cid, 0, 2**64, [])]
        assert b"".join(parts) == FILM
        assert stack.counters("s1")["transfer.blobs"] == 10
        parts = [
            part async for part in NodeViews(stack.node("v2")).read_content(cid, CHUNK_BYTES - 1, CHUNK_BYTES + 1, [])
        ]
        assert b"".join(parts) == FILM[CHUNK_BYTES - 1 : CHUNK_BYTES + 1]
        nobody = peer_id_of(make_key("nobody").public_key)
        with pytest.raises(Refused) as caught:
            await NodeViews(stack.node("v1")).content_size(cid, [nobody])
        assert caught.value.code is ErrorCode.NOT_AVAILABLE, "a named provider is not replaced by another"


async def test_a_file_of_another_size_than_stated_is_refused(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=3, storage=1)) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        cid = await create_film(stack, len(FILM) - 1)

        def state() -> ContentState | None:
            found = stack.node("s1").content.get(cid)
            return None if found is None else found.state

        await stack.until(lambda: state() is ContentState.UNAVAILABLE, "it is given up")
        found = stack.node("s1").content.get(cid)
        assert found is not None
        assert f"it has {len(FILM)}" in found.last_error


async def ask(stack: Stack, method: str, request: Any, kind: type) -> Any:
    answer = await stack.network("v2").request(stack.peers("v1")[0], method, record.to_bytes(request))
    return record.from_bytes(kind, answer, size_max=RPC_BODY_BYTES_MAX)


async def blobs(stack: Stack, *hashes: ContentHash) -> tuple[bytes, ...]:
    request = FetchBlobsRequest(content_hashes=hashes)
    found = (await ask(stack, rpc.FETCH_BLOBS, request, FetchBlobsResponse)).blobs
    assert None not in found, "what an answer names can be fetched"
    return tuple(found)


async def test_a_state_is_handed_over_in_packs(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=3)) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        await stack.until_height(2)
        manifests = []
        for height in (U64(0), U64(2), None):
            request = GetSnapshotRequest(world_id=WORLD_ID, height=height)
            manifest: SnapshotManifest = await ask(stack, rpc.GET_SNAPSHOT, request, SnapshotManifest)
            nodes: Blobs = {}
            for pack in await blobs(stack, *(chunk.content.digest for chunk in manifest.chunks)):
                nodes.update(open_pack(pack))
            state = WorldState(manifest.state_root, nodes.__getitem__)
            for namespace in (Label("system"), Label("rules")):
                list(state.items(namespace))
            if height is not None:
                assert (manifest.height, state.clock.height) == (height, height)
            manifests.append(manifest)
        stored = stack.node("v2").ledger.stored(2)
        assert stored is not None
        assert manifests[1].state_root == stored.header.state_root
        own = await stack.node("v3").snapshots.snapshot(2)
        assert own == manifests[1], "the same on every node"
        with pytest.raises(Refused) as caught:
            await ask(
                stack, rpc.GET_SNAPSHOT, GetSnapshotRequest(world_id=WORLD_ID, height=U64(10**6)), SnapshotManifest
            )
        assert (caught.value.code, caught.value.rule) == (ErrorCode.NOT_FOUND, "T8")


async def test_journal_and_receipts_of_every_height(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=3)) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        events = 0
        for height in range(1, stack.node("v1").ledger.height + 1):
            place = {"world_id": WORLD_ID, "from_event_id": None, "height": U64(height)}
            journal = await ask(
                stack, rpc.GET_JOURNAL_SEGMENT, GetJournalSegmentRequest(**place), GetJournalSegmentResponse
            )
            for data in await blobs(stack, *(segment.content.digest for segment in journal.segments)):
                events += len(record.from_bytes(JournalSegment, data, size_max=2**20).events)
            receipts = await ask(
                stack, rpc.GET_RECEIPT_SEGMENT, GetReceiptSegmentRequest(**place), GetReceiptSegmentResponse
            )
            (data,) = await blobs(stack, receipts.segment.content.digest)
            assert len(data) == receipts.segment.size_bytes
            record.from_bytes(ReceiptList, data, size_max=2**20)
        assert events > 0
        place = {"world_id": WORLD_ID, "from_event_id": U64(1), "height": None}
        first = await ask(stack, rpc.GET_JOURNAL_SEGMENT, GetJournalSegmentRequest(**place), GetJournalSegmentResponse)
        assert first.segments[0].from_event_id == 1


async def test_modules_are_not_found(tmp_path: Path, autojump_clock: object) -> None:
    digest = ContentHash(hash32(b"m"))
    async with open_stack(tmp_path, specs(validators=2)) as stack:
        await stack.start_all()
        await stack.until_height(1)
        for method, request in (
            (rpc.GET_MODULE_MANIFEST, GetModuleManifestRequest(module_id=Label("m"), manifest_hash=digest)),
            (rpc.GET_MODULE_ARTIFACT, GetModuleArtifactRequest(wasm_hash=digest)),
        ):
            with pytest.raises(Refused) as caught:
                await ask(stack, method, request, SnapshotManifest)
            assert caught.value.code is ErrorCode.NOT_FOUND

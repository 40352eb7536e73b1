"""Stack tier: a storage node has a file when it has every chunk; until then it shows how far it is and goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from agent_world.handlers.blob import BlobHandler
from agent_world.node import storing
from agent_world.node.pull_files import FILES_AT_ONCE
from agent_world.node.views import NodeViews
from agent_world.store.content import ContentState
from agent_world.testing.stack import Stack, make_key, open_stack, specs
from agent_world.testing.stack_actions import applied, create, found_people
from agent_world.wire import rpc
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import BLOB_BYTES_MAX, CHUNK_BYTES

SWARM = specs(validators=3, storage=1)
CHUNKS = 9
FIRST_PARTS = 3
"""Chunks that v3 gives before it holds back the rest."""


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "BATCH_BYTES", CHUNK_BYTES)


def film(number: int) -> bytes:
    return Random(number).randbytes(CHUNKS * CHUNK_BYTES)


async def create_film(stack: Stack, number: int) -> Cid:
    """A file of ``CHUNKS`` chunks at v3, named by a committed object."""

    async def parts() -> AsyncIterator[bytes]:
        yield film(number)

    stored = await NodeViews(stack.node("v3")).put_content(parts())
    payload = create(f"film-{number}", stored.cid, stored.size_bytes)
    await applied(stack, "v1", stack.submit("v1", make_key("alice"), payload))
    return stored.cid


class HeldBack:
    """v3 gives the first chunks of each body and no more until it is opened."""

    def __init__(self, stack: Stack) -> None:
        self.opened = trio.Event()
        self._honest = BlobHandler(stack.node("v3")).stream_blobs
        stack.network("v3").serve_body(rpc.STREAM_BLOBS, self._serve)

    async def _serve(self, peer: PeerId, request: bytes) -> AsyncIterator[bytes]:
        given = 0
        async with aclosing(self._honest(peer, request)) as parts:  # type: ignore[type-var]
            async for part in parts:
                if given == FIRST_PARTS:
                    await self.opened.wait()
                given += 1
                yield part


def state_of(stack: Stack, cid: Cid) -> ContentState | None:
    found = stack.node("s1").content.get(cid)
    return None if found is None else found.state


def progress(stack: Stack) -> dict[str, tuple[int, int]]:
    """Bytes here and bytes in all of every file that s1 is fetching."""
    rows: list[dict[str, Any]] = stack.status("s1")["storage"]["files"]
    return {row["cid"]: (row["bytes_here"], row["bytes"]) for row in rows}


async def until_state(stack: Stack, cid: Cid, state: ContentState) -> None:
    await stack.until(lambda: state_of(stack, cid) is state, f"{cid} is {state}")


async def until_here(stack: Stack, cid: Cid, chunks: int) -> None:
    what = (chunks * CHUNK_BYTES, CHUNKS * CHUNK_BYTES)
    await stack.until(lambda: progress(stack).get(str(cid)) == what, f"{chunks} chunks are here")


async def test_a_file_is_here_when_its_last_chunk_is(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        held = HeldBack(stack)
        cid = await create_film(stack, 1)
        await until_here(stack, cid, FIRST_PARTS)
        assert state_of(stack, cid) is ContentState.FETCHING
        held.opened.set()
        await until_state(stack, cid, ContentState.HAVE)
        assert progress(stack) == {}
        assert stack.counters("s1")["storage.files"] == 1
        assert b"".join([part async for part in NodeViews(stack.node("s1")).read_content(cid, 0, 2**64, [])]) == film(1)


async def test_large_files_hold_up_no_other_content(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        HeldBack(stack)
        for number in range(FILES_AT_ONCE + 1):
            await create_film(stack, number)
        await stack.until(lambda: len(progress(stack)) == FILES_AT_ONCE + 1, "all manifests are here")
        small = NodeViews(stack.node("v1")).put_blob(b"small")
        await applied(stack, "v1", stack.submit("v1", make_key("alice"), create("small", small, 5)))
        await until_state(stack, small, ContentState.HAVE)
        assert len(progress(stack)) == FILES_AT_ONCE + 1


async def test_a_restart_goes_on_with_what_is_missing(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        held = HeldBack(stack)
        cid = await create_film(stack, 1)
        await until_here(stack, cid, FIRST_PARTS)
        await stack.stop("s1")
        await stack.start("s1")
        assert state_of(stack, cid) is ContentState.FETCHING
        held.opened.set()
        await until_state(stack, cid, ContentState.HAVE)
        assert stack.counters("s1")["transfer.blobs"] == CHUNKS - FIRST_PARTS


async def test_a_file_that_lost_a_chunk_is_made_whole_again(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        cid = await create_film(stack, 1)
        await until_state(stack, cid, ContentState.HAVE)
        blobs = stack.node("s1").blobs
        chunk = next(digest for digest in blobs.iterate() if blobs.stat(digest).size_bytes == CHUNK_BYTES)
        blobs.delete(chunk)
        await stack.stop("s1")
        await stack.start("s1")
        await stack.until(lambda: stack.counters("s1").get("storage.files") == 1, "it is fetched again")
        assert state_of(stack, cid) is ContentState.HAVE
        assert stack.node("s1").blobs.has(chunk)
        assert stack.counters("s1")["storage.lost"] == 1


async def test_a_chunk_that_nobody_has_ends_as_unavailable_content(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        data = film(1)
        blobs = stack.node("v3").blobs
        cid = await create_film(stack, 1)
        assert len(data) > BLOB_BYTES_MAX
        await until_state(stack, cid, ContentState.HAVE)
        for name in ("s1", "v3"):
            blobs = stack.node(name).blobs
            chunk = next(digest for digest in blobs.iterate() if blobs.stat(digest).size_bytes == CHUNK_BYTES)
            blobs.delete(chunk)
        await stack.stop("s1")
        await stack.start("s1")
        await until_state(stack, cid, ContentState.UNAVAILABLE)
        (row,) = stack.status("s1")["storage"]["unavailable_content"]
        assert row["last_error"] == "1 parts are not here and no connected peer gave them"
        height = stack.top()
        await stack.until_height(height + 2)

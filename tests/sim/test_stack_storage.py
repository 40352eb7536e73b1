"""Stack tier: the storage role pulls what committed blocks link to; nothing waits for what nobody has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from agent_world.crypto.hashing import cid_of, content_hash
from agent_world.net.interface import RequestHandler
from agent_world.node.pull import REOPEN_PAUSE_MS
from agent_world.node.views import NodeViews
from agent_world.store.content import ContentState
from agent_world.testing.stack import Stack, make_key, open_stack, specs
from agent_world.testing.stack_actions import applied, create, found_people
from agent_world.wire import cbor, record, rpc
from agent_world.wire.blob import FetchBlobsRequest, FetchBlobsResponse
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import BLOB_BYTES_MAX, RPC_INLINE_BYTES_MAX

SWARM = specs(validators=3, storage=1)


async def name_content(stack: Stack, object_id: str, content: Cid, size_bytes: int) -> None:
    payload = create(object_id, content, size_bytes)
    await applied(stack, "v1", stack.submit("v1", make_key("alice"), payload))
    await stack.until_height(stack.top())


def state_of(stack: Stack, content: Cid) -> ContentState | None:
    found = stack.node("s1").content.get(content)
    return None if found is None else found.state


async def until_state(stack: Stack, content: Cid, state: ContentState) -> None:
    await stack.until(lambda: state_of(stack, content) is state, f"{content} is {state}")


def storage(stack: Stack) -> dict[str, Any]:
    shown: dict[str, Any] = stack.status("s1")["storage"]
    return shown


async def test_content_is_pulled_from_whoever_has_it(tmp_path: Path, autojump_clock: object) -> None:
    data = b"a poem" * 5000
    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        content = NodeViews(stack.node("v3")).put_blob(data)
        await name_content(stack, "poem", content, len(data))
        await until_state(stack, content, ContentState.HAVE)
        assert stack.node("s1").blobs.get(content.digest) == data
        assert not stack.node("v2").blobs.has(content.digest)
        assert storage(stack)["have"] == 1
        assert storage(stack)["walked_height"] >= 2


async def test_what_nobody_has_is_marked_and_stalls_nothing(tmp_path: Path, autojump_clock: object) -> None:
    lost = cid_of(b"burnt", Codec.RAW)
    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        await name_content(stack, "lost", lost, 5)
        await until_state(stack, lost, ContentState.UNAVAILABLE)
        assert stack.counters("s1")["storage.wanted"] == stack.config.storage.pull_attempts_max - 1
        assert storage(stack)["unavailable_content"] == [{"cid": str(lost), "last_error": "no connected peer has it"}]
        content = NodeViews(stack.node("v1")).put_blob(b"kept")
        await name_content(stack, "kept", content, 4)
        await until_state(stack, content, ContentState.HAVE)
        await stack.until_height(stack.top() + 2)


async def test_content_that_turns_up_later_is_pulled_when_a_peer_comes(tmp_path: Path, autojump_clock: object) -> None:
    data = b"late"
    async with open_stack(tmp_path, specs(validators=3, storage=1, observers=1)) as stack:
        for name in ("v1", "v2", "v3", "s1"):
            await stack.start(name)
        await found_people(stack, "v1")
        content = cid_of(data, Codec.RAW)
        await name_content(stack, "late", content, len(data))
        await until_state(stack, content, ContentState.UNAVAILABLE)
        NodeViews(stack.node("v2")).put_blob(data)
        await trio.sleep(5)
        assert state_of(stack, content) is ContentState.UNAVAILABLE
        await stack.start("o1")
        await trio.sleep(REOPEN_PAUSE_MS / 1000)
        await until_state(stack, content, ContentState.HAVE)


async def test_content_put_at_the_storage_node_itself_counts(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        content = cid_of(b"mine", Codec.RAW)
        await name_content(stack, "mine", content, 4)
        NodeViews(stack.node("s1")).put_blob(b"mine")
        await until_state(stack, content, ContentState.HAVE)


@pytest.mark.parametrize("stated", [1, 5, 2**40])
async def test_content_of_another_size_is_refused(tmp_path: Path, autojump_clock: object, stated: int) -> None:
    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        content = NodeViews(stack.node("v1")).put_blob(b"four")
        stated = min(stated, stack.genesis.params.actor_storage_quota_bytes)
        await name_content(stack, "liar", content, stated)
        await until_state(stack, content, ContentState.UNAVAILABLE)
        (row,) = storage(stack)["unavailable_content"]
        assert row["last_error"] == f"its creator stated {stated} bytes, it has 4"
        assert not stack.node("s1").blobs.has(content.digest)


async def test_linked_content_is_pulled_too(tmp_path: Path, autojump_clock: object) -> None:
    leaf = b"leaf" * 100
    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        store = stack.node("v2").blobs
        tree = cbor.encode({"leaf": Cid(Codec.RAW, store.put(leaf)), "name": "tree"})
        content = Cid(Codec.DAG_CBOR, store.put(tree))
        await name_content(stack, "tree", content, len(tree))
        await until_state(stack, cid_of(leaf, Codec.RAW), ContentState.HAVE)


@pytest.mark.parametrize("data", [b"\xff\x00 no cbor", b"\xa1\x61a\x01" + b"trailing", b""])
async def test_content_that_is_not_what_its_cid_says_harms_nobody(
    tmp_path: Path, autojump_clock: object, data: bytes
) -> None:
    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        stack.node("v1").blobs.put(data)
        content = Cid(Codec.DAG_CBOR, content_hash(data))
        await name_content(stack, "odd", content, len(data))
        await until_state(stack, content, ContentState.HAVE)
        assert stack.counters("s1")["storage.unparsable"] == 1
        # The next walks meet it again below the state.
        for number in range(3):
            await name_content(stack, f"more-{number}", NodeViews(stack.node("v1")).put_blob(bytes([number])), 1)
        await stack.stop("s1")
        await stack.start("s1")
        await stack.until(lambda: storage(stack)["walked_height"] >= stack.top(), "everything is walked again")
        await stack.until_height(stack.top() + 2)


async def test_a_blob_above_the_limit_is_not_taken(tmp_path: Path, autojump_clock: object) -> None:
    data = bytes(BLOB_BYTES_MAX + 1)

    async def too_large(handler: RequestHandler, peer: PeerId, request: bytes) -> bytes:
        asked = record.from_bytes(FetchBlobsRequest, request, size_max=RPC_INLINE_BYTES_MAX).content_hashes
        if content_hash(data) not in asked:
            return await handler(peer, request)
        return record.to_bytes(
            FetchBlobsResponse(blobs=tuple(data if item == content_hash(data) else None for item in asked))
        )

    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        stack.network("v1").lie(rpc.FETCH_BLOBS, too_large)
        content = Cid(Codec.RAW, content_hash(data))
        await name_content(stack, "huge", content, len(data))
        await until_state(stack, content, ContentState.UNAVAILABLE)
        assert stack.counters("s1")["fetch.wrong_bytes.L4"] >= 1
        await stack.until_height(stack.top() + 2)


async def test_damaged_content_and_journals_are_fetched_again(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        leaf = b"leaf" * 10
        store = stack.node("v2").blobs
        tree = cbor.encode({"leaf": Cid(Codec.RAW, store.put(leaf))})
        content = Cid(Codec.DAG_CBOR, store.put(tree))
        await name_content(stack, "tree", content, len(tree))
        await until_state(stack, content, ContentState.HAVE)
        ledger = stack.node("s1").ledger
        height = ledger.height
        lost = {cid.digest for block in range(1, height + 1) for cid in ledger.journal(block)} | {content.digest}
        await stack.stop("s1")
        damage(stack.members["s1"].home, lost)
        await stack.start("s1")
        await stack.until(lambda: storage(stack)["walked_height"] >= height, "everything is walked again")
        await until_state(stack, content, ContentState.HAVE)
        assert stack.node("s1").blobs.get(content.digest) == tree
        assert all(stack.node("s1").blobs.get(digest) for digest in lost)
        assert stack.counters("s1")["storage.damaged"] >= len(lost)


def damage(home: Path, digests: set[Any]) -> None:
    """Flip a bit of every one of these blobs, which are small and lie in the database."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(home / "world.db")) as database, database:
        for digest in digests:
            (data,) = database.execute("SELECT data FROM blobs WHERE content_hash = ?", (digest,)).fetchone()
            flipped = bytes([data[0] ^ 1]) + data[1:]
            database.execute("UPDATE blobs SET data = ? WHERE content_hash = ?", (flipped, digest))


async def test_a_storage_node_with_a_vote_and_without_serves_the_same(tmp_path: Path, autojump_clock: object) -> None:
    data = b"through another node"
    async with open_stack(tmp_path, specs(validators=3, storage=1, observers=1)) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        content = NodeViews(stack.node("v1")).put_blob(data)
        await name_content(stack, "thing", content, len(data))
        await until_state(stack, content, ContentState.HAVE)
        await stack.stop("v1")
        assert await NodeViews(stack.node("o1")).blob(content.digest) == data

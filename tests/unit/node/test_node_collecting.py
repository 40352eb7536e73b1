"""Collections of a running node: on a period, above the watermark, when asked; beside writers (T-9.12)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio

from agent_world.config import MINIMAL, NodeConfig, StorageConfig
from agent_world.crypto.hashing import content_hash
from agent_world.errors import Refused, StoreFull, UsageError
from agent_world.node.node import Node
from agent_world.store.collector import Garbage
from agent_world.testing.stack import make_key, open_stack, specs
from agent_world.testing.stack_actions import applied, create, found_people
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.limits import MIB


def config(**storage: object) -> NodeConfig:
    return attrs.evolve(MINIMAL, storage=attrs.evolve(MINIMAL.storage, **storage))


async def parts(*data: bytes) -> AsyncIterator[bytes]:
    for part in data:
        yield part


def raw(node: Node, data: bytes) -> Cid:
    return Cid(Codec.RAW, node.blobs.put(data))


async def test_garbage_goes_on_the_period_after_its_grace_and_pins_stay(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=1), config=config(gc_period_s=50.0, gc_grace_s=120.0)) as stack:
        await stack.start_all()
        node = stack.node("v1")
        pinned, garbage = raw(node, b"pinned"), raw(node, b"garbage")
        node.pinning.keep(pinned)
        await trio.sleep(130)
        assert node.blobs.has(garbage.digest)
        await trio.sleep(130)
        assert [node.blobs.has(cid.digest) for cid in (pinned, garbage)] == [True, False]
        status = stack.status("v1")["storage"]
        assert (status["last_gc"]["unreachable"]["items"], status["used_bytes"]) == (0, 6)
        assert stack.counters("v1")["gc.freed_bytes"] == 7


async def test_a_manifest_that_a_collection_finds_damaged_is_fetched_again_and_its_file_stays(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, specs(validators=1, observers=1)) as stack:
        await stack.start_all()
        other, node = stack.node("v1"), stack.node("o1")
        stored = [await each.large.store(parts(bytes(MIB), b"end")) for each in (other, node)][1]
        manifest = other.blobs.get(stored.cid.digest)
        node.pinning.keep(stored.cid)
        node.blobs._database.execute("UPDATE blobs SET data = x'00' WHERE content_hash = ?", (stored.cid.digest,))
        other.blobs.delete(stored.cid.digest)
        found = await node.collecting.collect(grace_ms=0)
        assert (found.damaged, found.freed) == (1, Garbage())
        await trio.sleep(5)
        assert not node.blobs.has(stored.cid.digest)
        other.blobs.put(manifest)  # nobody had it at first, and it is asked for again
        await node.scrub.retry_lost()
        assert await node.large.here(stored.cid) == stored.size_bytes
        found = await node.collecting.collect(grace_ms=0)
        assert (found.damaged, found.unreachable) == (0, Garbage())
        assert stack.counters("o1")["gc.damaged"] == 1


async def test_above_the_watermark_the_oldest_garbage_goes_at_once(tmp_path: Path, autojump_clock: object) -> None:
    storage = config(quota_bytes=1_000, gc_above_percent=50, gc_period_s=1e6, gc_grace_s=1e6)
    async with open_stack(tmp_path, specs(validators=1), config=storage) as stack:
        await stack.start_all()
        node = stack.node("v1")
        items = [raw(node, bytes([number]) * 100) for number in range(8)]
        node.pinning.keep(items[0])
        with pytest.raises(StoreFull):
            raw(node, bytes(201))
        await trio.sleep(11)
        assert [node.blobs.has(cid.digest) for cid in items] == [True, False, False, False, True, True, True, True]
        assert stack.counters("v1")["gc.evicted"] == 3
        raw(node, bytes(201))
        before = node.ledger.height
        node.pinning.keep(raw(node, bytes(250)))
        await stack.until_height(before + 3)  # the chain goes on however full the store is


async def test_what_the_world_names_stays_and_what_is_left_is_the_audit(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=1)) as stack:
        await stack.start_all()
        node = stack.node("v1")
        named = await node.large.store(parts(os.urandom(MIB), os.urandom(MIB)))
        lost = await node.large.store(parts(os.urandom(MIB), os.urandom(MIB)))
        await found_people(stack, "v1")
        payload = create("file", named.cid, named.size_bytes)
        await applied(stack, "v1", stack.submit("v1", make_key("alice"), payload))
        found = await node.collecting.collect(dry_run=True, grace_ms=0)
        assert node.blobs.has(lost.cid.digest)
        done = await node.collecting.collect(grace_ms=0)
        assert found.freed == done.freed == done.unreachable
        assert found.freed.size_bytes > lost.size_bytes
        assert node.blobs.has(named.cid.digest)
        assert (await node.large.here(named.cid), node.blobs.has(lost.cid.digest)) == (named.size_bytes, False)
        assert (await node.collecting.collect(grace_ms=0)).freed == Garbage()


async def test_writers_and_collections_side_by_side(tmp_path: Path, autojump_clock: object) -> None:
    """T-9.12: nothing that is pinned goes; all else goes in the end."""
    async with open_stack(tmp_path, specs(validators=1)) as stack:
        await stack.start_all()
        node = stack.node("v1")
        kept: list[Cid] = []

        async def write() -> None:
            for number in range(60):
                with node.blobs.hold():
                    cid = raw(node, b"written %d" % (number % 20))
                    await trio.sleep(0.01)
                    if number % 3 == 0:
                        node.pinning.keep(cid)
                        kept.append(cid)

        async def collect() -> None:
            for _ in range(40):
                await node.collecting.collect(grace_ms=0)
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            nursery.start_soon(collect)
        await trio.sleep(1)
        await node.collecting.collect(grace_ms=0)
        assert all(node.blobs.has(cid.digest) for cid in kept)
        usage = node.blobs.usage()
        assert usage.size_bytes - usage.kept_bytes == sum(node.blobs.stat(cid.digest).size_bytes for cid in set(kept))


async def test_one_blob_is_removed_or_its_holder_named(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=1)) as stack:
        await stack.start_all()
        node = stack.node("v1")
        free, pinned = raw(node, b"free"), raw(node, b"pinned")
        node.pinning.keep(pinned)
        assert await node.collecting.remove(free.digest) == 4
        with pytest.raises(Refused, match=r"pin .* reaches it"):
            await node.collecting.remove(pinned.digest)
        with pytest.raises(Refused, match="part of the chain"):
            await node.collecting.remove(node.ledger.head.state_root.digest)
        with pytest.raises(Refused, match="ERR_NOT_FOUND"):
            await node.collecting.remove(content_hash(b"nothing"))


async def test_while_another_process_collects_the_node_waits_for_its_next_turn(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, specs(validators=1), config=config(gc_period_s=20.0, gc_grace_s=0.0)) as stack:
        await stack.start_all()
        node = stack.node("v1")
        garbage = raw(node, b"garbage")
        with (stack.members["v1"].home / "gc.lock").open("a") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(Refused, match="ERR_BUSY"):
                await node.collecting.collect()
            await trio.sleep(35)
            assert node.blobs.has(garbage.digest)
            assert stack.counters("v1")["gc.refused"] >= 1
        await trio.sleep(35)
        assert not node.blobs.has(garbage.digest)


def test_a_quota_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="quota_bytes"):
        StorageConfig(quota_bytes=0)

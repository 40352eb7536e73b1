from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from agent_world.crypto.hashing import cid_of, content_hash
from agent_world.errors import Refused, UsageError
from agent_world.testing.stack import Stack, open_stack, specs
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, Codec

TWO = specs(validators=1, observers=1)


def put_tree(stack: Stack, name: str) -> tuple[Cid, Cid]:
    """A node with a leaf, at a member; (node, leaf)."""
    blobs = stack.node(name).blobs
    leaf = Cid(Codec.RAW, blobs.put(b"leaf"))
    data = cbor.encode({"leaf": leaf, "again": leaf})
    blobs.put(data)
    return cid_of(data), leaf


async def test_what_is_pinned_is_fetched_with_all_that_it_links_to(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, TWO) as stack:
        await stack.start_all()
        top, leaf = put_tree(stack, "v1")
        pinning = stack.node("o1").pinning
        assert await pinning.pin(pinning.new("tree", top, expires_in_ms=500), 5) == 2
        assert stack.node("o1").blobs.has_many([top.digest, leaf.digest]) == {top.digest, leaf.digest}
        assert await pinning.pin(pinning.new("tree again", top), 5) == 0
        assert [row["name"] for row in pinning.rows()] == ["tree", "tree again"]
        assert pinning.rows()[0]["expires_ms"] == pinning.rows()[0]["made_ms"] + 500


async def test_what_was_here_as_garbage_is_kept_while_the_rest_is_fetched(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, TWO) as stack:
        await stack.start_all()
        one, other = stack.node("v1"), stack.node("o1")
        leaf, late = (Cid(Codec.RAW, content_hash(data)) for data in (b"leaf", b"late"))
        top = cbor.encode({"leaf": leaf, "late": late})
        one.blobs.put(top)
        other.blobs.put(b"leaf")
        await other.collecting.collect()
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.pinning.pin, other.pinning.new("tree", cid_of(top)), 30)
            await trio.sleep(5)
            await other.collecting.collect(grace_ms=0)
            one.blobs.put(b"late")
        assert len(other.blobs.has_many([leaf.digest, late.digest])) == 2


async def test_a_direct_pin_fetches_one_blob(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, TWO) as stack:
        await stack.start_all()
        top, leaf = put_tree(stack, "v1")
        node = stack.node("o1")
        assert await node.pinning.pin(node.pinning.new("top", top, recursive=False), 5) == 1
        assert not node.blobs.has(leaf.digest)


async def test_what_nobody_has_is_not_pinned(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, TWO) as stack:
        await stack.start_all()
        pinning = stack.node("o1").pinning
        for timeout_s in (30.0, 0.0):
            with pytest.raises(Refused, match="ERR_NOT_AVAILABLE"):
                await pinning.pin(pinning.new("x", cid_of(b"nowhere")), timeout_s)
        assert pinning.rows() == []
        with pytest.raises(Refused, match="ERR_NOT_FOUND"):
            pinning.unpin("x")


async def test_pins_go_out_and_in_as_a_file(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, TWO) as stack:
        await stack.start_all()
        top, _ = put_tree(stack, "v1")
        one, other = stack.node("v1").pinning, stack.node("o1").pinning
        one.keep(top)
        await one.pin(one.new("second", top, recursive=False, expires_in_ms=9), 5)
        assert other.take_in({"version": 1, "pins": one.rows()}) == 2
        keys = ("name", "cid", "recursive", "made_ms", "expires_ms")
        assert [[row[key] for key in keys] for row in other.rows()] == [
            [row[key] for key in keys] for row in one.rows()
        ]
        assert [row["is_here"] for row in other.rows()] == [False, False]
        assert one.unpin("second").cid == top
        good = {"name": "good", "cid": str(top)}
        wrong: list[Any] = [
            None, [], {}, {"version": 2, "pins": []}, {"version": 1, "pins": {}}, {"version": 1, "pins": [good, 5]},
            {"version": 1, "pins": [good, {"name": "x"}]}, {"version": 1, "pins": [good, {**good, "cid": "bafy"}]},
            {"version": 1, "pins": [good, {**good, "name": ""}]}, {"version": 1, "pins": [{**good, "recursive": 1}]},
            {"version": 1, "pins": [{**good, "made_ms": "1"}]}, {"version": 1, "pins": [{**good, "expires_ms": 1.5}]},
        ]  # fmt: skip
        for value in wrong:
            with pytest.raises(UsageError):
                other.take_in(value)
        assert len(other.rows()) == 2

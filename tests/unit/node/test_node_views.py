from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from agent_world.crypto.hashing import cid_of, content_hash, hash32
from agent_world.errors import ErrorCode, Refused
from agent_world.node.views import NodeViews
from agent_world.testing.stack import Stack, make_key, open_stack, specs
from agent_world.testing.stack_actions import actor, applied, create, found_people, grant, pay
from agent_world.wire.cid import Codec, ContentHash
from agent_world.wire.ids import Hash32
from agent_world.wire.jsonable import jsonable


async def living(stack: Stack) -> NodeViews:
    await stack.start_all()
    await found_people(stack, "v1")
    return NodeViews(stack.node("v1"))


def refusal(caught: Any) -> tuple[ErrorCode, str]:
    return caught.value.code, caught.value.rule


async def test_the_status_of_a_node(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=1, storage=1)) as stack:
        await living(stack)
        await stack.until_height(3)
        status = jsonable(stack.status("s1"))
        assert (status["node_id"], status["role"], status["world_id"]) == ("s1", "storage", "stack")
        assert status["multiaddrs"] == [stack.address_of("s1")]
        assert [row["role"] for row in status["peers"]] == ["sequencer"]
        assert status["consensus"]["committed_height"] == stack.node("s1").ledger.height
        assert status["storage"]["walked_height"] <= status["consensus"]["committed_height"]
        assert list(status["counters"]) == sorted(status["counters"])
        assert all(isinstance(count, int) for count in status["counters"].values())


async def test_heads_blocks_and_events(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=1)) as stack:
        view = await living(stack)
        action_id = stack.submit("v1", stack.authority, grant("bob", 7))
        height = (await view.receipt(action_id, 60_000))["height"]
        block = jsonable(view.block(height))
        (action,) = block["actions"]
        assert (action["action_id"], action["payload"]["amount"], action["outcome"]) == (action_id.hex(), 7, "applied")
        assert block["certified_by"] == ["v1"]
        assert block["block"]["height"] == height
        (event,) = [row for row in view.events(height, 100)["events"] if row["height"] == height]
        assert (event["kind"], event["payload"]["amount"]) == ("resource.granted", 7)
        head = view.head()
        assert (head["height"], head["certified_by"]) == (stack.top(), ["v1"])
        first = view.events(1, 2)["events"]
        assert [row["event_id"] for row in first] == [1, 2]
        with pytest.raises(Refused) as caught:
            view.block(stack.top() + 1)
        assert refusal(caught) == (ErrorCode.NOT_FOUND, "B5")


async def test_actors_and_state(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=1)) as stack:
        view = await living(stack)
        await applied(stack, "v1", stack.submit("v1", make_key("alice"), pay("bob", 1)))
        shown = view.actor(actor("alice"))
        assert (shown["name"], shown["next_nonce"], shown["pending"], shown["position"]) == ("alice", 2, 0, None)
        with pytest.raises(Refused) as caught:
            view.actor(actor("nobody"))
        assert refusal(caught) == (ErrorCode.NOT_FOUND, "S4")
        entries = view.state_entries("rules", 10_000)["entries"]
        key = f"balance/{actor('bob')}/gold"
        assert {entry["key"]: entry["value"] for entry in entries}[key] == {"amount": 1}
        assert len(view.state_entries("rules", 1)["entries"]) == 1
        assert view.state_entry("rules", key, proof=False)["value"]["amount"] == 1
        assert "proof" in view.state_entry("rules", "no such key", proof=True)
        for namespace, code in (("rules", ErrorCode.NOT_FOUND), ("nonsense", ErrorCode.BAD_REQUEST)):
            with pytest.raises(Refused) as caught:
                view.state_entry(namespace, "no such key", proof=False)
            assert caught.value.code is code


async def test_receipts_are_waited_for(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=2)) as stack:
        view = await living(stack)
        with pytest.raises(Refused) as caught:
            await view.receipt(Hash32(bytes(32)), 100)
        assert refusal(caught) == (ErrorCode.NOT_FOUND, "S2")
        await stack.stop("v2")
        pending = stack.submit("v1", make_key("alice"), pay("bob", 1))
        started = trio.current_time()
        with pytest.raises(Refused) as caught:
            await view.receipt(pending, 2_000)
        assert refusal(caught) == (ErrorCode.TIMEOUT, "S2")
        assert trio.current_time() - started == pytest.approx(2)
        await stack.start("v2")
        assert (await view.receipt(pending, 60_000))["code"] == "ok"
        assert (await view.receipt(pending, 0))["code"] == "ok"


async def test_blobs_come_from_here_or_from_a_peer(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=1, observers=1)) as stack:
        view = await living(stack)
        cid = view.put_blob(b"poem")
        assert cid == cid_of(b"poem", Codec.RAW)
        assert await view.blob(cid.digest) == b"poem"
        await stack.until(lambda: bool(stack.status("o1")["peers"]), "a link")
        assert await NodeViews(stack.node("o1")).blob(cid.digest) == b"poem"
        with pytest.raises(Refused) as caught:
            await view.blob(content_hash(b"nowhere"))
        assert refusal(caught) == (ErrorCode.NOT_FOUND, "L1")


async def test_a_pending_action_is_a_blob_too(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=1)) as stack:
        view = await living(stack)
        data = stack.sign(make_key("alice"), create("o", cid_of(b""), 0), nonce=5)
        view.submit(data)
        assert await view.blob(ContentHash(hash32(data))) == data

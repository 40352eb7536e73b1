"""Stack tier: a light verifier follows nodes through set changes; nodes catch up whatever boundaries they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest
from changing import EPOCH, change_turns, decide, remove, until_set

from agent_world.consensus.light import open_block
from agent_world.crypto.hashing import hash32
from agent_world.errors import RemoteError
from agent_world.net.address import parse_peer
from agent_world.net.interface import RequestHandler
from agent_world.node.asked_peers import AskedPeers
from agent_world.node.light_client import Fault, LightClient
from agent_world.node.light_start import find_start, start_at_genesis
from agent_world.sync import light_chain
from agent_world.testing.stack import Stack, make_key, open_stack, specs
from agent_world.testing.stack_actions import actor, trade
from agent_world.wire import record, rpc
from agent_world.wire.head import CertifiedHead
from agent_world.wire.ids import Label, PeerId, TimeMs, peer_id_of
from agent_world.wire.limits import RPC_BODY_BYTES_MAX
from agent_world.wire.membership import GetBoundariesResponse
from agent_world.world import queries

SYSTEM = Label("system")


def asked_peers(stack: Stack, name: str, asked: Sequence[str]) -> AskedPeers:
    """A light verifier's side of the network of its own; ``name`` is for its key."""
    network = stack.hub.node(peer_id_of(make_key("light", name).public_key))
    return AskedPeers(network, stack.genesis, [parse_peer(stack.address_of(member)) for member in asked])


def light(stack: Stack, name: str, *asked: str) -> LightClient:
    return LightClient(asked_peers(stack, name, asked), start_at_genesis(stack.genesis).head)


async def false_head(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
    """The honest head with a later time, and the certificate of the true one."""
    told = record.from_bytes(CertifiedHead, await handler(peer, data), size_max=RPC_BODY_BYTES_MAX)
    header = open_block(told.block)
    later = TimeMs(header.timestamp_ms + 1)
    block = record.to_bytes(attrs.evolve(header, timestamp_ms=later))
    head = attrs.evolve(told.head, block_hash=hash32(block), timestamp_ms=later)
    return record.to_bytes(attrs.evolve(told, head=head, block=block))


async def no_boundaries(_handler: RequestHandler, _peer: PeerId, _data: bytes) -> bytes:
    return record.to_bytes(GetBoundariesResponse(boundaries=()))


async def test_ten_epochs_are_followed_as_they_pass_and_at_once(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4, observers=2), epoch_length_slots=EPOCH) as stack:
        await stack.start_all()
        await trade(stack, "v1", "o1")
        following = light(stack, "following", "v1", "o1", "o2")
        for turn in range(5):
            await change_turns(stack, range(turn, turn + 1), "o1")
            found = await following.round()
            assert found.head is not None
            height = int(found.head.block.height)
            stored = stack.node("v1").ledger.stored(height)
            assert stored is not None
            assert following.passed_over == {}
            assert (found.head.block_hash, found.is_new, len(found.agreeing)) == (stored.block_hash, True, 3)
        assert following.follower.sets_crossed(found.head.peer) == 10

        rest = ["v2", "v3", "v4"]
        await decide(stack, remove("v1"), *rest)
        await until_set(stack, rest, *rest, "o1", "o2")
        await stack.until_height(stack.top() + 1)
        await liars_are_named(stack)
        await from_a_given_block(stack)


async def liars_are_named(stack: Stack) -> None:
    """A set decides that the genesis does not lead to without boundaries."""
    forger, hider = stack.members["o1"].peer_id, stack.members["o2"].peer_id
    stack.network("o1").lie(rpc.GET_WORLD_HEAD, false_head)
    stack.network("o2").lie(rpc.GET_BOUNDARIES, no_boundaries)
    client = light(stack, "late", "o1", "o2", "v2")
    found = await client.round()
    assert found.head is not None
    assert found.agreeing == (stack.members["v2"].peer_id,)
    assert {peer: (why.fault, why.rule) for peer, why in client.passed_over.items()} == {
        forger: (Fault.LIED, "C5"), hider: (Fault.LIED, "G4"),
    }  # fmt: skip
    with pytest.raises(RemoteError, match=forger) as caught:
        await light(stack, "alone", "o1").round()
    assert (caught.value.exit_code, caught.value.rule) == (76, "C5")
    stack.network("o1").lie(rpc.GET_WORLD_HEAD, None)
    stack.network("o2").lie(rpc.GET_BOUNDARIES, None)


async def from_a_given_block(stack: Stack) -> None:
    """Any height will do to begin with; the set after it is found by its hash, and the state is read node by node."""
    node, alice = stack.node("v3"), actor("alice")
    for height in (1, EPOCH, node.ledger.height // 2, node.ledger.height):
        stored = node.ledger.stored(height)
        assert stored is not None
        peers = asked_peers(stack, f"given {height}", ["o1", "v3"])
        start = await find_start(peers, stack.genesis, height, stored.block_hash)
        assert (start.head.height, start.head.validators.hash) == (height, stored.header.next_validators_hash)
        client = LightClient(peers, start.head)
        await client.round()
    root = stored.header.state_root
    there = queries.actor(node.ledger.state, alice)
    assert there is not None
    assert await client.state_value(root, SYSTEM, f"actor/{alice}".encode()) == record.unstructure(there.actor)
    assert await client.state_value(root, SYSTEM, b"actor/nobody") is None


async def test_more_boundaries_than_are_kept_do_not_stop_a_node(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_stack(tmp_path, specs(validators=4, observers=1), epoch_length_slots=EPOCH) as stack:
        for name in ("v1", "v2", "v3", "v4"):
            await stack.start(name)
        await change_turns(stack, range(3))
        # The head's set is none that the first two boundaries lead to.
        rest = ["v1", "v2", "v3"]
        await decide(stack, remove("v4"), *rest)
        await until_set(stack, rest, *rest)
        await stack.until_height(stack.top() + 1)
        monkeypatch.setattr(light_chain, "CROSSED_MAX", 2)
        await stack.start("o1")
        await stack.until_height(stack.top())
        assert stack.agree()

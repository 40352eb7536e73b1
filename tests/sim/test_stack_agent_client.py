"""Stack tier: an agent without a node hands in actions and has proved to it what they did, whoever lies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import attrs
import pytest
import trio

from agent_world.config import MINIMAL
from agent_world.crypto.hashing import actor_id_of, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import ErrorCode, Refused
from agent_world.net.interface import RequestHandler
from agent_world.net.retry import RetryPolicy
from agent_world.node.agent_client import AgentClient
from agent_world.node.asked_peers import AskedPeers
from agent_world.node.light_client import LightClient
from agent_world.node.light_start import start_at_genesis
from agent_world.testing.stack import Stack, make_key, open_stack, specs
from agent_world.wire import record, rpc
from agent_world.wire.action import GrantResource, RegisterAgent
from agent_world.wire.block import GetReceiptSegmentResponse, Outcome
from agent_world.wire.ids import U64, Hash32, Name, PeerId, peer_id_of
from agent_world.wire.limits import RPC_BODY_BYTES_MAX
from agent_world.wire.submit import GetReceiptRequest, GetReceiptResponse, SubmitActionResponse

ALICE = make_key("alice")
NAMES = ("v1", "v2", "v3")


@asynccontextmanager
async def client_of(stack: Stack, *names: str) -> AsyncIterator[AgentClient]:
    stranger = peer_id_of(make_key("stranger").public_key)
    addresses = [
        (peer, address)
        for peer in stack.peers(*(names or NAMES))
        for address in stack.hub.node(peer).listen_addresses()
    ]
    peers = AskedPeers(stack.hub.node(stranger), stack.genesis, addresses)  # type: ignore[arg-type]
    light = LightClient(peers, start_at_genesis(stack.genesis).head)
    policy = RetryPolicy(attempts_max=4, delay_min_s=0.05, deadline_s=5)
    try:
        yield AgentClient(peers, light, Random(1), policy)
    finally:
        stack.hub.remove(stranger)


def register(stack: Stack, key: KeyPair = ALICE) -> bytes:
    payload = RegisterAgent(name=Name("alice"), public_key=key.public_key, registration_quota=U64(0))
    return stack.sign(stack.authority, payload)


def grant(stack: Stack) -> bytes:
    payload = GrantResource(resource=Name("sou"), to_actor_id=actor_id_of(ALICE.public_key), amount=U64(5))
    return stack.sign(stack.authority, payload)


async def test_an_action_is_handed_in_and_what_it_did_is_proved(tmp_path: Path, autojump_clock: object) -> None:
    slow = attrs.evolve(MINIMAL, consensus=attrs.evolve(MINIMAL.consensus, block_interval_ms=2_000))
    async with open_stack(tmp_path, specs(validators=3), config=slow) as stack:
        await stack.start_all()
        await stack.until_height(1)
        async with client_of(stack) as client:
            authority = actor_id_of(stack.authority.public_key)
            assert await client.next_nonce(authority) == 1
            first = await client.submit(register(stack))
            second = await client.submit(grant(stack))
            found = [await client.outcome(action_id, timeout_s=30) for action_id in (first, second)]
            assert [outcome.receipt.action_id for outcome in found] == [first, second]
            assert [outcome.receipt.outcome for outcome in found] == [Outcome.APPLIED] * 2
            assert found[0].height == found[1].height, "one block has the events of both"
            for outcome in found:
                assert len(outcome.events) == outcome.receipt.event_count > 0
                assert {event.caused_by for event in outcome.events} == {outcome.receipt.action_id}
                stored = stack.node("v1").ledger.stored(outcome.height)
                assert stored is not None
                assert stored.block_hash == outcome.block_hash
            assert await client.next_nonce(authority) == 3
            assert not client.passed_over


async def test_who_is_unknown_and_what_breaks_a_rule_is_refused_with_the_reason(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, specs(validators=3)) as stack:
        await stack.start_all()
        await stack.until_height(1)
        async with client_of(stack) as client:
            with pytest.raises(Refused) as caught:
                await client.next_nonce(actor_id_of(make_key("nobody").public_key))
            assert (caught.value.code, caught.value.rule) == (ErrorCode.NOT_FOUND, "S4")
            with pytest.raises(Refused) as caught:
                await client.submit(stack.sign(make_key("nobody"), grant_payload(), nonce=1))
            assert not caught.value.retryable
            started = trio.current_time()
            with pytest.raises(Refused) as caught:
                await client.outcome(Hash32(hash32(b"none")), timeout_s=3)
            assert caught.value.code is ErrorCode.TIMEOUT
            assert 3 <= trio.current_time() - started < 4


def grant_payload() -> GrantResource:
    return GrantResource(resource=Name("sou"), to_actor_id=actor_id_of(ALICE.public_key), amount=U64(5))


async def test_a_full_pool_is_asked_again_and_one_that_is_down_is_done_without(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        await stack.stop("v3")
        asked = 0

        async def busy(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
            nonlocal asked
            asked += 1
            if asked <= 2:
                raise Refused(ErrorCode.BUSY, "the pool is full", rule="A12")
            return await handler(peer, data)

        async def never(_handler: RequestHandler, _peer: PeerId, _data: bytes) -> bytes:
            raise Refused(ErrorCode.UNAUTHORIZED, "not from you", rule="A5")

        stack.network("v1").lie(rpc.SUBMIT_ACTION, busy)
        stack.network("v2").lie(rpc.SUBMIT_ACTION, never)
        async with client_of(stack, "v1", "v2", "v3") as client:
            action_id = await client.submit(register(stack))
            assert asked == 3
            assert (await client.outcome(action_id, timeout_s=30)).receipt.outcome is Outcome.APPLIED


async def test_liars_are_named_and_the_others_prove_it(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        async with client_of(stack) as client:
            earlier = await client.outcome(await client.submit(register(stack)), timeout_s=30)

        async def of_another_block(_handler: RequestHandler, _peer: PeerId, data: bytes) -> bytes:
            asked = record.from_bytes(GetReceiptRequest, data, size_max=RPC_BODY_BYTES_MAX)
            receipt = attrs.evolve(earlier.receipt, action_id=asked.action_id)
            return record.to_bytes(GetReceiptResponse(height=U64(earlier.height), receipt=receipt))

        stack.network("v1").lie(rpc.GET_RECEIPT, of_another_block)

        async def other_receipts(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
            told = record.from_bytes(GetReceiptSegmentResponse, await handler(peer, data), size_max=RPC_BODY_BYTES_MAX)
            block = stack.node("v2").ledger.stored(1)
            assert block is not None
            other = attrs.evolve(told.segment, content=block.header.action_root)
            return record.to_bytes(attrs.evolve(told, segment=other))

        async def another_action(_handler: RequestHandler, _peer: PeerId, _data: bytes) -> bytes:
            return record.to_bytes(SubmitActionResponse(action_id=Hash32(hash32(b"another"))))

        stack.network("v2").lie(rpc.GET_RECEIPT_SEGMENT, other_receipts)
        stack.network("v3").lie(rpc.SUBMIT_ACTION, another_action)
        async with client_of(stack, "v1", "v2", "v3", "v4") as client:
            action_id = await client.submit(grant(stack))
            assert client.passed_over.keys() == set(stack.peers("v3"))
            # A liar that has not committed it yet says so, and would not be found out.
            ledgers = [stack.node(name).ledger for name in NAMES]
            await stack.until(lambda: all(ledger.receipt(action_id) for ledger in ledgers), "all have committed it")
            outcome = await client.outcome(action_id, timeout_s=30)
            assert outcome.shown_by in stack.peers("v4")
            assert outcome.receipt.action_id == action_id
            named = {peer: why.split(":")[0] for peer, why in client.passed_over.items()}
            assert named.keys() == set(stack.peers("v1", "v2", "v3"))
            assert any("it is not" in why for why in client.passed_over.values())

"""Stack tier: who lies, babbles or is silent is not believed, and the data come from elsewhere (T-9.3, T-9.10)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import trio

from agent_world.crypto.hashing import cid_of, hash32
from agent_world.errors import ErrorCode, Refused
from agent_world.net.interface import RequestHandler
from agent_world.net.memory import LinkSettings
from agent_world.testing.stack import Stack, make_key, open_stack, specs
from agent_world.testing.stack_actions import applied, balances, found_people, pay, trade
from agent_world.testing.tapped_network import Lie
from agent_world.wire import record, rpc
from agent_world.wire.blob import FetchBlobsResponse
from agent_world.wire.block import BlockAnnounce, BlockBundle, GetBlocksResponse, WorldBlock
from agent_world.wire.cid import Cid
from agent_world.wire.consensus import CommitCertificate
from agent_world.wire.head import CertifiedHead
from agent_world.wire.hello import Hello
from agent_world.wire.ids import U64, Hash32, PeerId, WorldId
from agent_world.wire.limits import RPC_BODY_BYTES_MAX

FOLLOWER = "o1"
LIAR = "o2"


def altered(change: Callable[[BlockBundle], BlockBundle]) -> Lie:
    """A lie about the last block of every range."""

    async def lie(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
        answer = record.from_bytes(GetBlocksResponse, await handler(peer, data), size_max=RPC_BODY_BYTES_MAX)
        *honest, last = answer.bundles
        return record.to_bytes(GetBlocksResponse(bundles=(*honest, change(last))))

    return lie


def header(**changes: object) -> Callable[[BlockBundle], BlockBundle]:
    def change(bundle: BlockBundle) -> BlockBundle:
        block = record.from_bytes(WorldBlock, bundle.block, size_max=len(bundle.block))
        return attrs.evolve(bundle, block=record.to_bytes(attrs.evolve(block, **changes)))

    return change


def stripped_certificate(bundle: BlockBundle) -> BlockBundle:
    certificate = record.from_bytes(CommitCertificate, bundle.certificate, size_max=len(bundle.certificate))
    fewer = attrs.evolve(certificate, signatures=certificate.signatures[:1])
    return attrs.evolve(bundle, certificate=record.to_bytes(fewer))


def flipped_certificate(bundle: BlockBundle) -> BlockBundle:
    return attrs.evolve(bundle, certificate=bundle.certificate[:-1] + bytes([bundle.certificate[-1] ^ 1]))


def other_actions(bundle: BlockBundle) -> BlockBundle:
    return attrs.evolve(bundle, actions=(*bundle.actions, b"more"))


def truncated_block(bundle: BlockBundle) -> BlockBundle:
    return attrs.evolve(bundle, block=bundle.block[:-1])


async def garbage(_handler: RequestHandler, _peer: PeerId, _data: bytes) -> bytes:
    return b"\xff" * 100


async def nothing(_handler: RequestHandler, _peer: PeerId, _data: bytes) -> bytes:
    return record.to_bytes(GetBlocksResponse(bundles=()))


async def silence(_handler: RequestHandler, _peer: PeerId, _data: bytes) -> bytes:
    await trio.sleep_forever()
    raise AssertionError


async def later_blocks(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
    answer = record.from_bytes(GetBlocksResponse, await handler(peer, data), size_max=RPC_BODY_BYTES_MAX)
    return record.to_bytes(GetBlocksResponse(bundles=answer.bundles[1:]))


WRONG_BLOCKS = {
    "state_root": altered(header(state_root=cid_of(b"another state"))),
    "event_root": altered(header(event_root=hash32(b"other events"))),
    "height": altered(header(height=U64(3))),
    "parent": altered(header(prev_block_hash=hash32(b"another parent"))),
    "certificate_of_one": altered(stripped_certificate),
    "certificate_flipped": altered(flipped_certificate),
    "actions": altered(other_actions),
    "truncated": altered(truncated_block),
    "later_blocks": later_blocks,
    "no_blocks": nothing,
    "garbage": garbage,
}


async def behind_a_liar(stack: Stack, method: str, lie: Lie) -> None:
    """The follower is behind and its only source lies: it must not move; then honest sources appear."""
    for name in ("v1", "v2", "v3"):
        await stack.start(name)
    await trade(stack, "v1", "v2")
    await stack.start(LIAR)
    await stack.until_height(12)
    stack.network(LIAR).lie(method, lie)
    stack.hub.partition(stack.peers("v1", "v2", "v3"), stack.peers(LIAR, FOLLOWER))
    follower = await stack.start(FOLLOWER)
    follower.network.dial(stack.members[LIAR].peer_id, follower_address(stack))
    await stack.until(lambda: bool(follower.network.peers()), "a link to the liar")


def follower_address(stack: Stack) -> str:
    return stack.address_of(LIAR).rpartition("/p2p/")[0]


@pytest.mark.parametrize("name", WRONG_BLOCKS)
async def test_wrong_blocks_are_refused_and_fetched_elsewhere(
    tmp_path: Path, autojump_clock: object, name: str
) -> None:
    async with open_stack(tmp_path, specs(validators=3, observers=2)) as stack:
        await behind_a_liar(stack, rpc.GET_BLOCKS, WRONG_BLOCKS[name])
        await stack.until(lambda: stack.counters(FOLLOWER).get("sync.wrong_blocks", 0) >= 4, "lies were seen")
        status = stack.status(FOLLOWER)["consensus"]
        assert status["catching_up"] is True
        assert stack.members[LIAR].peer_id in status["last_error"]
        # Of a range the honest part counts; from the altered block on nothing does.
        assert stack.node(FOLLOWER).ledger.height < stack.node(LIAR).ledger.height
        stack.hub.heal()
        await stack.until_height(stack.top(), FOLLOWER)
        await stack.until(lambda: stack.status(FOLLOWER)["last_error"] is None, "the error is over")
        assert balances(stack, FOLLOWER) == {"alice": 40, "bob": 60}
        assert stack.agree()


async def test_a_silent_peer_costs_its_time_only(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=3, observers=2)) as stack:
        await behind_a_liar(stack, rpc.GET_BLOCKS, silence)
        await stack.until(
            lambda: stack.counters(FOLLOWER).get(f"sync.refused.{ErrorCode.TIMEOUT}", 0) >= 1, "time ran out"
        )
        stack.hub.heal()
        await stack.until_height(stack.top(), FOLLOWER)
        assert stack.agree()


async def test_a_peer_that_answers_nothing_at_all_stops_nobody(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=3, observers=2)) as stack:
        await stack.start(LIAR)
        for method in (rpc.HELLO, rpc.GET_WORLD_HEAD, rpc.GET_BLOCKS, rpc.FETCH_BLOBS):
            stack.network(LIAR).lie(method, silence)
        for name in ("v1", "v2", "v3", FOLLOWER):
            await stack.start(name)
        await trade(stack, FOLLOWER, "v1")
        await stack.until_height(stack.top(), "v1", "v2", "v3", FOLLOWER)
        refused = f"hello.refused.{ErrorCode.TIMEOUT}"
        await stack.until(lambda: stack.counters("v1").get(refused, 0) >= 1, "a hello ran out of time")


@pytest.mark.parametrize("babble", [garbage, nothing], ids=["garbage", "nothing"])
async def test_garbage_answers_stop_nobody(tmp_path: Path, autojump_clock: object, babble: Lie) -> None:
    async with open_stack(tmp_path, specs(validators=3, observers=2)) as stack:
        await stack.start(LIAR)
        for method in (rpc.HELLO, rpc.GET_WORLD_HEAD, rpc.GET_BLOCKS, rpc.FETCH_BLOBS):
            stack.network(LIAR).lie(method, babble)
        for name in ("v1", "v2", "v3", FOLLOWER):
            await stack.start(name)
        await trade(stack, FOLLOWER, "v1")
        assert any(counter.startswith("hello.broken.") for counter in stack.counters("v1"))


async def boasting(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
    hello = record.from_bytes(Hello, await handler(peer, data), size_max=RPC_BODY_BYTES_MAX)
    return record.to_bytes(attrs.evolve(hello, head=attrs.evolve(hello.head, height=U64(2**63))))


async def test_a_claimed_height_is_not_a_height(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=3, observers=2)) as stack:
        await stack.start_all()
        stack.network(LIAR).lie(rpc.HELLO, boasting)
        await stack.until_height(4)
        await stack.until(
            lambda: any(row["height"] == 2**63 for row in stack.status("v1")["consensus"]["peer_heads"]), "the boast"
        )
        consensus = stack.status("v1")["consensus"]
        assert consensus["network_committed_height"] <= stack.top() + 1
        assert consensus["catching_up"] is False
        await stack.until_height(stack.top() + 3)


async def test_a_borrowed_proof_makes_nobody_a_validator(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=3, observers=2)) as stack:
        await stack.start_all()
        proof = stack.node("v2").hello().validator

        async def borrowed(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
            hello = record.from_bytes(Hello, await handler(peer, data), size_max=RPC_BODY_BYTES_MAX)
            return record.to_bytes(attrs.evolve(hello, validator=proof))

        stack.network(LIAR).lie(rpc.HELLO, borrowed)
        liar = stack.members[LIAR].peer_id
        await stack.until(lambda: stack.node("v1").network.gate.is_banned(liar), "the liar is banned")
        (ban,) = stack.node("v1").network.gate.bans()
        assert ban.reason == "false proof of being a validator"
        assert sorted(stack.node("v1").peering.validators()) == sorted(stack.peers("v2", "v3"))
        assert stack.counters("v1")["hello.refused.N6"] >= 1
        await stack.until_height(stack.top() + 3, "v1", "v2", "v3", FOLLOWER)
        assert stack.agree()


def false_head(change: Callable[[CertifiedHead], CertifiedHead]) -> Lie:
    async def lie(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
        head = record.from_bytes(CertifiedHead, await handler(peer, data), size_max=RPC_BODY_BYTES_MAX)
        return record.to_bytes(change(head))

    return lie


def higher(head: CertifiedHead) -> CertifiedHead:
    block = record.from_bytes(WorldBlock, head.block, size_max=len(head.block))
    data = record.to_bytes(attrs.evolve(block, height=U64(2**40)))
    told = attrs.evolve(head.head, height=U64(2**40), block_hash=hash32(data))
    return attrs.evolve(head, head=told, block=data)


FALSE_HEADS = {
    "H1": lambda head: attrs.evolve(head, head=attrs.evolve(head.head, world_id=WorldId("another"))),
    "H2": lambda head: attrs.evolve(head, head=attrs.evolve(head.head, height=U64(2**40))),
    "C2": higher,
}


@pytest.mark.parametrize("rule", FALSE_HEADS)
async def test_false_heads_move_nothing(tmp_path: Path, autojump_clock: object, rule: str) -> None:
    async with open_stack(tmp_path, specs(validators=3, observers=2)) as stack:
        for name in ("v1", "v2", "v3", LIAR):
            await stack.start(name)
        await stack.until_height(5)
        stack.network(LIAR).lie(rpc.HELLO, boasting)
        stack.network(LIAR).lie(rpc.GET_WORLD_HEAD, false_head(FALSE_HEADS[rule]))
        await stack.start(FOLLOWER)
        await stack.until(
            lambda: any(name.startswith("sync.head_wrong.") for name in stack.counters(FOLLOWER)), "lies were seen"
        )
        if not rule.startswith("C"):
            assert stack.counters(FOLLOWER)[f"sync.head_wrong.{rule}"] >= 1
        await stack.until_height(stack.top() + 2)
        assert stack.status(FOLLOWER)["consensus"]["network_committed_height"] < 2**40
        assert stack.agree()


async def test_gossip_of_garbage_and_of_false_announcements_is_rejected(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=3, observers=1)) as stack:
        await stack.start_all()
        await stack.until_height(2)
        liar = stack.hub.node(stack.members["o1"].peer_id)
        world = stack.genesis.world_id
        announce = BlockAnnounce(
            world_id=world, height=U64(2**63), block_hash=Hash32(bytes(32)), prev_block_hash=Hash32(bytes(32)),
            event_root=Hash32(bytes(32)), state_root=Cid(cid_of(b"").codec, cid_of(b"").digest),
            timestamp_ms=stack.node("o1").ledger.head.timestamp_ms,
        )  # fmt: skip
        for kind in ("action", "head", "block", "consensus.proposal", "consensus.attestation"):
            await liar.publish(rpc.topic(world, kind), b"\x00garbage")
        await liar.publish(rpc.topic(world, "block"), record.to_bytes(announce))
        await stack.until(lambda: stack.counters("v1").get("net.gossip_reject", 0) >= 5, "garbage was rejected")
        assert stack.counters("v1")["net.gossip_ignore"] >= 1
        await stack.until_height(stack.top() + 3)


async def other_bytes(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
    answer = record.from_bytes(FetchBlobsResponse, await handler(peer, data), size_max=RPC_BODY_BYTES_MAX)
    wrong = tuple(None if blob is None else blob[:-1] + bytes([blob[-1] ^ 1]) for blob in answer.blobs)
    return record.to_bytes(FetchBlobsResponse(blobs=wrong))


@pytest.mark.parametrize("lie", [other_bytes, garbage, silence], ids=["other", "garbage", "silence"])
async def test_bodies_of_a_proposal_come_from_another_peer(tmp_path: Path, autojump_clock: object, lie: Lie) -> None:
    """Without gossip and repair a proposal's bodies have to be fetched, and one validator gives no right ones."""

    async def keeps_to_itself(_handler: RequestHandler, _peer: PeerId, _data: bytes) -> bytes:
        raise Refused(ErrorCode.UNSUPPORTED, "get_pending is not served here")

    async with open_stack(tmp_path, specs(validators=4), link=LinkSettings(gossip_loss=1.0)) as stack:
        await stack.start_all()
        for name in stack.members:
            stack.network(name).lie(rpc.GET_PENDING, keeps_to_itself)
        stack.network("v1").lie(rpc.FETCH_BLOBS, lie)
        await found_people(stack, "v2")
        action_ids = [stack.submit("v2", make_key("alice"), pay("bob", 1)) for _ in range(5)]
        await applied(stack, "v2", *action_ids)
        await stack.until_height(stack.top())
        assert balances(stack, "v4") == {"alice": 95, "bob": 5}
        assert sum(stack.counters(name).get("consensus.bodies_fetched", 0) for name in stack.members) > 0
        assert stack.agree()


async def test_a_refusal_is_no_lie(tmp_path: Path, autojump_clock: object) -> None:
    async def not_here(_handler: RequestHandler, _peer: PeerId, _data: bytes) -> bytes:
        raise Refused(ErrorCode.NOT_FOUND, "pruned", rule="B5")

    async with open_stack(tmp_path, specs(validators=3, observers=2)) as stack:
        await behind_a_liar(stack, rpc.GET_BLOCKS, not_here)
        await stack.until(lambda: stack.counters(FOLLOWER).get(f"sync.refused.{ErrorCode.NOT_FOUND}", 0) >= 3, "asked")
        assert stack.status(FOLLOWER)["last_error"] is None
        assert "sync.wrong_blocks" not in stack.counters(FOLLOWER)
        stack.hub.heal()
        await stack.until_height(stack.top(), FOLLOWER)

"""What a neighbour's messages do to its standing, and what is judged how often."""

from __future__ import annotations

from typing import Any

import trio
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX

from agent_world.net.gossip_score import GRAYLIST_THRESHOLD
from agent_world.net.interface import Verdict
from agent_world.net.libp2p.gossip import MESHSUB
from agent_world.net.libp2p.host import library_id
from agent_world.net.libp2p.streams import framed
from agent_world.wire.ids import PeerId

TOPIC = "aw.w.action"
VERDICTS = {b"bad": Verdict.REJECT, b"stale": Verdict.IGNORE}


class Forwarder:
    """A raw neighbour that sends whatever it likes."""

    def __init__(self, host: Any, stream: Any) -> None:
        self._host = host
        self._stream = stream
        self._seqno = 0

    def message(self, data: bytes) -> Any:
        self._seqno += 1
        message = rpc_pb2.Message(
            data=data,
            topicIDs=[TOPIC],
            from_id=ID.from_string(self._host.peer_id).to_bytes(),
            seqno=self._seqno.to_bytes(8, "big"),
        )
        signed = PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString()
        message.signature = self._host.inner.get_private_key().sign(signed)
        message.key = self._host.inner.get_public_key().serialize()
        return message

    async def send(self, *messages: Any) -> None:
        for message in messages:
            await self._stream.write(framed(rpc_pb2.RPC(publish=[message]).SerializeToString()))


async def standing(node: Any, until: Any, host: Any, join: Any) -> tuple[Any, Forwarder, list[bytes], list[Any]]:
    judged: list[bytes] = []
    blamed: list[tuple[PeerId, str]] = []

    def judge(_source: PeerId, data: bytes) -> Verdict:
        judged.append(data)
        return VERDICTS.get(data, Verdict.ACCEPT)

    node._gossip.offence = lambda peer, kind: blamed.append((peer, kind))
    inbox = await node.subscribe(TOPIC, judge)
    await join(host, node)
    return inbox, Forwarder(host, await host.open_stream(node.peer_id, MESHSUB)), judged, blamed


def score(node: Any, host: Any) -> float:
    return float(node._gossip.score_of(library_id(host.peer_id)))


async def test_a_stale_message_costs_nobody_anything_and_is_judged_once(
    networks: Any, stranger: Any, join: Any, until: Any
) -> None:
    async with networks(1) as (node,), stranger() as host:
        inbox, forwarder, judged, blamed = await standing(node, until, host, join)
        stale = forwarder.message(b"stale")
        await forwarder.send(*[stale] * 20, forwarder.message(b"good"))
        with trio.fail_after(30):
            assert (await anext(inbox)).data == b"good"
        assert judged == [b"stale", b"good"]
        assert blamed == []
        assert score(node, host) > 0
        assert node.counters()["gossip_duplicate"] == 19


async def test_who_brings_invalid_messages_is_blamed_and_then_not_heard(
    networks: Any, stranger: Any, join: Any, until: Any
) -> None:
    async with networks(1) as (node,), stranger() as host:
        inbox, forwarder, judged, blamed = await standing(node, until, host, join)
        await forwarder.send(*[forwarder.message(b"bad") for _ in range(9)])
        await until(lambda: node.counters().get("gossip_reject") == 9)
        assert blamed == [(host.peer_id, "gossip_invalid")] * 9
        assert score(node, host) < GRAYLIST_THRESHOLD
        await forwarder.send(forwarder.message(b"good"))
        await until(lambda: node.counters().get("gossip_graylisted") == 1)
        assert judged == [b"bad"] * 9
        assert inbox.drain() == []


async def test_the_forwarder_answers_for_a_forged_signature_and_the_true_message_is_heard_still(
    networks: Any, stranger: Any, join: Any, until: Any
) -> None:
    async with networks(1) as (node,), stranger() as host:
        inbox, forwarder, judged, blamed = await standing(node, until, host, join)
        true = forwarder.message(b"true")
        forged = rpc_pb2.Message()
        forged.CopyFrom(true)
        forged.data = b"forged"
        await forwarder.send(forged, true)
        with trio.fail_after(30):
            assert (await anext(inbox)).data == b"true"
        assert judged == [b"true"]
        assert blamed == [(host.peer_id, "gossip_unsigned")]
        assert node.counters()["gossip_unsigned"] == 1


async def test_own_messages_that_come_back_are_dropped(networks: Any, stranger: Any, join: Any, until: Any) -> None:
    async with networks(1) as (node,), stranger() as host:
        inbox, forwarder, _judged, blamed = await standing(node, until, host, join)
        service = node._gossip._service
        own = rpc_pb2.Message(data=b"own", topicIDs=[TOPIC], from_id=service.my_id.to_bytes(), seqno=bytes(8))
        own.signature = service.sign_key.sign(PUBSUB_SIGNING_PREFIX.encode() + own.SerializeToString())
        own.key = node.host.inner.get_public_key().serialize()
        await forwarder.send(own)
        await until(lambda: node.counters().get("gossip_own_returned") == 1)
        assert inbox.drain() == []
        assert blamed == []

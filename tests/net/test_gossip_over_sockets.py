import logging
from typing import Any

import pytest
import trio
from libp2p.crypto.secp256k1 import create_new_key_pair as create_secp256k1
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub_notifee import PubsubNotifee
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX

from agent_world.config import MINIMAL
from agent_world.errors import LocalError
from agent_world.net.interface import GossipMessage, Verdict
from agent_world.net.libp2p.gossip import MESHSUB
from agent_world.net.libp2p.host import Host
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.net.libp2p.streams import framed
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import GOSSIP_BYTES_MAX

TOPIC = "aw.w.head"


def accept(_source: PeerId, _data: bytes) -> Verdict:
    return Verdict.ACCEPT


async def mesh(until: Any, *pairs: tuple[Any, Any], topic: str = TOPIC) -> None:
    """Wait until the second of each pair is known to the first as a subscriber."""
    for one, other in pairs:
        service = one._gossip._service
        await until(
            lambda service=service, other=other: (
                other.peer_id in [peer.to_base58() for peer in service.peer_topics.get(topic, ())]
            )
        )


async def test_a_message_goes_over_a_node_between(networks: Any, until: Any) -> None:
    async with networks(3) as (one, two, three):
        inboxes = [await node.subscribe(TOPIC, accept) for node in (one, two, three)]
        await mesh(until, (one, two), (two, three))
        await one.publish(TOPIC, b"news")
        with trio.fail_after(30):
            for inbox in inboxes[1:]:
                assert await anext(inbox) == GossipMessage(TOPIC, one.peer_id, b"news")
        assert inboxes[0].drain() == []
        assert three.counters()["gossip_accept"] == 1


@pytest.mark.parametrize("verdict", [Verdict.IGNORE, Verdict.REJECT])
async def test_what_is_not_accepted_is_not_forwarded(verdict: Verdict, networks: Any, until: Any) -> None:
    async with networks(3) as (one, two, three):

        def judge(_source: PeerId, data: bytes) -> Verdict:
            return verdict if data == b"bad" else Verdict.ACCEPT

        middle = await two.subscribe(TOPIC, judge)
        last = await three.subscribe(TOPIC, accept)
        await mesh(until, (one, two), (two, three))
        await one.publish(TOPIC, b"bad")
        await one.publish(TOPIC, b"good")
        with trio.fail_after(30):
            assert (await anext(last)).data == b"good"
            assert (await anext(middle)).data == b"good"
        assert last.drain() == middle.drain() == []
        assert two.counters()[f"gossip_{verdict.value}"] == 1


async def test_validators_see_the_publisher_also_through_a_forwarder(networks: Any, until: Any) -> None:
    async with networks(3) as (one, two, three):
        judged: list[PeerId] = []

        def judge(source: PeerId, _data: bytes) -> Verdict:
            judged.append(source)
            return Verdict.ACCEPT

        await two.subscribe(TOPIC, accept)
        inbox = await three.subscribe(TOPIC, judge)
        await mesh(until, (one, two), (two, three))
        await one.publish(TOPIC, b"x")
        with trio.fail_after(30):
            await anext(inbox)
        assert judged == [one.peer_id]


async def test_each_subscriber_has_an_inbox_and_all_must_accept(networks: Any, until: Any) -> None:  # K-1.5
    async with networks(2) as (one, two):
        first = await two.subscribe(TOPIC, accept)
        second = await two.subscribe(TOPIC, lambda _source, data: Verdict.IGNORE if data == b"no" else Verdict.ACCEPT)
        await mesh(until, (one, two))
        await one.publish(TOPIC, b"no")
        await one.publish(TOPIC, b"yes")
        with trio.fail_after(30):
            assert (await anext(first)).data == (await anext(second)).data == b"yes"


async def test_a_validator_that_fails_is_no_verdict(
    networks: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with networks(2) as (one, two):
        calls = 0

        def judge(_source: PeerId, _data: bytes) -> Verdict:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise ZeroDivisionError
            return Verdict.ACCEPT

        inbox = await two.subscribe(TOPIC, judge)
        await mesh(until, (one, two))
        with caplog.at_level(logging.CRITICAL):
            await one.publish(TOPIC, b"1")
            await one.publish(TOPIC, b"2")
            with trio.fail_after(30):
                assert (await anext(inbox)).data == b"2"
        assert two.counters()["gossip_validator_failed"] == 1


async def test_sizes(networks: Any, until: Any) -> None:
    """T-8.17: what is larger than a datagram is delivered, and what is too large is refused loudly at both ends."""
    async with networks(2) as (one, two):
        inbox = await two.subscribe(TOPIC, accept)
        await mesh(until, (one, two))
        with pytest.raises(LocalError):
            await one.publish(TOPIC, bytes(GOSSIP_BYTES_MAX + 1))
        await one._gossip._service.publish(TOPIC, bytes(GOSSIP_BYTES_MAX + 1))  # a publisher without that check
        await one.publish(TOPIC, bytes(GOSSIP_BYTES_MAX))
        with trio.fail_after(30):
            assert len((await anext(inbox)).data) == GOSSIP_BYTES_MAX
        assert two.counters()["gossip_reject"] == 1


async def test_a_burst_arrives_whole_and_in_order(networks: Any, until: Any) -> None:
    async with networks(2) as (one, two):
        inbox = await two.subscribe(TOPIC, accept)
        await mesh(until, (one, two))
        for number in range(1_000):
            await one.publish(TOPIC, number.to_bytes(4, "big"))
        with trio.fail_after(30):
            got = [int.from_bytes((await anext(inbox)).data, "big") for _ in range(1_000)]
        assert got == list(range(1_000))


async def test_a_publisher_need_not_be_subscribed_and_a_late_subscriber_joins(networks: Any, until: Any) -> None:
    async with networks(2) as (one, two):
        inbox = await two.subscribe(TOPIC, accept)
        await mesh(until, (one, two))
        await one.publish(TOPIC, b"1")
        late = await one.subscribe(TOPIC, accept)
        await mesh(until, (two, one))
        await two.publish(TOPIC, b"2")
        with trio.fail_after(30):
            assert (await anext(inbox)).data == b"1"
            assert (await anext(late)).data == b"2"


def signed(data: bytes, key_pair: Any, *, seqno: int = 1) -> Any:
    message = rpc_pb2.Message(
        data=data,
        topicIDs=[TOPIC],
        from_id=ID.from_pubkey(key_pair.public_key).to_bytes(),
        seqno=seqno.to_bytes(8, "big"),
    )
    message.signature = key_pair.private_key.sign(PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString())
    message.key = key_pair.public_key.serialize()
    return message


async def gossip_stream(host: Any, node: Any) -> Any:
    return await host.open_stream(node.peer_id, MESHSUB)


async def test_only_ed25519_publishers_are_heard(networks: Any, stranger: Any, join: Any, until: Any) -> None:
    async with networks(1) as (node,), stranger() as host:
        inbox = await node.subscribe(TOPIC, accept)
        await join(host, node)
        stream = await gossip_stream(host, node)
        foreign = signed(b"foreign", create_secp256k1())
        own = type("Pair", (), {"private_key": host.inner.get_private_key(), "public_key": host.inner.get_public_key()})
        await stream.write(framed(rpc_pb2.RPC(publish=[foreign, signed(b"ours", own)]).SerializeToString()))
        with trio.fail_after(30):
            assert (await anext(inbox)).data == b"ours"
        assert node.counters()["gossip_reject"] == 1


async def test_forged_and_unsigned_messages_are_not_heard(networks: Any, stranger: Any, join: Any, until: Any) -> None:
    async with networks(1) as (node,), stranger() as host:
        inbox = await node.subscribe(TOPIC, accept)
        await join(host, node)
        stream = await gossip_stream(host, node)
        own = type("Pair", (), {"private_key": host.inner.get_private_key(), "public_key": host.inner.get_public_key()})
        changed = signed(b"true", own)
        changed.data = b"false"
        unsigned = signed(b"unsigned", own, seqno=2)
        unsigned.ClearField("signature")
        claimed = signed(b"claimed", own, seqno=3)
        claimed.from_id = ID.from_string(node.peer_id).to_bytes()
        two_topics = signed(b"two", own, seqno=4)
        two_topics.topicIDs.append("aw.w.block")
        good = signed(b"good", own, seqno=5)
        for message in (changed, unsigned, claimed, two_topics, good):
            await stream.write(framed(rpc_pb2.RPC(publish=[message]).SerializeToString()))
        with trio.fail_after(30):
            assert (await anext(inbox)).data == b"good"
        assert inbox.drain() == []


async def test_the_mesh_of_a_hub_is_never_pruned(networks: Any, until: Any) -> None:
    """A pruned neighbour hears nothing until its back-off ends; the library prunes above 12."""
    leaves_count = 14
    async with networks(1) as (hub,), networks(leaves_count, line=False) as leaves:
        await hub.subscribe(TOPIC, accept)
        inboxes = [await leaf.subscribe(TOPIC, accept) for leaf in leaves]
        for leaf in leaves:
            leaf.dial(hub.peer_id, hub.listen_addresses()[0])
        router = hub._gossip._service.router
        await until(lambda: len(router.mesh.get(TOPIC, ())) == leaves_count)
        _grafts, prunes = router.mesh_heartbeat()
        assert not prunes
        assert len(router.mesh[TOPIC]) == leaves_count
        await hub.publish(TOPIC, b"to all")
        with trio.fail_after(30):
            for inbox in inboxes:
                assert (await anext(inbox)).data == b"to all"


async def test_gossip_runs_before_anybody_can_connect(new_key: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection made before hangs, and not even a deadline ends it."""
    started: list[bool] = []
    listen = Host.listen

    async def spy(self: Host, addresses: tuple[str, ...]) -> None:
        queues = [told.initiator_peers_queue for told in self.network.notifees if isinstance(told, PubsubNotifee)]
        # New connections wait until somebody takes them from here.
        started.append([queue.statistics().tasks_waiting_receive for queue in queues] == [1])
        await listen(self, addresses)

    monkeypatch.setattr(Host, "listen", spy)
    async with Libp2pNetwork.open(MINIMAL.net, new_key()):
        assert started == [True]

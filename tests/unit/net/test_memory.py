import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from agent_world.config import NetConfig
from agent_world.errors import LocalError, Refused, UsageError
from agent_world.net.interface import PeerDown, PeerUp, Verdict
from agent_world.net.memory import InMemoryNetwork, LinkSettings
from agent_world.net.memory_node import InMemoryNode
from agent_world.wire.ids import PeerId, PublicKey, peer_id_of

CONFIG = NetConfig(redial_min_s=0.1, redial_max_s=1)
TOPIC = "aw.w.head"


def peer(number: int) -> PeerId:
    return peer_id_of(PublicKey(bytes([number]) * 32))


def accept(_source: PeerId, _data: bytes) -> Verdict:
    return Verdict.ACCEPT


@asynccontextmanager
async def line_of(
    count: int, link: LinkSettings | None = None, *, seed: int = 1
) -> AsyncIterator[tuple[InMemoryNetwork, list[InMemoryNode]]]:
    """Nodes in a line, each connected with the next."""
    hub = InMemoryNetwork(random.Random(seed), link, config=CONFIG)
    async with hub.open():
        nodes = [hub.node(peer(number)) for number in range(count)]
        for node, following in itertools.pairwise(nodes):
            node.dial(following.peer_id, following.listen_addresses()[0])
        await trio.sleep(1)
        yield hub, nodes


async def test_nothing_happens_outside_the_scope() -> None:
    hub = InMemoryNetwork(random.Random(1))
    with pytest.raises(LocalError):
        hub.node(peer(1)).dial(peer(2), "/ip4/10.0.0.1/tcp/1")


async def test_gossip_goes_over_nodes_between(autojump_clock: object) -> None:
    async with line_of(4) as (_, nodes):
        inboxes = [await node.subscribe(TOPIC, accept) for node in nodes]
        await nodes[0].publish(TOPIC, b"news")
        await trio.sleep(1)
        heard = [[message.data for message in inbox.drain()] for inbox in inboxes]
        assert heard == [[], [b"news"], [b"news"], [b"news"]]  # not back to its publisher


@pytest.mark.parametrize("verdict", [Verdict.IGNORE, Verdict.REJECT])
async def test_what_is_not_accepted_is_not_forwarded(verdict: Verdict, autojump_clock: object) -> None:
    async with line_of(3) as (_, (first, middle, last)):
        middle_inbox = await middle.subscribe(TOPIC, lambda _source, _data: verdict)
        last_inbox = await last.subscribe(TOPIC, accept)
        await first.publish(TOPIC, b"bad")
        await trio.sleep(1)
        assert middle_inbox.drain() == last_inbox.drain() == []
        assert middle.counters()[f"gossip_{verdict.value}"] == 1


async def test_the_source_is_the_publisher_not_the_forwarder(autojump_clock: object) -> None:
    async with line_of(3) as (_, (first, middle, last)):
        judged: list[PeerId] = []

        def judge(source: PeerId, _data: bytes) -> Verdict:
            judged.append(source)
            return Verdict.ACCEPT

        await middle.subscribe(TOPIC, accept)
        inbox = await last.subscribe(TOPIC, judge)
        await first.publish(TOPIC, b"x")
        await trio.sleep(1)
        assert judged == [first.peer_id]
        assert [message.source for message in inbox.drain()] == [first.peer_id]


async def heard(link: LinkSettings, messages: int) -> list[int]:
    async with line_of(2, link) as (_, (one, other)):
        inbox = await other.subscribe(TOPIC, accept)
        for number in range(messages):
            await one.publish(TOPIC, number.to_bytes(2, "big"))
            await trio.sleep(0.01)
        await trio.sleep(5)
        return [int.from_bytes(message.data, "big") for message in inbox.drain()]


async def test_loss_duplicates_and_reorder_are_what_the_link_says(autojump_clock: object) -> None:
    numbers = list(range(400))
    assert await heard(LinkSettings(delay_max_s=0.005), 400) == numbers
    lossy = await heard(LinkSettings(gossip_loss=0.25), 400)
    assert 250 < len(lossy) < 350
    assert len(set(lossy)) == len(lossy)
    assert await heard(LinkSettings(gossip_loss=1), 20) == []
    doubled = await heard(LinkSettings(gossip_duplicate=0.25), 400)
    assert 450 < len(doubled) < 550
    assert sorted(set(doubled)) == numbers
    mixed = await heard(LinkSettings(gossip_reorder=0.5), 400)
    assert sorted(mixed) == numbers
    assert mixed != numbers


async def test_delay_is_within_the_link_s_bounds(autojump_clock: object) -> None:
    async with line_of(2, LinkSettings(delay_min_s=0.2, delay_max_s=0.3)) as (_, (one, other)):

        async def at_once(_peer: PeerId, _payload: bytes) -> bytes:
            return b""

        other.serve("/m", at_once)
        started = trio.current_time()
        await one.request(other.peer_id, "/m", b"")
        assert 0.4 <= trio.current_time() - started <= 0.6


async def test_one_link_may_differ(autojump_clock: object) -> None:
    async with line_of(3) as (hub, (one, two, three)):
        hub.set_link(two.peer_id, one.peer_id, LinkSettings(gossip_loss=1))
        inboxes = [await node.subscribe(TOPIC, accept) for node in (one, three)]
        await two.subscribe(TOPIC, accept)
        await two.publish(TOPIC, b"a")
        await trio.sleep(1)
        assert [len(inbox.drain()) for inbox in inboxes] == [0, 1]
        hub.set_link(one.peer_id, two.peer_id, None)
        await two.publish(TOPIC, b"b")
        await trio.sleep(1)
        assert [len(inbox.drain()) for inbox in inboxes] == [1, 1]


async def test_partition_cuts_and_heal_lets_kept_connections_come_back(autojump_clock: object) -> None:
    async with line_of(3) as (hub, (one, two, three)):
        events = one.peer_events()
        assert isinstance(await anext(events), PeerUp)
        hub.partition([one.peer_id], [two.peer_id, three.peer_id])
        assert await anext(events) == PeerDown(two.peer_id)
        await trio.sleep(10)
        assert one.peers() == []
        assert [info.peer for info in two.peers()] == [three.peer_id]
        hub.heal()
        await trio.sleep(CONFIG.redial_max_s + 0.1)
        assert [info.peer for info in one.peers()] == [two.peer_id]


async def test_who_is_in_no_group_reaches_nobody(autojump_clock: object) -> None:
    async with line_of(2) as (hub, (one, _)):
        hub.partition()
        await trio.sleep(5)
        assert one.peers() == []


async def test_a_removed_node_is_gone_and_a_new_one_of_its_id_is_fresh(autojump_clock: object) -> None:
    async with line_of(2) as (hub, (one, two)):
        inbox = await two.subscribe(TOPIC, accept)
        hub.remove(two.peer_id)
        hub.remove(two.peer_id)
        assert [message async for message in inbox] == []
        assert one.peers() == []
        again = hub.node(two.peer_id)
        assert again is not two
        assert again.listen_addresses() == two.listen_addresses()
        await trio.sleep(CONFIG.redial_max_s + 0.1)
        assert [info.peer for info in again.peers()] == [one.peer_id]


async def test_frames_of_a_broken_connection_never_reach_the_next_one(autojump_clock: object) -> None:
    async with line_of(2, LinkSettings(delay_min_s=0.5, delay_max_s=0.5)) as (hub, (one, two)):
        got: list[bytes] = []

        async def take(_peer: PeerId, payload: bytes) -> None:
            got.append(payload)

        two.on_message("votes", take)
        assert one.send(two.peer_id, "votes", b"lost")
        hub.disconnect(one.peer_id, two.peer_id)
        assert hub.connect(one.peer_id, two.peer_id, two.listen_addresses()[0])
        assert one.send(two.peer_id, "votes", b"arrives")
        await trio.sleep(2)
        assert got == [b"arrives"]


async def test_connection_loss_breaks_the_connection_and_it_comes_back(autojump_clock: object) -> None:
    async with line_of(2) as (hub, (one, two)):
        hub.set_link(one.peer_id, two.peer_id, LinkSettings(connection_loss=1))
        events = one.peer_events()
        assert isinstance(await anext(events), PeerUp)
        assert one.send(two.peer_id, "votes", b"x")
        assert isinstance(await anext(events), PeerDown)
        assert isinstance(await anext(events), PeerUp)


async def messages_over(hub: InMemoryNetwork, one: InMemoryNode, two: InMemoryNode, count: int) -> list[int]:
    got: list[int] = []

    async def take(_peer: PeerId, payload: bytes) -> None:
        got.append(int.from_bytes(payload, "big"))

    two.on_message("votes", take)
    for number in range(count):
        assert one.send(two.peer_id, "votes", number.to_bytes(2, "big"))
        await trio.sleep(0.1)
    await trio.sleep(1)
    return got


async def test_a_message_may_get_lost_alone(autojump_clock: object) -> None:
    async with line_of(2, LinkSettings(message_loss=0.25)) as (hub, (one, two)):
        got = await messages_over(hub, one, two, 400)
        assert 250 < len(got) < 350
        assert got == sorted(got)
        assert one.counters()["message_lost"] == 400 - len(got)
        assert hub.is_connected(one.peer_id, two.peer_id)


async def test_a_frame_sent_again_holds_up_what_comes_after_it(autojump_clock: object) -> None:
    stalls = LinkSettings(stall=0.5, stall_s=3.0)
    async with line_of(2, stalls) as (hub, (one, two)):
        got = await messages_over(hub, one, two, 40)
        await trio.sleep(3)
        assert got == list(range(40))

        async def at_once(_peer: PeerId, _payload: bytes) -> bytes:
            return b""

        two.serve("/m", at_once)
        took = []
        for _ in range(20):
            started = trio.current_time()
            await one.request(two.peer_id, "/m", b"")
            took.append(trio.current_time() - started)
        assert min(took) < 1
        assert max(took) > 3


async def test_pairs_that_are_apart_reach_each_other_by_nobody(autojump_clock: object) -> None:
    async with line_of(3) as (hub, (one, two, three)):
        hub.part([(two.peer_id, one.peer_id)])
        await trio.sleep(5)
        assert [info.peer for info in two.peers()] == [three.peer_id]
        hub.heal()
        await trio.sleep(CONFIG.redial_max_s + 0.1)
        assert [info.peer for info in one.peers()] == [two.peer_id]


async def test_what_meets_a_wall_waits_in_its_order_and_the_way_back_is_open(autojump_clock: object) -> None:
    async with line_of(2) as (hub, (one, two)):
        hub.wall([one.peer_id], [two.peer_id])
        assert await messages_over(hub, two, one, 3) == [0, 1, 2]
        got = await messages_over(hub, one, two, 3)
        assert got == []
        inbox = await two.subscribe(TOPIC, accept)
        await one.publish(TOPIC, b"lost")
        hub.heal()
        one.send(two.peer_id, "votes", b"\x07")
        await trio.sleep(1)
        assert got == [0, 1, 2, 7]
        assert inbox.drain() == []


async def test_nobody_connects_through_a_wall(autojump_clock: object) -> None:
    async with line_of(2) as (hub, (one, two)):
        hub.wall([two.peer_id], [one.peer_id])
        hub.disconnect(one.peer_id, two.peer_id)
        await trio.sleep(5)
        assert one.peers() == []
        hub.heal()
        await trio.sleep(CONFIG.redial_max_s + 0.1)
        assert [info.peer for info in one.peers()] == [two.peer_id]


def test_link_settings_are_checked() -> None:
    for wrong in ({"gossip_loss": 1.1}, {"delay_min_s": 1, "delay_max_s": 0.5}, {"reorder_s": -1}, {"stall": -0.1},
                  {"stall_s": -1}, {"message_loss": 2}):  # fmt: skip
        with pytest.raises(UsageError):
            LinkSettings(**wrong)


def busy_run(seed: int) -> str:
    """A partition, a crash, gossip and requests over bad links; the digest of all that happened."""

    async def answer(_peer: PeerId, payload: bytes) -> bytes:
        return payload

    async def ask(node: InMemoryNode, other: PeerId) -> None:
        for number in range(20):
            with suppress(Refused):
                await node.request(other, "/m", bytes([number]), timeout_s=0.05)

    async def main() -> str:
        link = LinkSettings(gossip_loss=0.1, gossip_duplicate=0.1, gossip_reorder=0.1, connection_loss=0.01)
        async with line_of(5, link, seed=seed) as (hub, nodes):
            for node in nodes:
                node.serve("/m", answer)
                await node.subscribe(TOPIC, accept)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, nodes[0], nodes[1].peer_id)
                for number in range(20):
                    await nodes[number % 5].publish(TOPIC, bytes([number]))
                    await trio.sleep(0.01)
                hub.partition([node.peer_id for node in nodes[:2]], [node.peer_id for node in nodes[2:]])
                await trio.sleep(1)
                hub.heal()
                hub.remove(nodes[4].peer_id)
            await trio.sleep(5)
            return hub.trace()

    run: Callable[..., str] = trio.run
    return run(main, clock=MockClock(autojump_threshold=0))


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=8)
def test_equal_seeds_give_equal_runs(seed: int) -> None:
    assert busy_run(seed) == busy_run(seed)
    assert busy_run(seed) != busy_run(seed + 1)

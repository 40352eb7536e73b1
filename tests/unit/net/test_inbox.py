import trio
from trio.testing import wait_all_tasks_blocked

from agent_world.config import NetConfig
from agent_world.net.inbox import IN_A_ROW_MAX, PEER_EVENTS_MAX, DropOldestQueue, Inbox, PeerFeed
from agent_world.net.interface import GossipMessage, PeerDown, PeerUp
from agent_world.wire.ids import PeerId

A, B = PeerId("a"), PeerId("b")


def filled(size_max: int, count: int) -> tuple[Inbox, list[int]]:
    drops: list[int] = []
    inbox = Inbox("t", size_max, lambda: drops.append(1))
    for number in range(1, count + 1):
        inbox.put(GossipMessage("t", A, str(number).encode()))
    return inbox, drops


def numbers(inbox: Inbox) -> list[int]:
    return [int(message.data) for message in inbox.drain()]


def test_inbox_of_two_keeps_the_last_two_of_three() -> None:  # T-1.4
    inbox, drops = filled(2, 3)
    assert numbers(inbox) == [2, 3]
    assert len(drops) == 1
    assert inbox.drain() == []


def test_default_bound_keeps_the_newest_1024() -> None:  # T-1.4, T-1.5, T-1.11
    bound = NetConfig().inbox_messages_max
    inbox, drops = filled(bound, bound + 8)
    survivors = numbers(inbox)
    assert bound == 1024
    assert len(drops) == 8
    assert survivors[0] == 9  # messages are numbered from 1 here, so this is number 8 from 0
    assert survivors == list(range(9, bound + 9))


def test_bound_zero_behaves_as_one() -> None:  # T-1.5
    inbox, _ = filled(0, 3)
    assert numbers(inbox) == [3]


async def test_how_many_wait() -> None:
    queue: DropOldestQueue[int] = DropOldestQueue(3, lambda: None)
    for number in range(5):
        queue.put(number)
    assert len(queue) == 3
    assert await anext(queue) == 2
    assert len(queue) == 2


async def test_reader_waits_then_gets_what_comes_in_order(autojump_clock: object) -> None:
    queue: DropOldestQueue[int] = DropOldestQueue(8, lambda: None)
    got: list[int] = []

    async def read() -> None:
        async for entry in queue:
            got.append(entry)  # noqa: PERF401 - each is looked at as it comes

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        queue.put(1)
        queue.put(2)
        await wait_all_tasks_blocked()
        assert got == [1, 2]
        queue.put(3)
        queue.close()
        queue.put(4)
    assert got == [1, 2, 3]  # what waited is read, what came after the close is not


async def test_close_ends_a_waiting_reader() -> None:
    queue: DropOldestQueue[int] = DropOldestQueue(8, lambda: None)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _read() -> None:
            assert [entry async for entry in queue] == []

        await wait_all_tasks_blocked()
        queue.close()


def test_feed_tells_a_new_reader_who_is_connected_and_then_each_change() -> None:
    feed = PeerFeed(lambda: None)
    feed.up(PeerUp(B, "/x", True))
    feed.up(PeerUp(A, "/y", False))
    events = feed.events()
    feed.up(PeerUp(A, "/second connection", True))
    feed.down(B)
    feed.down(B)
    assert events.drain() == [PeerUp(A, "/y", False), PeerUp(B, "/x", True), PeerDown(B)]


def test_feed_bounds_a_reader_that_reads_nothing_and_forgets_one_that_is_gone() -> None:
    drops: list[int] = []
    feed = PeerFeed(lambda: drops.append(1))
    events = feed.events()
    for _ in range(PEER_EVENTS_MAX):
        feed.up(PeerUp(A, "", True))
        feed.down(A)
    assert len(events.drain()) == PEER_EVENTS_MAX == len(drops)
    del events
    feed.up(PeerUp(A, "", True))
    assert len(drops) == PEER_EVENTS_MAX


async def test_a_reader_with_much_to_read_lets_others_go_now_and_then() -> None:
    queue: DropOldestQueue[int] = DropOldestQueue(1_000, lambda: None)
    for number in range(4 * IN_A_ROW_MAX):
        queue.put(number)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        for _ in range(4 * IN_A_ROW_MAX):
            await anext(queue)
        assert 2 <= turns <= 5
        nursery.cancel_scope.cancel()

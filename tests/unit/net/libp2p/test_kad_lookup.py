import random
from collections.abc import Sequence

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.net.libp2p import kad_lookup
from agent_world.net.libp2p.kad_lookup import NEAREST, Lookup, look_up


def distance(peer: int) -> int:
    return peer ^ 0x155


class World:
    """Peers that know a few others each, and the ones nearest to themselves."""

    def __init__(self, seed: int, count: int = 100, *, dead: float = 0.0) -> None:
        rng = random.Random(seed)
        self.peers = rng.sample(range(1 << 10), count)
        self.dead = {peer for peer in self.peers if rng.random() < dead}
        self.knows = {peer: rng.sample(self.peers, min(8, count)) for peer in self.peers}
        for peer in self.peers:
            self.knows[peer] += sorted(self.peers, key=lambda other: other ^ peer)[:4]
        self.asked: list[int] = []
        self.at_once = self.at_once_max = 0

    async def ask(self, peer: int) -> Sequence[int] | None:
        self.asked.append(peer)
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        await trio.sleep(5 if peer in self.dead else 0.1)
        self.at_once -= 1
        return None if peer in self.dead else sorted(self.knows[peer], key=distance)[:NEAREST]


async def find(world: World, timeout_s: float = 100) -> Lookup[int]:
    return await look_up(world.peers[:3], world.ask, distance, timeout_s=timeout_s)


async def test_the_nearest_are_found_and_nobody_is_asked_twice(autojump_clock: object) -> None:
    world = World(1)
    found = await find(world)
    assert found.nearest[0] == min(world.peers, key=distance)
    assert found.complete
    assert found.failed == 0
    assert list(found.nearest) == sorted(found.nearest, key=distance)
    assert len(found.nearest) == NEAREST
    assert len(world.asked) == len(set(world.asked)) < 60
    assert world.at_once_max == kad_lookup.ASKED_AT_ONCE


async def test_the_dead_do_not_keep_it_from_the_living(autojump_clock: object) -> None:
    world = World(2, dead=0.3)
    world.dead.discard(world.peers[0])
    found = await find(world)
    assert found.complete
    assert found.failed > 0
    assert not world.dead & set(found.nearest)
    assert found.nearest[0] == min(set(world.peers) - world.dead, key=distance)


async def test_what_was_found_when_time_is_over_is_kept(autojump_clock: object) -> None:
    world = World(3)
    started = trio.current_time()
    found = await find(world, timeout_s=0.25)
    assert trio.current_time() - started == 0.25
    assert not found.complete
    assert found.answered == 3 + kad_lookup.ASKED_AT_ONCE


async def test_nobody_answers(autojump_clock: object) -> None:
    world = World(4)
    world.dead.update(world.peers)
    found = await find(world, timeout_s=3)
    assert (found.nearest, found.answered, found.complete) == ((), 0, False)
    found = await find(world, timeout_s=30)
    assert (found.answered, found.failed, found.complete) == (0, 3, True)
    assert (await look_up([], world.ask, distance, timeout_s=1)).complete


async def test_enough_ends_it(autojump_clock: object) -> None:
    world = World(5)
    found = await look_up(
        world.peers[:3], world.ask, distance, timeout_s=100, enough=lambda: len(world.asked) > 5
    )  # fmt: skip
    assert not found.complete
    assert len(world.asked) < 15


async def test_a_flood_of_names_is_bounded(autojump_clock: object) -> None:
    names = iter(range(1 << 40, 1 << 41))

    async def ask(peer: int) -> Sequence[int]:
        await trio.sleep(0.01)
        return [next(names) for _ in range(5_000)]

    found = await look_up([1], ask, distance, timeout_s=10)
    assert found.answered <= kad_lookup.CANDIDATES_MAX


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 5, 40]))
@settings(deadline=None, max_examples=20)
def test_any_swarm_gives_its_nearest(seed: int, count: int) -> None:
    world = World(seed, count)
    found = trio.run(find, world, clock=trio.testing.MockClock(autojump_threshold=0))
    # Everybody knows its own neighbourhood, so the place itself is always reached.
    assert found.complete
    assert found.answered >= min(count, 1)

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio

from agent_world.crypto.hashing import hash32
from agent_world.errors import AgentWorldError, ErrorCode, Refused
from agent_world.node.action_bodies import BODIES_TIMEOUT_S, ActionBodies
from agent_world.node.counters import Counters
from agent_world.testing.node_swarm import make_key
from agent_world.testing.stack_actions import register
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import PeerId, TimeMs, WorldId
from agent_world.world.admission import SignedAction, build_action, open_action

GENESIS, WORLD, OWN = hash32(b"genesis"), WorldId("w"), PeerId("12D3KooWown")


def action(number: int) -> SignedAction:
    data = build_action(make_key("alice"), GENESIS, WORLD, register("alice"), nonce=number, timestamp_ms=TimeMs(1))
    return open_action(data, WORLD, GENESIS)


ACTIONS = [action(number) for number in range(1, 4)]
IDS = [ContentHash(made.action_id) for made in ACTIONS]


class Around:
    """The pool, and peers that have some bodies."""

    def __init__(self, pool: list[SignedAction], at_peers: dict[ContentHash, bytes]) -> None:
        self.pool = {ContentHash(made.action_id): made for made in pool}
        self.at_peers = at_peers
        self.asked: list[list[ContentHash]] = []
        self.admitted: list[tuple[bytes, PeerId]] = []
        self.takes = True
        self.counters = Counters()
        ledger: Any = SimpleNamespace(world_id=WORLD, genesis_hash=GENESIS)
        pool_: Any = SimpleNamespace(get=self.pool.get, admit=self.admit)
        peering: Any = SimpleNamespace(validators=lambda: ["v"])
        fetcher: Any = SimpleNamespace(peers=lambda first: first, fetch=self.fetch)
        self.bodies = ActionBodies(ledger, pool_, peering, fetcher, OWN, self.counters)

    def admit(self, data: bytes, *, source: PeerId) -> None:
        self.admitted.append((data, source))
        if not self.takes:
            raise Refused(ErrorCode.BUSY, "the pool is full")

    async def fetch(self, wanted: list[ContentHash], _peers: object, **_times: float) -> dict[ContentHash, bytes]:
        self.asked.append(wanted)
        if not self.at_peers:
            await trio.sleep_forever()
        return {item: self.at_peers[item] for item in wanted if item in self.at_peers}


async def test_what_the_pool_has_is_not_asked_for_and_stays_until_the_height_ends() -> None:
    around = Around(ACTIONS, {})
    assert await around.bodies.get(IDS) == ACTIONS
    around.pool.clear()
    assert around.bodies.here(IDS[::-1]) == ACTIONS[::-1]
    assert around.bodies.kept(IDS[0]) == ACTIONS[0].data
    assert around.asked == []
    around.bodies.clear()
    assert (around.bodies.here(IDS), around.bodies.kept(IDS[0]), around.bodies.missing(IDS)) == (None, None, IDS)


@pytest.mark.parametrize("takes", [True, False])
async def test_what_is_missing_is_fetched_and_offered_to_the_pool(takes: bool) -> None:
    around = Around(ACTIONS[:1], {item: made.data for item, made in zip(IDS, ACTIONS, strict=True)})
    around.takes = takes
    assert await around.bodies.get(IDS) == ACTIONS
    assert around.asked == [IDS[1:]]
    assert around.admitted == [(made.data, OWN) for made in ACTIONS[1:]]
    assert around.counters["consensus.bodies_fetched"] == 2


async def test_a_body_that_nobody_has() -> None:
    around = Around(ACTIONS[:1], {IDS[1]: ACTIONS[1].data})
    assert await around.bodies.get(IDS) is None
    assert around.bodies.missing(IDS) == IDS[2:]


async def test_silent_peers_are_not_waited_for(autojump_clock: object) -> None:
    started = trio.current_time()
    assert await Around([], {}).bodies.get(IDS) is None
    assert trio.current_time() - started == pytest.approx(BODIES_TIMEOUT_S)


async def test_a_body_that_is_no_action() -> None:
    around = Around([], {IDS[0]: b"none"})
    with pytest.raises(AgentWorldError):
        await around.bodies.get(IDS[:1])

from __future__ import annotations

import attrs

from agent_world.node.trimming import Candidate, surplus
from agent_world.wire.ids import PeerId

PLAIN = Candidate(peer=PeerId("x"), is_kept=False, is_greeted=True, score=0.0, served=5, connected_s=100.0)


def crowd(**changed: dict[str, object]) -> list[Candidate]:
    return [attrs.evolve(PLAIN, peer=PeerId(name), **changes) for name, changes in changed.items()]


def test_nobody_goes_while_there_is_room() -> None:
    assert surplus(crowd(a={}, b={}, c={}), above=3, down_to=1) == ()


def test_the_least_useful_go_first() -> None:
    peers = crowd(
        asked_less={"served": 1},
        plain={},
        bad={"score": -5.0},
        stranger={"is_greeted": False},
        late={"connected_s": 1.0},
    )
    assert surplus(peers, above=4, down_to=1) == ("stranger", "bad", "asked_less", "late")
    assert surplus(peers, above=4, down_to=4) == ("stranger",)


def test_kept_peers_stay_even_if_too_many_are_left() -> None:
    peers = crowd(a={"is_kept": True, "score": -50.0}, b={"is_kept": True, "is_greeted": False}, c={})
    assert surplus(peers, above=2, down_to=1) == ("c",)

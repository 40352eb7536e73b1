"""Which claims a planner believes, and how soon one that lies is found out."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
import trio
from keepers import named, peer

from agent_world.distfs.providers import ProviderRecord
from agent_world.errors import ErrorCode, Refused
from agent_world.node import replica_checks
from agent_world.node.replica_checks import (
    AGAIN_MAX,
    CHECKS_MAX,
    CHECKS_S,
    CLOSER_MAX,
    CLOSER_PEERS_MAX,
    Claim,
    ClaimChecks,
)
from agent_world.node.replica_outside import Outside
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId

A, B, C, D = (peer(number) for number in range(4))


class Checking:
    """Peers that pass, unless ``outcomes`` has something else of the peer or the claim."""

    def __init__(self, seed: int = 1) -> None:
        self.outcomes: dict[Any, str | Exception | float] = {}
        self.suspected: dict[PeerId, list[str]] = {}
        self.asked: Counter[Claim] = Counter()
        self.checks = ClaimChecks(
            Outside(
                describe=lambda peer: ProviderRecord(provider_id=peer, last_seen_ms=0),
                suspects=lambda peer: self.suspected.get(peer, []),
                challenge=self._challenge,
                providers=None,  # type: ignore[arg-type]
                random=Random(seed),
            )
        )
        self.counters = self.checks.counters

    async def _challenge(self, peer: PeerId, cid: Cid) -> dict[str, Any]:
        self.asked[peer, cid] += 1
        await trio.lowlevel.checkpoint()
        outcome = self.outcomes.get((peer, cid), self.outcomes.get(peer, "passed"))
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, float):
            await trio.sleep(outcome)
            outcome = "failed"
        return {"outcome": outcome}

    async def doubted(self, claims: list[Claim]) -> set[Claim]:
        self.asked.clear()
        return await self.checks.doubted(claims)


def claims_of(*peers: PeerId, count: int) -> list[Claim]:
    return [(peer, named(number)) for peer in sorted(peers) for number in range(count)]


async def test_a_bounded_number_of_claims_is_checked_in_a_round(autojump_clock: object) -> None:
    made = Checking()
    claims = claims_of(A, B, C, count=50)
    assert await made.doubted(claims) == set()
    assert sum(made.asked.values()) == len(made.asked) == CHECKS_MAX
    assert made.counters["replicas.checked.passed"] == CHECKS_MAX
    assert await made.doubted([]) == set()
    assert await made.doubted(claims[:3]) == set()
    assert sum(made.asked.values()) == 3


@pytest.mark.parametrize("outcome", ["failed", "not_kept"])
async def test_a_claim_that_was_not_made_good_counts_no_more_until_it_is(autojump_clock: object, outcome: str) -> None:
    made = Checking()
    claims = claims_of(A, B, count=2)
    made.outcomes[claims[0]] = outcome
    for _ in range(3):
        assert await made.doubted(claims) == {claims[0]}
        assert made.asked[claims[0]] == 1, "it is asked again, once a round"
    made.outcomes.clear()
    assert await made.doubted(claims) == set()
    assert await made.doubted(claims) == set()


@pytest.mark.parametrize("outcome", ["offline", "contained", Refused(ErrorCode.NOT_AVAILABLE, "nothing to ask")])
async def test_who_gives_no_answer_is_not_doubted_for_it(autojump_clock: object, outcome: Any) -> None:
    made = Checking()
    made.outcomes[A] = outcome
    claims = claims_of(A, B, count=2)
    assert await made.doubted(claims) == set()
    name = outcome if isinstance(outcome, str) else "not_asked.ERR_NOT_AVAILABLE"
    assert dict(made.counters) == {"replicas.checked.passed": 2, f"replicas.checked.{name}": 2}


@pytest.mark.parametrize("outcome", ["offline", Refused(ErrorCode.NOT_AVAILABLE, "nothing to ask")])
async def test_and_not_believed_again_for_it(autojump_clock: object, outcome: Any) -> None:
    made = Checking()
    claims = claims_of(A, B, count=2)
    made.outcomes[claims[0]] = "failed"
    assert await made.doubted(claims) == {claims[0]}
    made.outcomes[claims[0]] = outcome
    assert await made.doubted(claims) == {claims[0]}


async def test_who_is_slow_is_not_doubted_and_holds_up_a_round_for_so_long(autojump_clock: object) -> None:
    made = Checking()
    claims = claims_of(A, B, count=2)
    made.outcomes[A] = CHECKS_S + 1
    made.outcomes[claims[2]] = "failed"
    started = trio.current_time()
    assert await made.doubted(claims) == {claims[2]}
    assert trio.current_time() - started == pytest.approx(CHECKS_S)


async def test_what_the_challenger_suspects_does_not_count_until_it_is_shown(autojump_clock: object) -> None:
    made = Checking()
    claims = claims_of(A, B, count=2)
    made.suspected[A] = [str(claims[1][1])]
    made.outcomes[claims[1]] = "offline"
    assert await made.doubted(claims) == {claims[1]}
    made.outcomes.clear()
    assert await made.doubted(claims) == set()


async def test_of_what_does_not_count_a_bounded_number_is_asked_again(autojump_clock: object) -> None:
    made = Checking()
    claims = claims_of(A, count=20)
    made.suspected[A] = [str(cid) for _peer, cid in claims]
    made.outcomes[A] = "offline"
    assert await made.doubted(claims) == set(claims)
    assert sum(made.asked.values()) == AGAIN_MAX
    made.outcomes.clear()
    assert len(await made.doubted(claims)) == len(claims) - AGAIN_MAX


async def test_who_holds_nothing_of_what_it_says_is_found_out_at_once(autojump_clock: object) -> None:
    """The first challenge that it fails leads to a closer look at it, and then all its claims count no more."""
    made = Checking()
    claims = claims_of(A, B, C, D, count=40)
    made.outcomes[A] = "failed"
    rounds = 0
    while not (doubted := await made.doubted(claims)):
        rounds += 1
        assert rounds < 10
    assert doubted == {claim for claim in claims if claim[0] == A}
    assert made.counters["replicas.distrusted"] == 1


@pytest.mark.parametrize(("peers", "rounds"), [(5, 1.2), (32, 4.5)])
async def test_the_expected_time_until_a_liar_is_found(autojump_clock: object, peers: int, rounds: float) -> None:
    """As docs/storage.md says: 1 / (1 - (1 - 1/n) ** 8) rounds among n holders with as much each."""
    names = [peer(number) for number in range(peers)]
    claims = [(name, named(number)) for name in sorted(names) for number in range(384 // peers)]
    taken, times = 0, 60
    for seed in range(times):
        made = Checking(seed)
        made.outcomes[names[0]] = "failed"
        while not await made.doubted(claims):
            taken += 1
        taken += 1
    assert 1 / (1 - (1 - 1 / peers) ** CHECKS_MAX) == pytest.approx(rounds, abs=0.05)
    assert taken / times == pytest.approx(rounds, rel=0.25)


async def test_who_has_lost_one_content_is_believed_the_others(autojump_clock: object) -> None:
    for seed in range(30):
        made = Checking(seed)
        claims = claims_of(A, B, count=20)
        made.outcomes[claims[0]] = "failed"
        for _ in range(20):
            assert await made.doubted(claims) <= {claims[0]}
        assert "replicas.distrusted" not in made.counters


async def test_the_closer_look_is_bounded_and_repeats_no_question(autojump_clock: object) -> None:
    made = Checking()
    names = [peer(number) for number in range(CLOSER_PEERS_MAX + 6)]
    claims = claims_of(*names, count=20)
    made.outcomes |= dict.fromkeys(names, "failed")
    await made.doubted(claims)
    assert max(made.asked.values()) == 1
    assert sum(made.asked.values()) <= CHECKS_MAX + CLOSER_PEERS_MAX * CLOSER_MAX
    await made.doubted(claims)
    assert sum(made.asked.values()) <= AGAIN_MAX + CHECKS_MAX + 2 * CLOSER_PEERS_MAX * CLOSER_MAX


async def test_trust_comes_back_when_what_is_asked_for_is_shown(autojump_clock: object) -> None:
    made = Checking()
    claims = claims_of(A, count=30)
    made.outcomes[A] = "failed"
    assert await made.doubted(claims) == set(claims)
    void = set(made.checks._void)
    made.outcomes[A] = "offline"
    assert await made.doubted(claims) == set(claims), "silence shows nothing"
    made.outcomes[A] = "passed"
    left = await made.doubted(claims)
    assert left < void, "only what it has failed for is still in doubt"
    assert made.counters["replicas.trusted_again"] == 1
    for _ in range(len(void)):
        left = await made.doubted(claims)
    assert left == set()


@pytest.mark.parametrize(
    ("failed", "passed", "is_distrusted"),
    [(1, 0, False), (1, 5, False), (2, 0, True), (2, 2, True), (2, 3, False), (3, 4, False), (4, 4, True)],
)
async def test_how_much_is_too_much(autojump_clock: object, failed: int, passed: int, is_distrusted: bool) -> None:
    """Of as many claims as are all checked, and some of which no answer comes."""
    made = Checking()
    claims = claims_of(A, count=CHECKS_MAX)
    outcomes = ["failed"] * failed + ["passed"] * passed + ["offline"] * (CHECKS_MAX - failed - passed)
    made.outcomes |= dict(zip(claims, outcomes, strict=True))
    await made.doubted(claims)
    assert (A in made.checks._distrusted) is is_distrusted


@pytest.mark.parametrize(
    ("outcomes", "is_trusted"),
    [(["passed"] + ["offline"] * 7, False), (["passed"] * 2 + ["offline"] * 6, True), (["passed"] * 8, True)],
)
async def test_how_much_brings_trust_back(autojump_clock: object, outcomes: list[str], is_trusted: bool) -> None:
    made = Checking()
    claims = claims_of(A, count=8)
    made.checks._distrusted[A] = None
    made.outcomes |= dict(zip(claims, outcomes, strict=True))
    for _ in range(1 if "offline" not in outcomes else 60):  # until the closer look has met those that pass
        await made.doubted(claims)
    assert (A not in made.checks._distrusted) is is_trusted


async def test_one_failure_more_brings_no_trust_back(autojump_clock: object) -> None:
    made = Checking()
    claims = claims_of(A, count=CLOSER_MAX)
    made.checks._distrusted[A] = None
    made.outcomes[claims[0]] = "failed"
    await made.doubted(claims)
    assert sum(made.asked.values()) == CLOSER_MAX
    assert A in made.checks._distrusted


async def test_what_a_distrusted_peer_shows_counts(autojump_clock: object) -> None:
    made = Checking()
    claims = claims_of(A, count=30)
    made.outcomes[A] = "failed"
    await made.doubted(claims)
    good = next(claim for claim in claims if claim not in made.checks._void)
    made.outcomes[good] = "passed"
    counted = 0
    for _ in range(100):
        doubted = await made.doubted(claims)
        assert set(claims) - doubted <= {good}
        counted += good not in doubted
        assert (good not in doubted) == (made.asked[good] == 1)
    assert counted
    assert A in made.checks._distrusted


async def test_what_is_remembered_is_bounded(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_checks, "VOID_MAX", 3)
    monkeypatch.setattr(replica_checks, "DISTRUSTED_MAX", 1)
    made = Checking()
    claims = claims_of(A, B, count=4)
    made.outcomes |= {A: "failed", B: "failed"}
    await made.doubted(claims)
    assert len(made.checks._void) == 3
    assert len(made.checks._distrusted) == 1
    assert made.counters["replicas.void_forgotten"] == 5
    assert made.counters["replicas.distrusted_forgotten"] == 1

"""The checkers can fail: with a rule broken on purpose, some seed reports what the rule is there to prevent."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from agent_world.consensus import engine, guard, height, validators
from agent_world.consensus.guard_records import SignRequest
from agent_world.testing.cluster import simulate
from agent_world.testing.sim_disk import Disk
from agent_world.wire.consensus import Step
from agent_world.wire.ids import Hash32

ADVERSARIAL = range(10, 310, 10)
ORDINARY = range(1, 41)


def first_violations(seeds: Iterable[int]) -> set[str]:
    """Invariants violated by the first seed that violates any."""
    for seed in seeds:
        found = {violation.invariant for violation in simulate(seed).violations}
        if found:
            return found
    return set()


def ignore_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(height.HeightRun, "_lock_allows", lambda *_: True)


def blind_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_check_same_height", lambda *_: None)


def test_an_engine_that_ignores_its_lock_forks_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    ignore_lock(monkeypatch)
    blind_guard(monkeypatch)
    assert first_violations(ADVERSARIAL) & {"I1", "I4"}


def test_the_guard_alone_keeps_such_an_engine_from_forking(monkeypatch: pytest.MonkeyPatch) -> None:
    ignore_lock(monkeypatch)
    report = [simulate(seed) for seed in list(ADVERSARIAL)[:8]]
    assert [item.violations for item in report] == [()] * 8
    assert sum(item.counters.get("not_safe", 0) for item in report) > 0


def test_an_engine_that_believes_any_valid_round_forks_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(self: height.HeightRun) -> bool:
        heard = self.book.at(self.round).proposal
        if self.step is not Step.PROPOSE or heard is None:
            return False
        valid_round = heard.proposal.valid_round
        allowed = self._lock_allows(heard.block_hash, valid_round)
        judged = self._is_valid(heard.block_hash, fresh=valid_round is None)
        if judged is None:
            return False
        self._prevote(heard.block_hash if judged and allowed else None, valid_round)
        return True

    monkeypatch.setattr(height.HeightRun, "_prevote_proposal", careless)
    assert first_violations(ADVERSARIAL)


def test_half_the_stake_is_no_quorum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validators, "required_stake", lambda total, *_: total // 2 + 1)
    assert first_violations(ADVERSARIAL) & {"I1", "I4"}


def test_a_guard_that_forgets_signs_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def start_afresh(self: Disk) -> guard.GuardState:
        self.guard_database, self.guard_twin = [], []
        return guard.GuardState()

    monkeypatch.setattr(Disk, "load_guard", start_afresh)
    found: set[str] = set()
    for seed in ORDINARY:
        found |= {violation.invariant for violation in simulate(seed).violations}
        if {"I3", "I8"} <= found:
            return
    raise AssertionError(found)


def test_signing_what_was_not_judged_commits_blocks_that_do_not_execute(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(self: height.HeightRun, block_hash: Hash32, *, fresh: bool) -> bool | None:
        return True if block_hash in self.book.blocks else None

    monkeypatch.setattr(height.HeightRun, "_is_valid", trusting)
    assert "I7" in first_violations(ORDINARY)


def test_a_restart_that_restores_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "restore", lambda *_: None)
    assert first_violations(ORDINARY)


def test_a_guard_that_allows_everything_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def allow(_state: guard.GuardState, request: SignRequest) -> guard.Permit:
        return guard.Permit(request, None, guard._MADE_HERE)

    def never_lock(self: height.HeightRun, choice: Hash32 | None) -> None:
        self.lock = self.valid = None
        self.step = Step.PRECOMMIT
        self._sign(self._vote_body(Step.PRECOMMIT, choice), Step.PRECOMMIT, choice)

    monkeypatch.setattr(guard, "check", allow)
    monkeypatch.setattr(height.HeightRun, "_precommit", never_lock)
    assert first_violations(ADVERSARIAL)

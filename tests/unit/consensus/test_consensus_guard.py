from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_engine import CONTEXT, KEYS, NAMES, WORLD, actions_of, block_of, body_of, vote_bytes

from agent_world.consensus import guard
from agent_world.consensus.guard import (
    GUARD_ENTRIES_MAX,
    GUARD_HEIGHTS_MAX,
    GuardState,
    Permit,
    apply,
    check,
    floor_record,
    merge_stricter,
    record_for,
    records_of,
    sign_with_permit,
    state_of,
)
from agent_world.consensus.guard_records import STEP_ORDER, GuardRecord, Lock, SignRequest, ValidValue
from agent_world.consensus.messages import open_vote
from agent_world.crypto.hashing import hash32
from agent_world.errors import DataError, LocalError, NotSafe
from agent_world.testing.toy_world import WORLD_ID
from agent_world.wire import record
from agent_world.wire.consensus import Proposal, Step, Vote
from agent_world.wire.ids import U32, U64, Hash32

KEY = KEYS[NAMES[0]]
X, Y = (hash32(block_of(0, action)) for action in (1, 2))


def lock_of(round_: int, block_hash: Hash32 = X) -> Lock:
    return Lock(round=U32(round_), block_hash=block_hash)


def valid_of(round_: int, action: int = 1) -> ValidValue:
    block = block_of(0, action)
    proof = tuple(vote_bytes(name, Step.PREVOTE, round_, hash32(block)) for name in NAMES[:3])
    return ValidValue(round=U32(round_), block_hash=hash32(block), block=block, actions=actions_of(action), proof=proof)


def vote(step: Step, round_: int, choice: Hash32 | None, height: int = 1, **other: Any) -> SignRequest:
    body = Vote(world_id=WORLD_ID, height=U64(height), round=U32(round_), step=step, block_hash=choice)
    return SignRequest(
        height=height,
        round=U32(round_),
        step=step,
        body=record.to_bytes(body),
        block_hash=choice,
        lock=other.get("lock"),
        valid=other.get("valid"),
        unlock_round=other.get("unlock_round"),
    )


def propose(round_: int, action: int = 1) -> SignRequest:
    block = block_of(0, action)
    body = Proposal(
        world_id=WORLD_ID,
        height=U64(1),
        round=U32(round_),
        valid_round=None,
        block=block,
        actions=actions_of(action),
    )
    return SignRequest(
        height=1,
        round=U32(round_),
        step=Step.PROPOSE,
        body=record.to_bytes(body),
        block_hash=hash32(block),
        lock=None,
        valid=None,
    )


def after(*requests: SignRequest) -> GuardState:
    state = GuardState()
    for request in requests:
        signed = sign_with_permit(check(state, request), WORLD.genesis_hash, KEY)
        state = apply(state, record_for(state, request, signed))
    return state


def refuses(state: GuardState, request: SignRequest) -> str:
    with pytest.raises(NotSafe) as error:
        check(state, request)
    return str(error.value)


LOCKED = after(vote(Step.PREVOTE, 0, X), vote(Step.PRECOMMIT, 0, X, lock=lock_of(0), valid=valid_of(0)))
HELD: dict[str, Any] = {"lock": lock_of(0), "valid": valid_of(0)}


def test_what_is_signed_verifies_and_is_kept() -> None:
    request = vote(Step.PREVOTE, 3, X)
    signed = sign_with_permit(check(GuardState(), request), WORLD.genesis_hash, KEY)
    assert open_vote(signed, CONTEXT).validator.validator_id == NAMES[0]
    state = after(request)
    assert (state.sequence, state.height, state.entries_at(1)[0].signed) == (1, 1, signed)
    assert state.entries_at(2) == ()


def test_the_same_body_again_gives_the_same_bytes() -> None:
    state = after(propose(0), vote(Step.PREVOTE, 0, X))
    for request, entry in zip((propose(0), vote(Step.PREVOTE, 0, X)), state.entries, strict=True):
        permit = check(state, request)
        assert permit.stored == entry.signed
        assert sign_with_permit(permit, WORLD.genesis_hash, KEY) == entry.signed


def test_a_second_body_is_never_signed() -> None:
    state = after(propose(0), vote(Step.PREVOTE, 0, X))
    assert "another propose" in refuses(state, propose(0, action=2))
    for choice in (Y, None):
        assert "another prevote" in refuses(state, vote(Step.PREVOTE, 0, choice))


def test_heights_rounds_and_steps_only_go_up() -> None:
    state = after(vote(Step.PREVOTE, 2, X, height=5))
    assert "round 2 prevote was signed" in refuses(state, vote(Step.PRECOMMIT, 1, None, height=5))
    assert "height 5 was signed" in refuses(state, vote(Step.PREVOTE, 9, None, height=4))
    assert check(state, vote(Step.PRECOMMIT, 2, None, height=5))
    assert check(state, vote(Step.PREVOTE, 0, None, height=6))
    assert "round 0 prevote" in refuses(after(vote(Step.PREVOTE, 0, X)), propose(0))


def test_the_lock_is_kept() -> None:
    assert "would be lost" in refuses(LOCKED, vote(Step.PREVOTE, 1, None))
    assert "would change" in refuses(LOCKED, vote(Step.PREVOTE, 1, None, lock=lock_of(0, Y), valid=valid_of(0)))
    assert "valid value" in refuses(LOCKED, vote(Step.PREVOTE, 1, None, lock=lock_of(0)))
    assert check(LOCKED, vote(Step.PREVOTE, 1, None, **HELD))
    assert check(LOCKED, vote(Step.PREVOTE, 1, X, **HELD))


def test_a_prevote_against_the_lock_needs_prevotes_of_its_round_or_later() -> None:
    assert "against the lock" in refuses(LOCKED, vote(Step.PREVOTE, 3, Y, **HELD))
    assert "against the lock" in refuses(LOCKED, vote(Step.PREVOTE, 3, Y, **HELD, unlock_round=3))
    locked_later = after(vote(Step.PRECOMMIT, 2, X, lock=lock_of(2), valid=valid_of(2)))
    held = {"lock": lock_of(2), "valid": valid_of(2)}
    assert "against the lock" in refuses(locked_later, vote(Step.PREVOTE, 3, Y, **held, unlock_round=1))
    assert check(locked_later, vote(Step.PREVOTE, 3, Y, **held, unlock_round=2))


def test_a_precommit_locks_its_block() -> None:
    assert "must lock" in refuses(GuardState(), vote(Step.PRECOMMIT, 1, X))
    assert "must lock" in refuses(GuardState(), vote(Step.PRECOMMIT, 1, X, lock=lock_of(0)))
    assert "must lock" in refuses(GuardState(), vote(Step.PRECOMMIT, 1, X, lock=lock_of(1, Y)))
    assert check(GuardState(), vote(Step.PRECOMMIT, 1, X, lock=lock_of(1)))


def test_a_new_height_starts_without_the_lock() -> None:
    request = vote(Step.PREVOTE, 0, Y, height=2)
    assert check(LOCKED, request)
    state = apply(LOCKED, record_for(LOCKED, request, b"signed"))
    assert (state.lock, state.valid, state.height) == (None, None, 2)


def test_a_permit_is_made_by_the_guard_only() -> None:
    with pytest.raises(LocalError):
        Permit(vote(Step.PREVOTE, 0, X), None, object())


@pytest.mark.parametrize(
    "wrong",
    [
        {"height": 2},
        {"round": 1},
        {"step": Step.PRECOMMIT},
        {"block_hash": Y},
        {"block_hash": None},
        {"step": Step.PROPOSE},
        {"body": b"\xa0"},
    ],
)
def test_a_request_that_is_not_its_body_is_a_bug(wrong: dict[str, Any]) -> None:
    with pytest.raises(LocalError):
        check(GuardState(), attrs.evolve(vote(Step.PREVOTE, 0, X), **wrong))


def test_records_must_follow_each_other() -> None:
    first = record_for(GuardState(), vote(Step.PREVOTE, 0, X), b"signed")
    state = apply(GuardState(), first)
    with pytest.raises(DataError, match="follows"):
        apply(state, attrs.evolve(first, sequence=3))
    with pytest.raises(DataError, match="not above"):
        apply(state, attrs.evolve(first, sequence=2))
    with pytest.raises(DataError, match="floor"):
        apply(attrs.evolve(state, sign_floor=5), record_for(state, vote(Step.PREVOTE, 1, X), b"signed"))


def test_what_is_kept_is_bounded() -> None:
    state = after(*(vote(Step.PREVOTE, 0, None, height=height) for height in range(1, 11)))
    assert sorted({entry.height for entry in state.entries}) == list(range(11 - GUARD_HEIGHTS_MAX, 11))
    many = after(*(vote(Step.PREVOTE, round_, None) for round_ in range(200)))
    assert len(many.entries) == GUARD_ENTRIES_MAX
    assert (many.sequence, many.entries[-1].round) == (200, 199)
    assert "round 199" in refuses(many, vote(Step.PREVOTE, 3, X))
    after_more = apply(many, record_for(many, vote(Step.PREVOTE, 0, X, height=2), b"signed"))
    assert after_more.entries[:-1] == many.entries[1:]


def test_a_floor_forbids_and_keeps_the_rest() -> None:
    raised = apply(LOCKED, floor_record(LOCKED, 7, watching=False))
    assert (raised.sequence, raised.sign_floor, raised.watching) == (LOCKED.sequence + 1, 7, False)
    assert (raised.entries, raised.lock, raised.valid) == (LOCKED.entries, LOCKED.lock, LOCKED.valid)
    assert "up to height 7" in refuses(raised, vote(Step.PREVOTE, 0, X, height=7))
    assert check(raised, vote(Step.PREVOTE, 0, X, height=8))
    assert check(raised, vote(Step.PREVOTE, 0, X)).stored == LOCKED.entries[0].signed  # signed before, so never more
    assert floor_record(raised, 3, watching=False).sign_floor == 7
    assert state_of(records_of(raised)) == raised


def test_a_watching_guard_signs_nothing_until_a_floor_ends_it() -> None:
    watching = apply(LOCKED, floor_record(LOCKED, 2, watching=True))
    for height in (1, 3, 1_000):
        assert "waits" in refuses(watching, vote(Step.PREVOTE, 5, X, height=height, **HELD))
    assert check(watching, vote(Step.PREVOTE, 0, X)).stored == LOCKED.entries[0].signed
    with pytest.raises(DataError, match="while the guard watches"):
        apply(watching, attrs.evolve(record_for(watching, vote(Step.PREVOTE, 0, X, height=3), b""), watching=False))
    assert state_of(records_of(watching)) == watching
    settled = apply(watching, floor_record(watching, 9, watching=False))
    assert "up to height 9" in refuses(settled, vote(Step.PREVOTE, 0, X, height=9))
    assert check(settled, vote(Step.PREVOTE, 0, X, height=10))


def test_a_resumed_guard_keeps_what_it_knows() -> None:
    known = after(vote(Step.PREVOTE, 0, X, height=5))
    waiting = apply(known, floor_record(known, 5, watching=True))
    resumed = guard.resumed(waiting, 4)
    assert state_of(records_of(resumed)) == resumed
    assert "another prevote" in refuses(resumed, vote(Step.PREVOTE, 0, Y, height=5))
    assert "up to height 4" in refuses(resumed, vote(Step.PREVOTE, 0, X, height=4))
    assert check(resumed, vote(Step.PREVOTE, 1, Y, height=5)).stored is None
    with pytest.raises(LocalError):
        guard.resumed(resumed, 4)


def test_merge_of_equal_states_or_one_record_ahead_loses_nothing() -> None:
    steps = (vote(Step.PREVOTE, 0, X), vote(Step.PRECOMMIT, 0, X, **HELD), vote(Step.PREVOTE, 0, Y, height=2))
    for count in range(len(steps)):
        short, long = after(*steps[:count]), after(*steps[: count + 1])
        assert merge_stricter(long, long) == long
        assert merge_stricter(short, long) == merge_stricter(long, short) == long
        for watching in (False, True):
            raised = apply(long, floor_record(long, 5, watching=watching))
            assert merge_stricter(long, raised) == merge_stricter(raised, long) == raised


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (GuardState(), after(vote(Step.PREVOTE, 0, X), vote(Step.PREVOTE, 1, X))),
        (after(vote(Step.PREVOTE, 0, X)), after(vote(Step.PREVOTE, 0, Y))),
        (after(vote(Step.PREVOTE, 0, X)), after(vote(Step.PREVOTE, 0, Y), vote(Step.PRECOMMIT, 0, None))),
        (GuardState(), attrs.evolve(after(vote(Step.PREVOTE, 0, X)), sequence=5)),
        (LOCKED, attrs.evolve(LOCKED, lock=None)),
        (LOCKED, after(vote(Step.PREVOTE, 0, X, height=9))),
    ],
    ids=["one lost", "other body", "other body, longer", "all lost", "other lock", "other height"],
)
def test_where_the_files_disagree_nothing_is_signed_at_heights_touched(first: GuardState, second: GuardState) -> None:
    merged = merge_stricter(first, second)
    assert merge_stricter(second, first).sign_floor == merged.sign_floor == max(first.height, second.height)
    touched = {entry.height for entry in (*first.entries, *second.entries)}
    for height in touched:
        settled = attrs.evolve(merged, watching=False)
        assert "nothing may be signed" in refuses(settled, vote(Step.PRECOMMIT, 77, None, height=height, **HELD))
    above = vote(Step.PREVOTE, 0, X, height=merged.sign_floor + 1)
    assert "waits" in refuses(merged, above)  # what else was lost is not known
    rewritten = state_of(records_of(merged))
    assert rewritten == merged
    assert apply(rewritten, record_for(rewritten, above, b"signed")).sign_floor == merged.sign_floor


requests = st.builds(
    lambda height, round_, step, choice, unlock: (height, round_, step, choice, unlock),
    st.integers(1, 4),
    st.integers(0, 4),
    st.sampled_from(list(Step)),
    st.sampled_from([X, Y, None]),
    st.none() | st.integers(0, 3),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(requests, max_size=30))
def test_whatever_is_asked_no_place_gets_two_bodies_and_files_restore_the_state(asked: list[Any]) -> None:
    """The caller is as careless as can be: it claims the lock it needs and never looks at the past."""
    state, made, bodies = GuardState(), list[GuardRecord](), dict[tuple[int, int, Step], bytes]()
    for height, round_, step, choice, unlock in asked:
        same_height = state.height == height
        lock, valid = (state.lock, state.valid) if same_height else (None, None)
        if step is Step.PRECOMMIT and choice is not None:
            lock = lock_of(round_, choice)
        request = propose(round_) if step is Step.PROPOSE else vote(step, round_, choice, height)
        request = attrs.evolve(request, lock=lock, valid=valid, unlock_round=unlock)
        try:
            permit = check(state, request)
        except NotSafe:
            continue
        signed = sign_with_permit(permit, WORLD.genesis_hash, KEY)
        place = (request.height, int(request.round), request.step)
        assert bodies.setdefault(place, body_of(signed)) == body_of(signed)
        if permit.stored is None:
            made.append(GuardRecord.from_bytes(record_for(state, request, signed).to_bytes()))
            state = apply(state, made[-1])
    assert state_of(made) == state
    assert state_of(records_of(state)) == state
    places = [(entry.height, entry.round, STEP_ORDER[entry.step]) for entry in state.entries]
    assert places == sorted(set(places))


def test_only_one_function_touches_the_key() -> None:
    text = Path(guard.__file__).read_text()
    assert text.count("KeyPair") == 2  # the import and sign_with_permit

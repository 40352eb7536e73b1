from __future__ import annotations

import json
from collections.abc import Callable
from itertools import permutations
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_world.consensus.guard import GuardState, apply, check, floor_record, record_for, sign_with_permit
from agent_world.consensus.guard_interchange import (
    INTERCHANGE_BYTES_MAX,
    GuardIdentity,
    Interchange,
    export_of,
    parse,
    take_in,
    to_json,
)
from agent_world.consensus.guard_records import STEP_ORDER, GuardEntry, Lock, SignRequest
from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import DataError, InterchangeError, NotSafe
from agent_world.wire import record
from agent_world.wire.consensus import Proposal, Step, Vote
from agent_world.wire.ids import U32, U64, Hash32, WorldId
from agent_world.wire.signed import Signed

KEY = KeyPair(bytes(range(32)))
WORLD = WorldId("w")
GENESIS = hash32(b"genesis")
IDENTITY = GuardIdentity(world_id=WORLD, genesis_hash=GENESIS, validator_key=KEY.public_key)
X, Y = hash32(b"x"), hash32(b"y")

Wanted = tuple[int, int, Step, bytes | None]


def request_of(height: int, round_: int, step: Step, choice: bytes | None, state: GuardState) -> SignRequest:
    """What an engine on this state would ask; it holds on to a lock and has proof to leave it."""
    block_hash = None if choice is None else Hash32(choice)
    if step is Step.PROPOSE:
        block = b"block" if choice is None else choice
        body: object = Proposal(
            world_id=WORLD, height=U64(height), round=U32(round_), valid_round=None, block=block, actions=()
        )
        block_hash = hash32(block)
    else:
        body = Vote(world_id=WORLD, height=U64(height), round=U32(round_), step=step, block_hash=block_hash)
    lock = state.lock if state.height == height else None
    if step is Step.PRECOMMIT and block_hash is not None:
        lock = Lock(round=U32(round_), block_hash=block_hash)
    return SignRequest(
        height=height, round=U32(round_), step=step, body=record.to_bytes(body), block_hash=block_hash, lock=lock,
        valid=None, unlock_round=round_ - 1,
    )  # fmt: skip


def signed(state: GuardState, *wanted: Wanted) -> GuardState:
    """The state after signing what is allowed of this."""
    for item in wanted:
        request = request_of(*item, state)
        try:
            permit = check(state, request)
        except NotSafe:
            continue
        if permit.stored is None:
            state = apply(state, record_for(state, request, sign_with_permit(permit, GENESIS, KEY)))
    return state


def imported(state: GuardState, *files: Interchange) -> GuardState:
    for file in files:
        floor = take_in(state, file, IDENTITY).sign_floor
        if floor > state.sign_floor:
            state = apply(state, floor_record(state, floor, watching=False))
    return state


def decisive(state: GuardState) -> GuardState:
    """The state without the number of records that led to it."""
    return attrs.evolve(state, sequence=0)


wanted = st.tuples(st.integers(1, 5), st.integers(0, 2), st.sampled_from(list(Step)), st.sampled_from([X, Y, None]))
histories = st.lists(wanted, max_size=12).map(lambda items: sorted(items, key=lambda i: (i[0], i[1], STEP_ORDER[i[2]])))
states = st.builds(
    lambda history, floor: signed(
        GuardState() if not floor else apply(GuardState(), floor_record(GuardState(), floor, watching=False)), *history
    ),
    histories,
    st.integers(0, 3),
)
ONE = signed(GuardState(), (3, 0, Step.PROPOSE, X), (3, 0, Step.PREVOTE, X), (3, 0, Step.PRECOMMIT, None))


# --- properties ------------------------------------------------------------------------------------------------------


@given(states)
def test_taking_in_what_was_exported_changes_nothing(state: GuardState) -> None:
    file = export_of(state, IDENTITY)
    assert parse(to_json(file).encode()) == file
    taken = take_in(state, file, IDENTITY)
    assert (taken.sign_floor, taken.known, taken.contradictions) == (state.sign_floor, len(state.entries), ())


@given(states, st.lists(states, max_size=3))
def test_the_order_of_files_does_not_matter_and_none_counts_twice(state: GuardState, others: list[GuardState]) -> None:
    files = [export_of(other, IDENTITY) for other in others]
    after = imported(state, *files)
    assert imported(after, *files) == after
    for order in permutations(files):
        assert decisive(imported(state, *order)) == decisive(after)
    assert after.sign_floor >= state.sign_floor
    assert (after.entries, after.lock, after.valid) == (state.entries, state.lock, state.valid)


@given(states, states, wanted)
def test_nothing_that_contradicts_either_history_is_permitted_afterwards(
    mine: GuardState, other: GuardState, asked: Wanted
) -> None:
    file = export_of(other, IDENTITY)
    after = imported(mine, file)
    try:
        permit = check(after, request_of(*asked, after))
    except NotSafe:
        return
    if permit.stored is not None:
        return  # signed here already: nothing new leaves
    for state in (mine, other):
        assert all((e.height, e.round, e.step) != asked[:3] for e in state.entries)
        assert asked[0] > state.sign_floor
        assert asked[0] >= state.height
        # At a height where the other has signed what is not known here, its lock is not known either.
        assert asked[0] > state.height or state is mine or set(state.entries_at(asked[0])) <= set(mine.entries)


@given(states, states)
def test_what_the_other_signed_is_forbidden_to_the_last_height(mine: GuardState, other: GuardState) -> None:
    after = imported(mine, export_of(other, IDENTITY))
    new = {entry for entry in other.entries if entry.height == other.height} - set(mine.entries)
    if new and other.height >= mine.height:
        assert after.sign_floor >= other.height


# --- cases -----------------------------------------------------------------------------------------------------------


def test_the_file_names_what_was_signed() -> None:
    file = export_of(ONE, IDENTITY)
    assert (file.watermark, file.sign_floor) == (file.signed[-1].place, 0)
    assert [item.place.step for item in file.signed] == list(Step)
    assert [item.block_hash for item in file.signed] == [hash32(X), X, None]
    assert [item.signed_hash for item in file.signed] == [hash32(entry.signed) for entry in ONE.entries]
    assert export_of(GuardState(), IDENTITY).watermark is None


def test_an_older_copy_of_the_own_history_forbids_nothing_new() -> None:
    older = export_of(signed(GuardState(), (3, 0, Step.PROPOSE, X), (3, 0, Step.PREVOTE, X)), IDENTITY)
    assert take_in(ONE, older, IDENTITY).sign_floor == 0


def test_a_file_without_messages_forbids_its_height() -> None:
    bare = attrs.evolve(export_of(ONE, IDENTITY), signed=())
    assert take_in(ONE, bare, IDENTITY).sign_floor == 3
    later = signed(ONE, (4, 0, Step.PREVOTE, X))
    assert take_in(later, bare, IDENTITY).sign_floor == 0


def test_a_contradiction_of_the_past_is_told() -> None:
    other = signed(GuardState(), (3, 0, Step.PREVOTE, Y))
    taken = take_in(ONE, export_of(other, IDENTITY), IDENTITY)
    assert [item.block_hash for item in taken.contradictions] == [Y]
    assert (taken.sign_floor, taken.known) == (3, 0)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"world_id": WorldId("other")}, "metadata.world_id"),
        ({"genesis_hash": X}, "metadata.genesis_hash"),
        ({"validator_key": KeyPair(bytes(32)).public_key}, "metadata.validator_key"),
    ],
)
def test_another_world_or_key_is_refused(change: dict[str, Any], place: str) -> None:
    file = export_of(ONE, attrs.evolve(IDENTITY, **change))
    with pytest.raises(InterchangeError, match="nothing was changed") as error:
        take_in(ONE, file, IDENTITY)
    assert error.value.place == place


def test_what_a_file_says_is_not_repeated_at_length() -> None:
    file = export_of(ONE, attrs.evolve(IDENTITY, world_id=WorldId("x" * 1_000_000)))
    with pytest.raises(InterchangeError) as error:
        take_in(ONE, file, IDENTITY)
    assert len(str(error.value)) < 300


def test_an_entry_that_is_no_message_is_damage() -> None:
    entry = GuardEntry(height=U64(1), round=U32(0), step=Step.PREVOTE, signed=b"no")
    with pytest.raises(DataError, match="no signed message"):
        export_of(GuardState(sequence=1, entries=(entry,)), IDENTITY)
    body = Signed(body=b"no", key=KEY.public_key, sig=bytes(64))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no signed message"):
        export_of(GuardState(sequence=1, entries=(attrs.evolve(entry, signed=record.to_bytes(body)),)), IDENTITY)


def dropped(name: str) -> Callable[[Any], None]:
    return lambda value: value.pop(name)


def put(name: str, new: Any) -> Callable[[Any], None]:
    return lambda value: value.update({name: new})


def in_(name: str, change: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda value: change(value[name])


def at(index: int, change: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda value: change(value["signed"][index])


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (dropped("watermark"), "the file"),
        (put("note", 1), "the file"),
        (put("metadata", []), "metadata"),
        (in_("metadata", put("format", "eip-3076")), "metadata.format"),
        (in_("metadata", put("version", 2)), "metadata.version"),
        (in_("metadata", put("version", True)), "metadata.version"),
        (in_("metadata", put("world_id", 7)), "metadata.world_id"),
        (in_("metadata", put("genesis_hash", "AB" * 32)), "metadata.genesis_hash"),
        (in_("metadata", put("validator_key", "ab")), "metadata.validator_key"),
        (in_("metadata", dropped("version")), "metadata"),
        (put("watermark", 3), "watermark"),
        (put("watermark", None), "watermark"),
        (in_("watermark", put("height", 0)), "watermark.height"),
        (in_("watermark", put("height", 2)), "watermark"),
        (in_("watermark", put("step", "commit")), "watermark.step"),
        (in_("watermark", put("step", [])), "watermark.step"),
        (put("sign_floor", -1), "sign_floor"),
        (put("sign_floor", 2**63), "sign_floor"),
        (put("sign_floor", False), "sign_floor"),
        (put("sign_floor", "3"), "sign_floor"),
        (put("signed", {}), "signed"),
        (at(1, put("round", 2**32)), "signed[1].round"),
        (at(1, put("height", None)), "signed[1].height"),
        (at(2, put("block_hash", 7)), "signed[2].block_hash"),
        (at(2, dropped("signed_hash")), "signed[2]"),
        (at(0, put("signed_hash", "x" * 64)), "signed[0].signed_hash"),
        (at(0, put("step", "precommit")), "signed[1]"),
        (at(1, put("extra", 7)), "signed[1]"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(change: Callable[[Any], None], place: str) -> None:
    value = json.loads(to_json(export_of(ONE, IDENTITY)))
    change(value)
    with pytest.raises(InterchangeError) as error:
        parse(json.dumps(value).encode())
    assert error.value.place == place


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"null",
        b"{",
        b"[" * 100_000,
        b'{"a": 1, "a": 1}',
        b'{"a": 1.5}',
        b'{"a": NaN}',
        b'{"a": ' + b"9" * 5_000 + b"}",
        b" " * (INTERCHANGE_BYTES_MAX + 1),
    ],
)
def test_what_is_no_file_is_refused(data: bytes) -> None:
    with pytest.raises(InterchangeError) as error:
        parse(data)
    assert error.value.place == "the file"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_file_or_an_interchange_error(data: bytes) -> None:
    with pytest.raises(InterchangeError):
        parse(data)


def test_a_file_cut_short_at_any_byte_is_refused() -> None:
    data = to_json(export_of(ONE, IDENTITY)).strip().encode()
    for length in range(len(data)):
        with pytest.raises(InterchangeError):
            parse(data[:length])

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_world.consensus.set_change import ChangeUnfit, Unfit, approval_status, changed_set, without
from agent_world.consensus.stake import PosStatus
from agent_world.consensus.validators import ValidatorSet
from agent_world.wire.consensus import ValidatorEntry, ValidatorSetRecord
from agent_world.wire.ids import U64, PublicKey, ValidatorId
from agent_world.wire.limits import U64_MAX, VALIDATORS_MAX
from agent_world.wire.membership import ChangeKind, MembershipChange


def entry(name: str, stake: int = 10, key: str | None = None) -> ValidatorEntry:
    public_key = PublicKey((key or name).encode().ljust(32, b"."))
    return ValidatorEntry(validator_id=ValidatorId(name), public_key=public_key, stake=U64(stake))


def a_set(*entries: ValidatorEntry) -> ValidatorSetRecord:
    return ValidatorSetRecord(validators=entries, supermajority_numerator=U64(2), supermajority_denominator=U64(3))


ABC = a_set(entry("a"), entry("b"), entry("c"))


def change(kind: ChangeKind, *entries: ValidatorEntry, removed: tuple[str, ...] = ()) -> MembershipChange:
    return MembershipChange(
        kind=kind,
        validators=entries,
        removed=tuple(ValidatorId(name) for name in removed),
        with_lease=False,
        reason=None,
    )


@pytest.mark.parametrize(("made", "expected"), [
    (change(ChangeKind.ADD, entry("bb", 5)), a_set(entry("a"), entry("b"), entry("bb", 5), entry("c"))),
    (change(ChangeKind.REMOVE, removed=("b",)), a_set(entry("a"), entry("c"))),
    (change(ChangeKind.REPLACE, entry("z"), entry("y")), a_set(entry("y"), entry("z"))),
    (change(ChangeKind.ROTATE_KEY, entry("b", key="b2")), a_set(entry("a"), entry("b", key="b2"), entry("c"))),
    (change(ChangeKind.SET_STAKE, entry("c", 99)), a_set(entry("a"), entry("b"), entry("c", 99))),
])  # fmt: skip
def test_what_a_change_makes(made: MembershipChange, expected: ValidatorSetRecord) -> None:
    assert changed_set(ABC, made, {}) == expected


@pytest.mark.parametrize(("made", "why"), [
    (change(ChangeKind.ADD), Unfit.MALFORMED),
    (change(ChangeKind.ADD, entry("d"), entry("d", key="d2")), Unfit.MALFORMED),
    (change(ChangeKind.ADD, entry("d"), removed=("a",)), Unfit.MALFORMED),
    (change(ChangeKind.REMOVE), Unfit.MALFORMED),
    (change(ChangeKind.REMOVE, entry("a"), removed=("a",)), Unfit.MALFORMED),
    (change(ChangeKind.REMOVE, removed=("a", "a")), Unfit.MALFORMED),
    (change(ChangeKind.ROTATE_KEY, entry("a", 11, key="a2")), Unfit.MALFORMED),
    (change(ChangeKind.SET_STAKE, entry("a", 11, key="a2")), Unfit.MALFORMED),
    (change(ChangeKind.SET_STAKE, entry("a", 11), entry("b", 11)), Unfit.MALFORMED),
    (change(ChangeKind.ADD, entry("a", key="a2")), Unfit.EXISTS),
    (change(ChangeKind.REMOVE, removed=("z",)), Unfit.UNKNOWN),
    (change(ChangeKind.ROTATE_KEY, entry("z")), Unfit.UNKNOWN),
    (change(ChangeKind.SET_STAKE, entry("z")), Unfit.UNKNOWN),
    (change(ChangeKind.SET_STAKE, entry("a")), Unfit.NOTHING),
    (change(ChangeKind.ROTATE_KEY, entry("a")), Unfit.NOTHING),
    (change(ChangeKind.REPLACE, entry("a"), entry("b"), entry("c")), Unfit.NOTHING),
    (change(ChangeKind.REMOVE, removed=("a", "b", "c")), Unfit.SET_INVALID),
    (change(ChangeKind.ADD, entry("d", 0)), Unfit.SET_INVALID),
    (change(ChangeKind.ADD, entry("d", U64_MAX)), Unfit.SET_INVALID),
    (change(ChangeKind.ADD, entry("d", key="a")), Unfit.SET_INVALID),
    (change(ChangeKind.ADD, *(entry(f"d{number}") for number in range(VALIDATORS_MAX))), Unfit.SET_INVALID),
])  # fmt: skip
def test_what_cannot_be_made(made: MembershipChange, why: Unfit) -> None:
    with pytest.raises(ChangeUnfit) as caught:
        changed_set(ABC, made, {})
    assert caught.value.why is why


def test_a_key_never_passes_to_another_validator() -> None:
    old = entry("x").public_key
    owners = {old: ValidatorId("x")}
    with pytest.raises(ChangeUnfit) as caught:
        changed_set(ABC, change(ChangeKind.ADD, entry("d", key="x")), owners)
    assert caught.value.why is Unfit.KEY_IN_USE
    assert changed_set(ABC, change(ChangeKind.ADD, entry("x")), owners)


def test_the_last_validator_stays() -> None:
    assert without(ABC, ValidatorId("b")) == a_set(entry("a"), entry("c"))
    assert without(ABC, ValidatorId("z")) == ABC
    only = a_set(entry("a"))
    assert without(only, ValidatorId("a")) == only


def test_only_the_stake_of_members_decides() -> None:
    validators = ValidatorSet(a_set(entry("a", 40), entry("b", 30), entry("c", 20), entry("d", 10)))
    names = [ValidatorId(name) for name in ("a", "b", "c", "d", "gone")]
    a, b, c, d, gone = names
    assert approval_status(validators, [a, c], []) is PosStatus.PENDING
    assert approval_status(validators, [a, c, gone], []) is PosStatus.PENDING
    assert approval_status(validators, [a, b], []) is PosStatus.COMMITTED
    assert approval_status(validators, [a], [b]) is PosStatus.PENDING
    assert approval_status(validators, [a], [b, d]) is PosStatus.REJECTED
    assert approval_status(validators, [c, c, c, c], []) is PosStatus.PENDING


@given(st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), unique=True, min_size=1), st.data())
def test_adding_and_removing_undo_each_other(names: list[str], data: st.DataObject) -> None:
    current = a_set(*(entry(name) for name in sorted(names)))
    newcomer = data.draw(st.sampled_from(["f", "g", "aa"]))
    more = changed_set(current, change(ChangeKind.ADD, entry(newcomer)), {})
    assert changed_set(more, change(ChangeKind.REMOVE, removed=(newcomer,)), {}) == current
    ids = [member.validator_id for member in more.validators]
    assert ids == sorted(ids)
    assert attrs.evolve(more, validators=current.validators) == current

"""Stack tier: a validator's key gives way to the next one while the world goes on; newcomers wait for a seat."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from agent_world.crypto.keys import KeyPair
from agent_world.node.seat import Seat
from agent_world.node.validator_views import ValidatorControl
from agent_world.store import keyfile
from agent_world.store.home import HomeLayout
from agent_world.testing.stack import Stack, make_key, open_stack, specs
from agent_world.wire.consensus import ValidatorEntry
from agent_world.wire.ids import U64, Hash32, ValidatorId
from agent_world.wire.membership import ChangeKind, MembershipApproval, MembershipChange

EPOCH = 8


def seat(stack: Stack, name: str) -> Seat:
    found = stack.node(name).seat
    assert found is not None
    return found


def change(kind: ChangeKind, name: str, key: KeyPair) -> MembershipChange:
    entry = ValidatorEntry(validator_id=ValidatorId(name), public_key=key.public_key, stake=U64(100))
    return MembershipChange(kind=kind, validators=(entry,), removed=(), with_lease=False, reason=None)


async def decide(stack: Stack, wanted: MembershipChange, *voters: str) -> None:
    """The first files, the others approve."""
    first, *others = voters
    filed = await ValidatorControl(stack.node(first)).file(wanted)
    assert filed["code"] == "ok", filed
    approval = MembershipApproval(change_id=Hash32(filed["action_id"]), approve=True)
    for name in others:
        answer = await ValidatorControl(stack.node(name)).file(approval)
        assert answer["code"] in ("ok", "change_unknown"), answer  # unknown once the others have decided it


def is_seated(stack: Stack, key: KeyPair, at: str) -> bool:
    return stack.node(at).ledger.validators.by_key(key.public_key) is not None


def signed_heights(stack: Stack, key: KeyPair) -> set[int]:
    return {height for place_key, height, _round, _step in stack.checker.places if place_key == key.public_key}


async def until_signed(stack: Stack, key: KeyPair, above: int) -> None:
    await stack.until(lambda: max(signed_heights(stack, key), default=0) > above, f"the key signs above {above}")


def says(stack: Stack, name: str) -> object:
    return stack.status(name)["consensus"]["voting"]


async def test_a_key_is_rotated_while_the_node_runs(tmp_path: Path, autojump_clock: object) -> None:
    everybody = ("v1", "v2", "v3", "v4")
    async with open_stack(tmp_path, specs(validators=4), epoch_length_slots=EPOCH) as stack:
        await stack.start_all()
        await stack.until_height(2)
        files = HomeLayout(stack.members["v4"].home)
        keys = [seat(stack, "v4").key, make_key("next", 1), make_key("next", 2)]
        for old, new in pairwise(keys):
            await until_signed(stack, old, stack.top())
            keyfile.write(files.validator_next_key, new)
            await decide(stack, change(ChangeKind.ROTATE_KEY, "v4", new), *everybody)
            await stack.until(lambda new=new: seat(stack, "v4").key.public_key == new.public_key, "the key takes over")  # type: ignore[misc]
            assert says(stack, "v4") == "yes"
            switched = stack.node("v4").ledger.height
            await until_signed(stack, new, switched + 2)
            assert max(signed_heights(stack, old)) <= switched < min(signed_heights(stack, new))
            assert keyfile.read(files.validator_key).public_key == new.public_key
            assert not files.validator_next_key.exists()
            retired = keyfile.read(files.path / f"validator.key.retired-{switched}")
            assert retired.public_key == old.public_key
            for name in ("guard.db", "guard.log"):
                assert (files.path / f"{name}.retired-{switched}").is_file()
            # What the node signs for its operator is signed with the new key as well.
            filing = stack.node("v4").filing
            assert filing is not None
            assert filing.key.public_key == new.public_key
        await stack.stop("v4")
        await stack.start("v4")
        await until_signed(stack, keys[-1], stack.top())
        assert stack.counters("v4").get("consensus.not_safe", 0) == 0
        assert stack.agree()


async def test_a_key_that_was_rotated_while_the_node_was_down(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4), epoch_length_slots=EPOCH) as stack:
        await stack.start_all()
        await stack.until_height(3)
        old, new = seat(stack, "v4").key, make_key("next")
        await stack.stop("v4")
        keyfile.write(HomeLayout(stack.members["v4"].home).validator_next_key, new)
        await decide(stack, change(ChangeKind.ROTATE_KEY, "v4", new), "v1", "v2", "v3")
        await stack.until(lambda: is_seated(stack, new, "v1"), "the new key is seated")
        last = max(signed_heights(stack, old))
        await stack.start("v4")  # it knows of it only once it has caught up
        await until_signed(stack, new, stack.top())
        assert max(signed_heights(stack, old)) == last
        await stack.stop("v4")
        assert stack.agree()


@pytest.mark.parametrize("approved", [True, False])
async def test_a_next_key_waits_until_a_set_names_it(tmp_path: Path, autojump_clock: object, approved: bool) -> None:
    async with open_stack(tmp_path, specs(validators=4), epoch_length_slots=EPOCH) as stack:
        await stack.start_all()
        old, new = seat(stack, "v4").key, make_key("next")
        keyfile.write(HomeLayout(stack.members["v4"].home).validator_next_key, new)
        await decide(stack, change(ChangeKind.ROTATE_KEY, "v4", new), "v1", *(("v2", "v3") if approved else ()))
        await stack.until_height(stack.top() + 2 * EPOCH)
        now = seat(stack, "v4").key.public_key
        assert now == (new if approved else old).public_key
        assert says(stack, "v4") == "yes"


async def test_a_newcomer_waits_and_votes_once_a_set_names_it(tmp_path: Path, autojump_clock: object) -> None:
    nodes = specs(validators=4, observers=1)
    async with open_stack(tmp_path, nodes, epoch_length_slots=EPOCH) as stack:
        await stack.start_all()
        await stack.until_height(5)
        await stack.stop("o1")
        key = make_key("newcomer")
        keyfile.write(HomeLayout(stack.members["o1"].home).validator_key, key)
        await stack.start("o1")  # above height 0 and without a guard, but no set has ever named its key
        await stack.until_height(stack.top() + 2)
        assert says(stack, "o1") == "waiting: not in the validator set"
        assert stack.members["o1"].peer_id not in stack.node("v1").peering.validators()
        assert stack.status("o1")["consensus"]["validator_id"] is None
        await decide(stack, change(ChangeKind.ADD, "o1", key), "v1", "v2", "v3")
        await stack.until(lambda: is_seated(stack, key, "o1"), "the newcomer is seated")
        await until_signed(stack, key, stack.top())
        assert says(stack, "o1") == "yes"
        assert stack.members["o1"].peer_id in stack.node("v1").peering.validators()
        await stack.until_height(stack.top() + 3)
        assert stack.agree()


async def test_who_was_removed_follows_and_may_come_back(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=5), epoch_length_slots=EPOCH) as stack:
        await stack.start_all()
        await stack.until_height(2)
        key = seat(stack, "v5").key
        rest = ("v1", "v2", "v3", "v4")
        removal = MembershipChange(
            kind=ChangeKind.REMOVE, validators=(), removed=(ValidatorId("v5"),), with_lease=False, reason=None
        )
        await decide(stack, removal, *rest)
        await stack.until(lambda: not is_seated(stack, key, "v5"), "it is removed")
        await stack.stop("v5")
        await stack.start("v5")
        assert says(stack, "v5") == "waiting: not in the validator set"
        left = stack.node("v5").ledger.height
        await stack.until_height(left + 4)
        await decide(stack, change(ChangeKind.ADD, "v5", key), *rest)
        await until_signed(stack, key, left + 4)
        assert not signed_heights(stack, key) & set(range(left + 1, left + 4))

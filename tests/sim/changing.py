"""Changes of the validator set in the stack tier: filed, approved, waited for."""

from __future__ import annotations

from agent_world.node.validator_views import ValidatorControl
from agent_world.testing.stack import Stack
from agent_world.wire.consensus import ValidatorEntry
from agent_world.wire.ids import U64, Hash32, ValidatorId
from agent_world.wire.membership import ChangeKind, MembershipApproval, MembershipChange

EPOCH = 8
"""Slots."""


def remove(name: str) -> MembershipChange:
    return MembershipChange(
        kind=ChangeKind.REMOVE, validators=(), removed=(ValidatorId(name),), with_lease=False, reason=None
    )


def add_back(stack: Stack, name: str, stake: int = 100) -> MembershipChange:
    key = stack.members[name].validator_key
    assert key is not None
    entry = ValidatorEntry(validator_id=ValidatorId(name), public_key=key.public_key, stake=U64(stake))
    return MembershipChange(kind=ChangeKind.ADD, validators=(entry,), removed=(), with_lease=False, reason=None)


async def decide(stack: Stack, change: MembershipChange, *voters: str) -> None:
    """The first files, the others approve; the change must be made."""
    first, *others = voters
    filed = await ValidatorControl(stack.node(first)).file(change)
    assert filed["code"] == "ok", filed
    approval = MembershipApproval(change_id=Hash32(filed["action_id"]), approve=True)
    for name in others:
        answer = await ValidatorControl(stack.node(name)).file(approval)
        assert answer["code"] in ("ok", "change_unknown"), answer  # unknown once the others have decided it


def deciding(stack: Stack, name: str) -> list[str]:
    """Who decides this node's next height."""
    return [entry.validator_id for entry in stack.node(name).ledger.validators.record.validators]


async def until_set(stack: Stack, expected: list[str], *at: str) -> None:
    await stack.until(lambda: all(deciding(stack, name) == expected for name in at), f"the set {expected}")


async def change_turns(stack: Stack, turns: range, *watchers: str) -> None:
    """In every turn one of the four validators leaves with an epoch and is back with the next: two other sets."""
    everybody = ["v1", "v2", "v3", "v4"]
    for turn in turns:
        leaver = everybody[turn % 4]
        rest = [name for name in everybody if name != leaver]
        await decide(stack, remove(leaver), *rest)
        await until_set(stack, rest, *everybody, *watchers)
        await decide(stack, add_back(stack, leaver), *rest)
        await until_set(stack, everybody, *everybody, *watchers)

"""Stack tier: the validator set changes with the epoch, and who contradicts itself loses its seat (D4)."""

from __future__ import annotations

from pathlib import Path

import attrs
import trio
from changing import EPOCH, change_turns, until_set

from agent_world.config import MINIMAL, LeaseConfig
from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, sign_record
from agent_world.handlers.consensus import CHANNEL
from agent_world.node.validator_views import ValidatorControl
from agent_world.testing.stack import WORLD_ID, Stack, open_stack, specs
from agent_world.testing.stack_actions import balances, trade
from agent_world.wire.consensus import Step, Vote
from agent_world.wire.ids import U32, U64


async def test_ten_epochs_with_another_set_in_each(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4, observers=2), epoch_length_slots=EPOCH) as stack:
        for name in ("v1", "v2", "v3", "v4", "o1"):
            await stack.start(name)
        await trade(stack, "v1", "o1")
        await change_turns(stack, range(5), "o1")
        await stack.start("o2")  # it knows the set of the genesis only
        await stack.until_height(stack.top())
        assert stack.agree()
        boundaries = stack.node("o2").ledger.boundaries(0, 100)
        assert len(boundaries) == 10
        assert all(balances(stack, name) == {"alice": 40, "bob": 60} for name in stack.members)


async def test_two_votes_for_one_place_cost_a_validator_its_seat(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=5, observers=1), epoch_length_slots=EPOCH) as stack:
        await stack.start_all()
        await stack.until_height(3)
        liar = stack.members["v5"].validator_key
        assert liar is not None
        await stack.stop("v5")
        height = stack.node("v2").ledger.height + 1
        for choice in (b"this", b"that"):
            data = prevote(stack, liar, height, choice)
            # Straight to the hub: the tap would take them for messages of an honest validator.
            assert stack.hub.node(stack.members["o1"].peer_id).send(stack.members["v2"].peer_id, CHANNEL, data)
        rest = ["v1", "v2", "v3", "v4"]
        await until_set(stack, rest, *rest, "o1")
        status = stack.status("o1")["validators"]["equivocations"]
        assert (status["on_record"], status["waiting"]) == (1, 0)
        assert status["newest"] == [{"validator_id": "v5", "height": height, "round": 0}]
        filed = [stack.counters(name).get("evidence.filed", 0) for name in rest]
        assert sum(filed) == 1, filed
        for _ in range(2):  # it follows, and nobody counts its votes; also when it starts without a seat
            await stack.start("v5")
            await stack.until_height(stack.top() + 3)
            assert stack.status("v5")["consensus"]["voting"] == "waiting: not in the validator set"
            await stack.stop("v5")
        await stack.start("v5")
        await stack.until_height(stack.top() + 3)
        assert stack.status("v5")["validators"]["current"].keys() == set(rest)
        await check_the_epoch_reports(stack, height)


async def check_the_epoch_reports(stack: Stack, equivocated: int) -> None:
    """Every height is in one report, the equivocation in the one of its epoch, the liar in no set afterwards."""
    ledger = stack.node("v1").ledger
    assert ledger.header is not None
    reports = [await ValidatorControl(stack.node("v1")).epoch(epoch) for epoch in range(ledger.header.epoch + 1)]
    assert [report["first_height"] for report in reports[1:]] == [report["last_height"] + 1 for report in reports[:-1]]
    assert (reports[0]["first_height"], reports[-1]["last_height"]) == (1, ledger.height)
    assert [report["is_over"] for report in reports] == [True] * (len(reports) - 1) + [False]
    for report in reports:
        assert sum(row["proposed"] for row in report["validators"]) == report["blocks"]
        assert max(row["signed"] for row in report["validators"]) > 0
        assert all(row["signed"] <= row["heights_in_set"] for row in report["validators"])
    (found,) = [row for report in reports for row in report["equivocations"]]
    assert (found["validator_id"], found["height"], found["loses_seat"]) == ("v5", equivocated, True)
    (named,) = [report for report in reports if report["equivocations"]]
    assert named["first_height"] <= found["recorded_at_height"] <= named["last_height"]
    seated = ["v5" in {row["validator_id"] for row in report["validators"]} for report in reports]
    # What the last block of an epoch decides counts one epoch later (D4).
    last_seat = named["epoch"] + (found["recorded_at_height"] == named["last_height"])
    assert seated == [report["epoch"] <= last_seat for report in reports]
    assert [report["epoch"] for report in reports if report["sets_taking_over"]] == [last_seat]


def prevote(stack: Stack, key: KeyPair, height: int, choice: bytes) -> bytes:
    vote = Vote(world_id=WORLD_ID, height=U64(height), round=U32(0), step=Step.PREVOTE, block_hash=hash32(choice))
    return sign_record(Domain.VOTE, stack.genesis_hash, vote, key)


async def test_the_lease_passes_on_when_it_runs_out_and_the_old_writer_is_told(
    tmp_path: Path, autojump_clock: object
) -> None:
    config = attrs.evolve(MINIMAL, lease=LeaseConfig(ttl_ms=4_000))
    async with open_stack(tmp_path, specs(validators=4, observers=1), config=config) as stack:
        await stack.start_all()
        first, second = ValidatorControl(stack.node("v1")), ValidatorControl(stack.node("v2"))
        granted = await first.acquire_lease(3_000, keep=False)
        assert (granted["code"], granted["holder_id"], granted["term"]) == ("ok", "v1", 1)
        assert (await second.acquire_lease(3_000, keep=False))["code"] == "lease_held"
        told: list[int] = []
        keeper = stack.node("v1").lease
        assert keeper is not None
        assert keeper.fencing_term() == 1
        keeper.superseded = told.append
        await trio.sleep(4)
        taken = await second.acquire_lease(5_000, keep=True)
        assert (taken["code"], taken["holder_id"], taken["term"]) == ("ok", "v2", 2)
        await stack.until(lambda: told == [1], "the old writer is told")
        await stack.until_height(stack.top())
        shown = ValidatorControl(stack.node("o1")).lease()
        assert (shown["holder_id"], shown["term"], shown["held_here"]) == ("v2", 2, False)
        header = stack.node("o1").ledger.header
        assert header is not None
        assert header.lease_term == 2
        await trio.sleep(9)
        assert ValidatorControl(stack.node("v3")).lease()["term"] == 2  # renewed, not granted again
        assert (await second.release_lease())["code"] == "ok"
        assert (await first.acquire_lease(3_000, keep=False))["term"] == 3

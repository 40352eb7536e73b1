"""Stack tier: a validator whose guard was lost, torn, set back or not to be written, and one whose clock is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio

from agent_world.consensus.messages import open_message
from agent_world.crypto.signing import Domain, sign_record
from agent_world.errors import GuardLost, HomeError
from agent_world.node.seat import Seat
from agent_world.store.guard import GUARD_STEPS, GuardStore
from agent_world.store.home import Home
from agent_world.testing.stack import Stack, open_stack, specs
from agent_world.testing.stack_actions import applied, register
from agent_world.wire.consensus import Step, Vote
from agent_world.wire.ids import U32, U64

HOUR_MS = 3_600_000
GUARD = ("guard.db", "guard.log")


def seat(stack: Stack, name: str) -> Seat:
    found = stack.node(name).seat
    assert found is not None
    return found


def signed_heights(stack: Stack, name: str) -> set[int]:
    """Heights at which this member's key has signed anything, over restarts."""
    key = seat(stack, name).key.public_key
    return {height for place_key, height, _round, _step in stack.checker.places if place_key == key}


def says(stack: Stack, name: str) -> str:
    text = stack.status(name)["consensus"]["voting"]
    assert isinstance(text, str)
    return text


async def until_it_votes(stack: Stack, name: str, above: int) -> None:
    await stack.until(
        lambda: says(stack, name) == "yes" and max(signed_heights(stack, name), default=0) > above, f"{name} votes"
    )


async def grow(stack: Stack, heights: int) -> None:
    await stack.until_height(stack.top() + heights)


async def test_a_lost_guard_is_replaced_on_the_operators_word_and_waits_for_a_new_height(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        await grow(stack, 3)
        await stack.stop("v4")
        home = stack.members["v4"].home
        for name in GUARD:
            (home / name).unlink()
        with Home.open(home, stack.genesis_hash) as opened:
            key = opened.validator_key()
            assert key is not None
            with pytest.raises(GuardLost, match="guard init"):
                GuardStore.open(opened, key, committed_height=3)
            GuardStore.open(opened, key, committed_height=3, lost=True).close()
        await grow(stack, 3)
        before = stack.top()
        await stack.start("v4")
        assert says(stack, "v4").startswith("waiting: the vote guard was damaged or lost")
        await until_it_votes(stack, "v4", before)
        # Whatever was being decided when it came up was not signed by it.
        assert before + 1 not in signed_heights(stack, "v4")
        assert stack.counters("v4")["guard.settled"] == 1
        await grow(stack, 3)
        assert stack.agree()


async def test_a_world_that_cannot_go_on_without_a_lost_guard_does_so_by_the_operators_word(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, specs(validators=1)) as stack:
        await stack.start_all()
        await grow(stack, 3)
        await stack.stop("v1")
        home, height = stack.members["v1"].home, stack.checker.heights["v1"]
        (home / "guard.log").unlink()
        await stack.start("v1")
        await trio.sleep(3_600)
        assert (stack.top(), says(stack, "v1").split(":")[0]) == (height, "waiting")
        await stack.stop("v1")
        with Home.open(home, stack.genesis_hash) as opened:
            key = opened.validator_key()
            assert key is not None
            with GuardStore.open(opened, key, committed_height=height) as guard:
                guard.resume(height)
        await stack.start("v1")
        await grow(stack, 3)


async def test_a_validator_without_its_guard_does_not_start(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        await grow(stack, 2)
        await stack.stop("v4")
        for name in GUARD:
            (stack.members["v4"].home / name).unlink()
        with pytest.raises(BaseExceptionGroup) as caught:
            async with trio.open_nursery() as nursery:
                await nursery.start(stack._run, stack.members["v4"])
        assert caught.group_contains(GuardLost)
        await grow(stack, 2)


@pytest.mark.parametrize("torn", GUARD)
async def test_a_torn_guard_signs_no_height_that_it_may_have_signed(
    tmp_path: Path, autojump_clock: object, torn: str
) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        await grow(stack, 3)
        await stack.stop("v4")
        (stack.members["v4"].home / torn).write_bytes(b"torn")
        await grow(stack, 2)
        before = stack.top()
        await stack.start("v4")
        await until_it_votes(stack, "v4", before)
        assert before + 1 not in signed_heights(stack, "v4")


async def test_a_validator_whose_key_signs_elsewhere_falls_silent_until_it_is_restarted(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        await grow(stack, 3)
        node, key = stack.node("v4"), seat(stack, "v4").key
        assert node.voting is not None
        context = node.voting.context()
        # What the other process has signed at this height, in a round that this one has not come to.
        vote = Vote(
            world_id=context.world_id, height=U64(context.height), round=U32(9), step=Step.PREVOTE, block_hash=None
        )
        heard = open_message(sign_record(Domain.VOTE, stack.genesis_hash, vote, key), context)
        node.voting.take(heard)
        await stack.until(lambda: says(stack, "v4").startswith("waiting: another process signs"), "v4 is silent")
        assert stack.counters("v4")["guard.key_elsewhere"] == 1
        before = max(signed_heights(stack, "v4"))
        await grow(stack, 5)
        assert max(signed_heights(stack, "v4")) == before <= context.height
        await stack.stop("v4")
        await stack.start("v4")
        await until_it_votes(stack, "v4", before)


async def test_an_old_guard_beside_a_chain_that_went_on_signs_no_old_height(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        await grow(stack, 3)
        await stack.stop("v4")
        copy = tmp_path / "copy"
        shutil.copytree(stack.members["v4"].home, copy)
        await stack.start("v4")
        await grow(stack, 5)
        await stack.stop("v4")
        for name in GUARD:
            shutil.copy(copy / name, stack.members["v4"].home / name)
        with Home.open(stack.members["v4"].home, stack.genesis_hash) as home:
            key = home.validator_key()
            assert key is not None
            committed = stack.checker.heights["v4"]
            with GuardStore.open(home, key, committed_height=committed) as guard:
                assert guard.load().sign_floor == committed
        await stack.start("v4")
        await until_it_votes(stack, "v4", committed)


async def test_catching_up_is_one_record_in_the_guard(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        await grow(stack, 2)
        stack.hub.partition(stack.peers("v1", "v2", "v3"), stack.peers("v4"))
        await stack.until_height(stack.top() + 20, "v1", "v2", "v3")
        raised = stack.counters("v4").get("guard.floor_raised", 0)
        missed = stack.top()
        stack.hub.heal()
        await until_it_votes(stack, "v4", missed)
        assert stack.counters("v4")["guard.floor_raised"] - raised <= 2  # 20 heights, and the newest if it came alone
        state = guard_of(stack, "v4").load()
        assert state.sign_floor >= missed


def guard_of(stack: Stack, name: str) -> GuardStore:
    guard = seat(stack, name)._guard
    assert guard is not None
    return guard


@pytest.mark.parametrize("step", GUARD_STEPS)
async def test_a_full_disk_costs_votes_and_no_second_signature(
    tmp_path: Path, autojump_clock: object, step: str
) -> None:
    """Two of four cannot write: the world stands still, also at this height, until there is space again."""
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        await grow(stack, 3)

        def full(at: str) -> None:
            if at == step:
                raise HomeError("the disk is full")

        for name in ("v3", "v4"):
            guard_of(stack, name)._fault = full
        await stack.until(lambda: all(seat(stack, name).counters["guard.out_of_order"] for name in ("v3", "v4")), step)
        before = stack.top()
        await until_it_votes(stack, "v3", before)
        await until_it_votes(stack, "v4", before)
        await grow(stack, 3)
        assert stack.counters("v4")["guard.mended"] == 1
        assert stack.agree()


async def test_a_guard_that_cannot_be_opened_again_is_waited_for(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        await grow(stack, 2)

        def full(*_arguments: object, **_options: object) -> None:
            raise HomeError("the disk is full")

        guard_of(stack, "v4")._fault = full
        with monkeypatch.context() as patch:
            patch.setattr(GuardStore, "open", full)
            await grow(stack, 5)
            assert says(stack, "v4") == "waiting: the vote guard is out of order: the disk is full"
            assert stack.node("v4").ledger.height >= stack.top() - 1  # it follows
        await until_it_votes(stack, "v4", stack.top())


# --- wrong clocks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error_ms", [HOUR_MS, -HOUR_MS])
async def test_one_clock_that_jumps_does_not_stop_the_world(
    tmp_path: Path, autojump_clock: object, error_ms: int
) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        await grow(stack, 3)
        stack.clock_error_ms["v1"] = error_ms
        await grow(stack, 12)
        header = stack.node("v2").ledger.header
        assert header is not None
        assert abs(header.timestamp_ms - stack.wall_ms()) < HOUR_MS / 2
        stack.clock_error_ms.clear()
        before = stack.top()
        await grow(stack, 4)
        await until_it_votes(stack, "v1", before)


@pytest.mark.parametrize("error_ms", [HOUR_MS, -HOUR_MS])
async def test_no_stall_outlives_a_jump_of_most_clocks(tmp_path: Path, autojump_clock: object, error_ms: int) -> None:
    """Two of four: no block may find enough votes, whoever proposes it, until the clocks are right again."""
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        await grow(stack, 3)
        stack.clock_error_ms.update(v1=error_ms, v2=error_ms)
        await trio.sleep(20)
        stack.clock_error_ms.clear()
        since = trio.current_time()
        await grow(stack, 5)
        assert trio.current_time() - since < 30
        assert stack.agree()


@pytest.mark.parametrize("error_ms", [HOUR_MS, -HOUR_MS])
async def test_clocks_that_jump_together_and_back(tmp_path: Path, autojump_clock: object, error_ms: int) -> None:
    """After a jump ahead the chain's time is ahead of every clock; it goes on by a millisecond a block."""
    async with open_stack(tmp_path, specs(validators=4, observers=1)) as stack:
        await stack.start_all()
        await grow(stack, 3)
        stack.clock_error_ms.update(dict.fromkeys(stack.members, error_ms))
        await grow(stack, 5)
        stack.clock_error_ms.clear()
        since = trio.current_time()
        await grow(stack, 8)
        assert trio.current_time() - since < 30
        await applied(stack, "v2", stack.submit("v2", stack.authority, register("alice")))


async def test_a_wrong_clock_at_the_start_does_not_hold_up_a_lost_guard_for_ever(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        await grow(stack, 3)
        await stack.stop("v4")
        (stack.members["v4"].home / "guard.db").unlink()
        stack.clock_error_ms["v4"] = HOUR_MS
        await stack.start("v4")
        await grow(stack, 5)
        assert says(stack, "v4").startswith("waiting")
        stack.clock_error_ms.clear()
        await until_it_votes(stack, "v4", stack.top())

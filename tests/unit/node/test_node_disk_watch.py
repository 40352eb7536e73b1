"""A node's parts over faults of the disk: paused and begun anew; writes that are waited for; the look for the end."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from agent_world.errors import HomeError, StoreFault, StoreNotReadable, StoreNotWritable
from agent_world.node.clock import Clock
from agent_world.node.disk_watch import PAUSE_S, TRY_S, DiskWatch, until_written
from agent_world.testing.faulty_disk import FaultyDisk
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.stack import open_stack, specs


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[tuple[DiskWatch, LedgerChain, FaultyDisk]]:
    with LedgerChain(tmp_path / "home") as chain:
        disk = FaultyDisk(chain.path)
        disk.wrap(chain.home.database)
        with disk.active():
            yield DiskWatch(chain.home.database.faults, chain.blobs, Clock(lambda: 77)), chain, disk


Rig = tuple[DiskWatch, LedgerChain, FaultyDisk]


@pytest.mark.parametrize("fault", [StoreNotWritable("full"), StoreNotReadable("gone")])
@pytest.mark.parametrize("grouped", [False, True])
async def test_a_part_begins_anew_after_each_fault(
    watch: Rig, autojump_clock: object, fault: StoreFault, grouped: bool
) -> None:
    begun: list[float] = []

    async def fails() -> None:
        raise fault

    async def part() -> None:
        begun.append(trio.current_time())
        if len(begun) == 3:
            return
        if not grouped:
            await fails()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(fails)

    await watch[0].endure("part", part)
    assert [later - begun[0] for later in begun] == [0, PAUSE_S, 2 * PAUSE_S]
    assert watch[0].counters["disk.paused.part"] == 2


async def test_what_is_no_fault_of_the_disk_ends_a_part(watch: Rig) -> None:
    async def damaged() -> None:
        raise HomeError("damaged")

    async def both() -> None:
        raise ExceptionGroup("two", [StoreNotWritable("full"), ValueError("a bug")])

    with pytest.raises(HomeError):
        await watch[0].endure("part", damaged)
    with pytest.raises(ExceptionGroup):
        await watch[0].endure("part", both)
    assert not watch[0].counters


async def test_a_write_is_waited_for_unless_it_becomes_moot(autojump_clock: object) -> None:
    tries = 0
    told: list[str] = []

    async def write() -> None:
        nonlocal tries
        tries += 1
        if tries % 3:
            raise StoreNotWritable("full")

    assert await until_written(write, lambda: False, lambda error: told.append(str(error)))
    assert (tries, told) == (3, ["full", "full"])
    assert not await until_written(write, lambda: tries >= 4, lambda error: told.append(str(error)))
    assert tries == 4


async def test_the_end_of_a_fault_is_found_out_where_nobody_writes(watch: Rig, autojump_clock: object) -> None:
    disk_watch, chain, disk = watch
    async with trio.open_nursery() as nursery:
        nursery.start_soon(disk_watch.run)
        disk.break_after(0, errno.ENOSPC, lasting=True)
        with pytest.raises(StoreNotWritable):
            chain.blobs.put(b"data")
        await trio.sleep(3 * TRY_S)
        (shown,) = [fault for fault in disk_watch.status() if fault["place"] == "database"]
        assert (shown["since_ms"], shown["reason"], shown["doing"]) == (77, "disk_full", "write")
        disk.mend()
        await trio.sleep(2 * TRY_S)
        assert disk_watch.status() == []
        nursery.cancel_scope.cancel()


async def test_a_validator_alone_waits_for_its_disk_to_take_a_decided_height(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, specs(validators=1)) as stack:
        await stack.start_all()
        await stack.until_height(2)
        node = stack.node("v1")
        real, height = node.ledger.commit, node.ledger.height
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(node.ledger, "commit", refuse)
            await trio.sleep(10)
            assert node.ledger.height == height
            assert stack.status("v1")["consensus"]["last_status"] == "waiting for the disk: full"
            assert stack.counters("v1")["consensus.not_stored"] >= 5
            assert "disk.paused.voting" not in stack.counters("v1")
        assert node.ledger.commit == real
        await stack.until_height(height + 2)
        assert stack.agree()


def refuse(*_arguments: object) -> None:
    raise StoreNotWritable("full")

"""Stack tier: a node whose disk refuses stays up and says so, signs nothing it cannot keep, and goes on by itself."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import trio
from replicating import index, open_checked, put, take_lease, until_same_place

from agent_world.crypto.hashing import content_hash
from agent_world.errors import StoreNotReadable, StoreNotWritable
from agent_world.node.verify import verify_home
from agent_world.node.views import NodeViews
from agent_world.testing.faulty_disk import FaultyDisk
from agent_world.testing.stack import Stack, make_key, open_stack, specs
from agent_world.testing.stack_actions import applied, create, found_people


def faults(stack: Stack, name: str) -> set[tuple[str, str]]:
    return {(fault["place"], fault["reason"]) for fault in stack.status(name)["storage"]["faults"]}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS], ids=["full", "read-only"])
async def test_one_of_four_validators_has_no_disk_for_a_while(
    tmp_path: Path, autojump_clock: object, number: int
) -> None:
    async with open_stack(tmp_path, specs(validators=4, storage=1)) as stack:
        disk = FaultyDisk(stack.members["v4"].home)
        with disk.active():
            await stack.start_all()
            await found_people(stack, "v1")
            node = stack.node("v4")
            disk.break_after(0, number, lasting=True)
            with pytest.raises(StoreNotWritable):
                NodeViews(node).put_blob(b"never stored")
            await stack.until_height(stack.top() + 3, "v1", "v2", "v3", "s1")
            assert faults(stack, "v4")
            assert not node.blobs.has(content_hash(b"never stored"))
            behind = node.ledger.height
            assert behind < stack.top()
            await trio.sleep(20)
            assert stack.members["v4"].node is node
            disk.mend()
            await stack.until_height(stack.top(), "v4")
            await stack.until(lambda: stack.status("v4")["consensus"]["voting"] == "yes", "v4 votes again")
            await stack.until(lambda: not faults(stack, "v4"), "nothing is refused any more")
            NodeViews(node).put_blob(b"stored now")
        assert stack.agree()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO], ids=["denied", "broken"])
async def test_a_world_whose_disks_are_all_full_stands_still_and_goes_on(
    tmp_path: Path, autojump_clock: object, number: int
) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        disk = FaultyDisk(tmp_path)
        with disk.active():
            await stack.start_all()
            await found_people(stack, "v1")
            disk.break_after(7, number, lasting=True)
            await trio.sleep(10)
            height = stack.top()
            await trio.sleep(20)
            assert stack.top() == height
            assert all(member.node is not None for member in stack.members.values())
            disk.mend()
            await stack.until_height(height + 3)
        assert stack.agree()


@pytest.mark.parametrize("name", ["v4", "s1"])
async def test_a_node_that_cannot_read_for_a_while_stays_and_comes_back(
    tmp_path: Path, autojump_clock: object, name: str
) -> None:
    async with open_stack(tmp_path, specs(validators=4, storage=1)) as stack:
        disk = FaultyDisk(stack.members[name].home)
        with disk.active():
            await stack.start_all()
            await found_people(stack, "v1")
            node = stack.node(name)
            disk.break_reads(errno.EIO, rows_too=True)
            with pytest.raises(StoreNotReadable):
                node.blobs.usage()
            others = [other for other in stack.members if other != name]
            await stack.until_height(node.ledger.height + 5, *others)
            await trio.sleep(20)
            assert stack.members[name].node is node
            disk.mend()
            await stack.until_height(max(stack.node(other).ledger.height for other in others), name)
            await stack.until(lambda: not faults(stack, name), "nothing is refused any more")
            if name == "v4":
                await stack.until(lambda: stack.status("v4")["consensus"]["voting"] == "yes", "v4 votes again")
        assert stack.agree()


async def test_what_a_storage_node_could_not_store_it_pulls_later(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=3, storage=1)) as stack:
        disk = FaultyDisk(stack.members["s1"].home)
        with disk.active():
            await stack.start_all()
            await found_people(stack, "v1")
            disk.break_after(0, errno.ENOSPC, lasting=True)
            poem = NodeViews(stack.node("v1")).put_blob(b"a poem" * 9_000)
            payload = create("poem", poem, 54_000)
            await applied(stack, "v1", stack.submit("v1", make_key("alice"), payload))
            await trio.sleep(30)
            assert not stack.node("s1").blobs.has(poem.digest)
            disk.mend()
            await stack.until(lambda: stack.node("s1").blobs.has(poem.digest), "the poem is pulled")
            await stack.until(lambda: not faults(stack, "s1"), "nothing is refused any more")
        assert stack.counters("s1")["disk.paused.catch_up"] >= 1


async def test_the_writer_of_the_log_loses_nothing_and_says_nothing_twice(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_checked(tmp_path) as (stack, checker):
        disk = FaultyDisk(stack.members["v2"].home)
        with disk.active():
            await stack.start_all()
            await take_lease(stack, "v2")
            for number in range(4):
                put(stack, "v2", f"before/{number}", b"%d" % number)
            disk.break_after(9, errno.ENOSPC, lasting=True)
            await trio.sleep(8)
            with pytest.raises(StoreNotWritable):
                put(stack, "v2", "meanwhile", b"never")
            disk.mend()
            await stack.until(lambda: stack.status("v2")["replication"]["writes"], "it writes again")
            put(stack, "v2", "after", b"after")
            assert stack.node("v2").files.index.delete_file("before/0")
            await stack.until(lambda: stack.node("v2").replication.store.outbox_size() == 0, "all is published")
            await until_same_place(stack)
        expected = {"after", *(f"before/{number}" for number in range(1, 4))}
        for name in stack.members:
            assert index(stack, name).keys() == expected
            assert verify_home(stack.members[name].home).ok
        checker.one_log(stack.members)

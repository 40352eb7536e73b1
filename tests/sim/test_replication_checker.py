"""The checker of record logs sees what it is for."""

from __future__ import annotations

from pathlib import Path

from replicating import open_checked, put, take_lease, until_covered, until_same_place

from agent_world.crypto.hashing import cid_of
from agent_world.distfs.replication import commit_path
from agent_world.testing.record_log import EMPTY, A, B, written
from agent_world.testing.replication_checker import ReplicationChecker
from agent_world.testing.stack import Stack


def reported(stack: Stack) -> list[str]:
    """What was reported since the last look."""
    found = [violation.invariant for violation in stack.checker.violations]
    stack.checker.violations.clear()
    return found


async def test_two_writers_of_a_term_and_two_records_of_a_place_are_seen(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_checked(tmp_path) as (stack, _checker):
        checker = ReplicationChecker(stack)
        checker.accepted("v1", written(EMPTY, A, 1, "file"))
        checker.accepted("v2", written(EMPTY, A, 1, "file"))
        assert reported(stack) == []
        checker.accepted("v3", written(EMPTY, A, 1, "other"))
        assert reported(stack) == ["I-8"]
        checker.accepted("v3", written(EMPTY, B, 1, "file"))
        assert reported(stack) == ["I-8", "I-8"]


async def test_a_hole_another_block_and_another_index_are_seen(tmp_path: Path, autojump_clock: object) -> None:
    async with open_checked(tmp_path) as (stack, checker):
        await stack.start_all()
        await take_lease(stack, "v1")
        put(stack, "v1", "file", b"data")
        await until_covered(stack, stack.top() + 6)
        await until_same_place(stack)
        node = stack.node("o1")
        first, last = checker.first_covered("o1"), node.replication.store.covered_height()
        checker.covered("o1", first, last)
        checker.one_log(stack.members)
        assert reported(stack) == []
        checker.covered("o1", first, last + 1)
        assert reported(stack) == ["I-6"]
        database = node.replication.store._database
        database.execute("UPDATE file_index SET cid = ? WHERE path = 'file'", (cid_of(b"other").to_bytes(),))
        checker.one_log(stack.members)
        assert reported(stack) == ["one log"]
        rows = database.query("SELECT record FROM replication_records WHERE commit_height = ?", (first + 1,))
        database.execute("UPDATE replication_records SET record = ? WHERE commit_height = ?", (*rows[0], first))
        checker.covered("o1", first, last)
        assert reported(stack) == ["I-6"]
        database.execute("DELETE FROM replication_records WHERE path = ?", (commit_path(first),))
        checker.covered("o1", first, last)
        assert reported(stack) == ["I-6"]

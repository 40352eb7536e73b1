"""Stack tier: the lease's holder writes the record log, everybody else follows it (T-8.1 to T-8.9, T-9.5, T-9.9)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio
from replicating import covered, index, open_checked, put, take_lease, until_covered, until_same_place

from agent_world.crypto.hashing import cid_of, content_hash
from agent_world.errors import ErrorCode, FileConflict, Refused
from agent_world.handlers.replication import open_records
from agent_world.net.interface import RequestHandler
from agent_world.net.memory import LinkSettings
from agent_world.node.replica_publish import CLAIM_BLOCKS
from agent_world.node.verify import verify_home
from agent_world.node.views import NodeViews
from agent_world.wire import record, rpc
from agent_world.wire.cid import Codec
from agent_world.wire.ids import U64, PeerId


async def test_every_height_of_the_holder_is_recorded_everywhere(tmp_path: Path, autojump_clock: object) -> None:
    async with open_checked(tmp_path) as (stack, checker):
        await stack.start_all()
        assert await take_lease(stack, "v1") == 1
        first = stack.node("v1").ledger.height
        await until_covered(stack, first + 30)
        for name in stack.members:
            shown = stack.status(name)["replication"]
            assert (shown["term"], shown["holder_id"], shown["writer_epoch"]) == (1, "v1", 1)
            assert shown["last_error"] is None
            assert shown["writes"] is (name == "v1")
            checker.covered(name, first, first + 30)
        gate = stack.status("v1")["replication"]["gate"]
        assert (gate["passed"], gate["samples"], gate["required"], gate["matches"]) == (True, 3, 2, 3)
        assert gate["counts"]["passed"] > 10
        assert stack.counters("o1")["replication.applied"] >= 30


async def test_nothing_is_written_without_a_lease(tmp_path: Path, autojump_clock: object) -> None:
    async with open_checked(tmp_path) as (stack, _checker):
        await stack.start_all()
        await stack.until_height(10)
        assert {stack.node(name).replication.log.place() for name in stack.members} == {(0, 0)}
        for name in ("v1", "o1"):
            put(stack, name, f"of {name}", b"data")
            assert stack.node(name).replication.store.outbox_size() == 0
        await stack.until_height(stack.top() + 5)
        assert {name: [*index(stack, name)] for name in ("v1", "v2", "o1")} == {
            "v1": ["of v1"],
            "v2": [],
            "o1": ["of o1"],
        }
        assert not any("replication.asked" in stack.counters(name) for name in stack.members)


async def test_files_of_the_holder_are_in_every_index(tmp_path: Path, autojump_clock: object) -> None:
    async with open_checked(tmp_path) as (stack, checker):
        await stack.start_all()
        await take_lease(stack, "v2")
        for number in range(20):
            put(stack, "v2", f"poems/{number % 15}", b"poem %d" % number)
        await stack.until(lambda: stack.node("v2").replication.store.outbox_size() == 0, "all is published")
        await until_same_place(stack)
        expected = {f"poems/{n}": str(cid_of(b"poem %d" % (n + 15 if n < 5 else n), Codec.RAW)) for n in range(15)}
        for name in stack.members:
            assert index(stack, name) == expected
            assert stack.node(name).blobs.get(cid_of(b"poem 19", Codec.RAW).digest) == b"poem 19"
        checker.one_log(stack.members)


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_what_the_holder_writes_by_path_is_published_and_what_others_write_is_theirs(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_checked(tmp_path) as (stack, _checker):
        await stack.start_all()
        await take_lease(stack, "v2")
        holder, other = stack.node("v2").files, stack.node("v3").files
        await other.write("own", None, once(b"mine"))
        await holder.write("shared", None, once(b"ours"))
        holder.copy("shared", "copy", None)
        await stack.until(lambda: "copy" in index(stack, "o1"), "it is published")
        await until_same_place(stack)
        found = {name: other.index.read_file(name) for name in index(stack, "v3")}
        assert found == {"own": b"mine", "shared": b"ours", "copy": b"ours"}
        assert "own" not in index(stack, "o1")
        await stack.node("o1").collecting.collect(grace_ms=0)
        assert stack.node("o1").files.index.read_file("shared") == b"ours"


async def test_what_the_holder_removes_goes_everywhere_and_is_verified(tmp_path: Path, autojump_clock: object) -> None:
    async with open_checked(tmp_path) as (stack, checker):
        await stack.start_all()
        await take_lease(stack, "v2")
        files = stack.node("v2").files.index
        for number in range(4):
            put(stack, "v2", f"poems/{number}", b"poem %d" % number)
        await stack.until(lambda: "poems/3" in index(stack, "o1"), "they are published")
        assert files.delete_file("poems/0")
        assert files.delete_file_if_match("poems/1", content_hash(b"poem 1"))
        with pytest.raises(FileConflict):
            files.delete_file_if_match("poems/2", content_hash(b"poem 1"))
        assert not files.delete_file("poems/0")
        put(stack, "v2", "brief", b"brief")
        assert files.delete_file("brief")
        await stack.until(lambda: stack.node("v2").replication.store.outbox_size() == 0, "all is published")
        await until_same_place(stack)
        for name in stack.members:
            assert index(stack, name).keys() == {"poems/2", "poems/3"}
        checker.one_log(stack.members)
        put(stack, "o1", "poems/0", b"of o1")
        put(stack, "v2", "poems/1", b"poem 1 again")
        await stack.until(lambda: "poems/1" in index(stack, "o1"), "it is published")
        await until_same_place(stack)
        assert stack.status("v2")["replication"]["gate"]["passed"]
        for name in stack.members:
            report = verify_home(stack.members[name].home)
            assert report.ok, (name, report.problems)


async def test_nobody_but_the_holder_changes_what_the_log_has(tmp_path: Path, autojump_clock: object) -> None:
    async with open_checked(tmp_path) as (stack, _checker):
        await stack.start_all()
        await take_lease(stack, "v2", keep=False)
        put(stack, "o1", "later", b"of o1")
        put(stack, "v2", "shared", b"ours")
        await stack.until(lambda: "shared" in index(stack, "o1"), "it is published")
        ref = stack.node("o1").files.export(None)
        other = stack.node("o1").files
        for change in (
            lambda: other.write("shared", None, once(b"mine")),
            lambda: other.write("shared", content_hash(b"ours"), once(b"mine")),
        ):
            with pytest.raises(Refused, match=r"held by v2 \(term 1\).*lease acquire") as caught:
                await change()
            assert (caught.value.code, caught.value.rule, caught.value.exit_code) == (ErrorCode.UNAUTHORIZED, "W9", 69)
        with pytest.raises(Refused):
            other.copy("later", "shared", None)
        with pytest.raises(Refused):
            other.index.delete_file("shared")
        put(stack, "v2", "later", b"ours too")
        await stack.until(lambda: other.index.need("later").content_hash != content_hash(b"of o1"), "the record wins")
        with pytest.raises(Refused):
            await other.take_in(ref, 0)  # it has another content at a path of the log
        assert index(stack, "o1").keys() == {"later", "shared"}
        assert other.index.read_file("shared") == b"ours"
        await stack.until(lambda: stack.status("v2")["replication"]["holder_id"] is None, "the lease runs out")
        with pytest.raises(Refused, match="held by nobody"):
            stack.node("v2").files.index.delete_file("shared")
        assert verify_home(stack.members["o1"].home).ok


async def test_an_index_that_the_holder_takes_in_is_published(tmp_path: Path, autojump_clock: object) -> None:
    async with open_checked(tmp_path) as (stack, _checker):
        await stack.start_all()
        await take_lease(stack, "v2")
        for name in ("a", "b"):
            put(stack, "v2", name, name.encode())
        ref = stack.node("v2").files.export(None)
        put(stack, "v2", "b", b"other")
        put(stack, "v2", "c", b"c")
        await stack.until(lambda: "c" in index(stack, "o1"), "they are published")
        assert (await stack.node("v2").files.take_in(ref, 5))["files"] == 2
        await stack.until(lambda: stack.node("v2").replication.store.outbox_size() == 0, "all is published")
        await until_same_place(stack)
        for name in stack.members:
            assert index(stack, name) == {text: str(cid_of(text.encode(), Codec.RAW)) for text in ("a", "b")}
            assert verify_home(stack.members[name].home).ok


async def test_who_comes_late_gets_all_of_it(tmp_path: Path, autojump_clock: object) -> None:  # T-8.3
    async with open_checked(tmp_path) as (stack, checker):
        for name in ("v1", "v2", "v3", "v4", "s1"):
            await stack.start(name)
        await take_lease(stack, "v1")
        put(stack, "v1", "file", b"data")
        first = stack.node("v1").ledger.height
        await until_covered(stack, first + 40, "v1")
        await stack.start("o1")  # gossip shows it the newest only
        await until_covered(stack, stack.top(), "o1")
        checker.covered("o1", first, first + 40)
        assert index(stack, "o1").keys() == {"file"}


async def test_a_follower_that_was_cut_off_gets_what_it_missed(tmp_path: Path, autojump_clock: object) -> None:
    async with open_checked(tmp_path) as (stack, checker):  # T-9.5
        await stack.start_all()
        await take_lease(stack, "v1")
        first = stack.node("v1").ledger.height
        await until_covered(stack, first + 5)
        stack.hub.partition(stack.peers("v1", "v2", "v3", "s1", "o1"), stack.peers("v4"))
        await stack.until_height(stack.top() + 8, "v1", "v2", "v3")
        assert covered(stack, "v4") < covered(stack, "v1") - 4
        stack.hub.heal()
        top = stack.top()
        await until_covered(stack, top)
        status = stack.status("v4")["consensus"]
        assert status["last_execution_height"] == status["committed_height"] >= top
        checker.covered("v4", first, top)
        # Without v3 the other two and v4 are exactly the required three: each block needs its vote.
        stack.hub.partition(stack.peers("v1", "v2", "v4", "s1", "o1"), stack.peers("v3"))
        await until_covered(stack, stack.top() + 4, "v1", "v2", "v4", "s1", "o1")


@pytest.mark.parametrize("seed", [1])
async def test_loss_reordering_and_duplicates_block_nothing(
    tmp_path: Path, autojump_clock: object, seed: int
) -> None:  # T-9.9
    link = LinkSettings(
        delay_max_s=0.05, gossip_loss=0.2, gossip_duplicate=0.2, gossip_reorder=0.4, connection_loss=0.002
    )
    async with open_checked(tmp_path, seed=seed, link=link) as (stack, checker):
        await stack.start_all()
        await take_lease(stack, "v1")
        first = stack.node("v1").ledger.height
        for number in range(10):
            put(stack, "v1", f"file {number}", b"%d" % number)
            await trio.sleep(0.3)
        await until_covered(stack, stack.top())
        for name in stack.members:
            checker.covered(name, first, stack.top() - 3)
            assert len(index(stack, name)) == 10


async def test_a_restarted_writer_goes_on_where_it_was(tmp_path: Path, autojump_clock: object) -> None:  # T-8.6
    async with open_checked(tmp_path) as (stack, checker):
        await stack.start_all()
        await take_lease(stack, "v1")
        first = stack.node("v1").ledger.height
        for turn in range(3):
            await until_covered(stack, first + 4 * (turn + 1), "v1")
            epoch, sequence = stack.node("v1").replication.log.place()
            await stack.stop("v1")
            await trio.sleep(0.37 * turn)
            await stack.start("v1")
            stack.node("v1").lease.keep = True  # type: ignore[union-attr]
            assert stack.node("v1").replication.log.place() == (epoch, sequence)
        await until_covered(stack, stack.top() + 3)
        assert stack.status("o1")["replication"]["writer_id"] == "v1"
        checker.covered("o1", first, covered(stack, "o1"))
        checker.covered("v1", first, covered(stack, "o1"))


async def test_a_commit_is_asked_of_the_next_peer_when_one_has_none(  # T-8.2, T-8.12, K-8.7
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_checked(tmp_path) as (stack, _checker):
        await stack.start_all()
        await take_lease(stack, "v1")
        await until_covered(stack, stack.top() + 5)
        height = covered(stack, "o1")
        follower = stack.node("o1").replication
        wanted = follower.log.commit_record(height)
        asked: list[PeerId] = []

        async def lacks(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
            asked.append(peer)
            raise Refused(ErrorCode.NOT_FOUND, "not here", rule="W12")

        async def lies(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
            asked.append(peer)
            return b"nonsense"

        for name, lie in (("v1", lacks), ("v2", lacks), ("v3", lies), ("v4", None), ("s1", lacks)):
            stack.network(name).lie(rpc.FETCH_COMMIT, lie)
        follower.log.commit_record = lambda _height: None  # type: ignore[method-assign]
        assert (await follower.follower.fetch_commit(height)).data == wanted
        stack.network("v4").lie(rpc.FETCH_COMMIT, lacks)
        asked.clear()
        with pytest.raises(Refused) as caught:
            await follower.follower.fetch_commit(height)
        assert caught.value.code is ErrorCode.NOT_FOUND
        assert len(asked) == 5


async def test_t_8_8_the_commit_of_every_height_is_had_whatever_its_age(tmp_path: Path, autojump_clock: object) -> None:
    """T-8.8: commits are content and never go cold, so there is no limit to what is hot; also after a restart."""
    async with open_checked(tmp_path) as (stack, _checker):
        await stack.start_all()
        await take_lease(stack, "v1")
        first = stack.node("v1").ledger.height
        await until_covered(stack, first + 20)
        kept = {height: stack.node("s1").replication.log.commit_record(height) for height in range(first, first + 20)}
        assert None not in kept.values()
        assert len(set(kept.values())) == 20
        await stack.stop("s1")
        await stack.start("s1")
        await stack.until_height(stack.top() + 5)
        follower = stack.node("o1").replication
        follower.log.commit_record = lambda _height: None  # type: ignore[method-assign]  # what it has itself
        for height, wanted in kept.items():
            assert stack.node("s1").replication.log.commit_record(height) == wanted
            assert (await follower.follower.fetch_commit(height)).data == wanted


async def test_a_storage_node_fetches_all_of_a_large_file(tmp_path: Path, autojump_clock: object) -> None:
    data = bytes(range(256)) * 12_000
    async with open_checked(tmp_path) as (stack, checker):
        await stack.start_all()
        await take_lease(stack, "v1")

        async def parts() -> AsyncIterator[bytes]:
            yield data

        stored = await NodeViews(stack.node("v1")).put_content(parts())
        stack.node("v1").files.index.put_content("large", None, stored.cid, stored.size_bytes)
        await stack.until(lambda: "large" in index(stack, "s1") and "large" in index(stack, "o1"), "it is in the index")
        large = {name: stack.node(name).large for name in ("s1", "o1")}
        await stack.until(lambda: stack.status("s1")["storage"]["have"] == 1, "every chunk is here")
        assert await large["s1"].here(stored.cid) == len(data)
        assert await large["o1"].here(stored.cid) == 0  # its manifest only
        await until_same_place(stack)
        checker.one_log(stack.members)


async def test_a_file_whose_content_is_lost_holds_up_nobody(tmp_path: Path, autojump_clock: object) -> None:
    async with open_checked(tmp_path) as (stack, _checker):
        await stack.start_all()
        await take_lease(stack, "v1")
        node = stack.node("v1")
        put(stack, "v1", "lost", b"lost data")
        node.blobs.delete(cid_of(b"lost data", Codec.RAW).digest)
        put(stack, "v1", "kept", b"kept data")
        await until_covered(stack, stack.top() + 3)
        assert index(stack, "o1").keys() == {"kept"}
        assert "lost" in str(stack.status("v1")["replication"]["last_error"])
        NodeViews(stack.node("o1")).put_blob(b"lost data")  # somebody has it after all, and it is healed
        await stack.until(lambda: index(stack, "o1").keys() == {"kept", "lost"}, "it is published")


async def test_a_liar_stops_the_writer_for_a_few_blocks_only(tmp_path: Path, autojump_clock: object) -> None:
    async def boasts(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
        answer = open_records(await handler(peer, data))
        return record.to_bytes(attrs.evolve(answer, term=U64(2**60)))

    async with open_checked(tmp_path) as (stack, _checker):
        await stack.start_all()
        await take_lease(stack, "v1")
        await until_covered(stack, stack.top() + 2)
        stack.network("o1").lie(rpc.GET_RECORDS, boasts)
        await stack.until(lambda: stack.counters("v1").get("replication.false_claim", 0) > 3, "it lies on and on")
        assert stack.counters("v1")["replication.stopped_superseded"] <= CLAIM_BLOCKS
        assert stack.status("v1")["replication"]["writes"]
        await until_covered(stack, stack.top())

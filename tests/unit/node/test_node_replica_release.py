"""What a node gives up, what it keeps though it is asked to, and when the bytes are freed (K-3.7)."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from keepers import TARGET, Keeper, data_of, late, named
from leaving import Leaving
from trio.testing import wait_all_tasks_blocked

from agent_world.crypto.hashing import cid_of
from agent_world.distfs.manifest import ManifestBuilder
from agent_world.errors import ErrorCode, Refused, StoreNotWritable
from agent_world.node.replica_release import FREE_PAUSE_S, FREE_SHARE
from agent_world.store.collector import Collector
from agent_world.store.content import NEVER_MS, ContentState
from agent_world.store.pins import Pin, PinTable
from agent_world.testing.faulty_disk import FaultyDisk
from agent_world.wire import cbor, record
from agent_world.wire.blob import FileManifest
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.ids import U64, PeerId, TimeMs
from agent_world.wire.limits import CHUNK_BYTES, MANIFEST_LINKS_MAX
from agent_world.wire.replica import Holding, ReplicaAsk


async def test_it_is_given_up_when_as_many_others_as_wanted_promise_and_show_it(
    leaving: Any, autojump_clock: object
) -> None:
    made = await leaving(keepers=TARGET)
    made.releases.last_error = "of an earlier one"
    assert await made.give_up()
    row = made.node.row(made.content)
    assert (row.state, row.next_try_ms) == (ContentState.NAMED, NEVER_MS)
    assert made.withdrawn == [(made.content, ContentState.HAVE)], "the withdrawal comes first"
    assert made.node.own.discarded_bytes() == len(data_of(1))
    assert made.node.chain.blobs.has(made.content.digest), "the bytes go with the next collection"
    assert len(made.collected_s) == 2, "tried again while they are there"
    assert dict(made.releases.counters) == {"replicas.given_up": 1}
    assert made.releases.last_error is None
    for peer, keeper in made.node.others.items():
        assert keeper.done == [(ReplicaAsk.KEEP, made.content, None)]
        assert made.node.challenged[peer, made.content] == 1


async def pinned(made: Leaving) -> None:
    PinTable(made.node.chain.home).put(Pin(name="mine", cid=made.content, made_ms=TimeMs(0)))


async def lost(made: Leaving) -> None:
    made.node.table.mark_lost(made.content, 0)


async def removed(made: Leaving) -> None:
    made.node.chain.blobs.delete_many([made.content.digest])


async def left(made: Leaving) -> None:
    made.node.table.give_up(made.content)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
@pytest.mark.parametrize("change", [pinned, lost, left])
async def test_what_changes_here_is_seen_until_the_end(
    leaving: Any, autojump_clock: object, change: Callable[[Leaving], Awaitable[None]], when: str
) -> None:
    """A pin that comes while the others are asked; content that has gone meanwhile is fetched again, not given up."""
    made = await leaving(keepers=TARGET)
    if when == "before":
        await change(made)
    else:

        async def challenge(peer: PeerId, cid: Cid) -> dict[str, Any]:
            if not sum(made.node.challenged.values()):
                await change(made)
            return await made.node.challenge(peer, cid)

        made.releases.challenge = challenge
    await made.give_up()
    states = {pinned: ContentState.HAVE, lost: ContentState.WANTED, left: ContentState.NAMED}
    assert made.node.state(made.content) is states[change]
    assert not made.withdrawn
    assert not made.node.own.discarded_bytes()
    assert made.releases.counters["replicas.release_failed"] == 1
    assert sum(made.node.challenged.values()) == (0 if when == "before" else TARGET)


async def test_content_whose_bytes_have_gone_breaks_nothing(leaving: Any, autojump_clock: object) -> None:
    """Others have shown it, so that this node need not fetch it again."""
    made = await leaving(keepers=TARGET)
    await removed(made)
    assert await made.give_up()
    assert made.node.own.discarded_bytes() == 0


async def test_content_that_the_world_does_not_name_is_not_given_up(leaving: Any, autojump_clock: object) -> None:
    made = await leaving(keepers=TARGET)
    made.contents = [named(77)]
    assert made.node.holdings.release(named(77))
    with trio.move_on_after(1):
        await made.releases.run()
    assert made.releases.counters["replicas.release_failed"] == 1


def keep(made: Leaving, data: bytes, codec_of: Codec = Codec.DAG_CBOR) -> Cid:
    """The node keeps this too, as all others do."""
    cid = cid_of(data, codec_of)
    made.node.chain.blobs.put(data)
    made.node.table.name([(cid, len(data))], 0)
    made.node.table.mark_have([cid])
    made.contents = [cid]
    made.content = cid
    return cid


async def test_a_file_goes_with_all_its_chunks(leaving: Any, autojump_clock: object) -> None:
    made = await leaving()
    builder = ManifestBuilder()
    data = bytes(range(251)) * 4_000
    parts = dict([*builder.add(data), *builder.finish()])
    made.node.chain.blobs.put_many(parts.values())
    *chunks, top = parts
    keep(made, parts[top])
    made.hold(*[Keeper() for _ in range(TARGET)])
    assert len(chunks) > 1
    assert await made.give_up()
    assert made.node.own.discarded_bytes() == sum(map(len, parts.values()))


async def test_a_file_of_which_a_chunk_has_gone_goes_with_the_rest(leaving: Any, autojump_clock: object) -> None:
    made = await leaving()
    builder = ManifestBuilder()
    parts = dict([*builder.add(bytes(1_000_000) + b"end"), *builder.finish()])
    made.node.chain.blobs.put_many(parts.values())
    *chunks, top = parts
    keep(made, parts[top])
    made.node.chain.blobs.delete_many([chunks[0].digest])
    made.hold(*[Keeper() for _ in range(TARGET)])
    assert await made.give_up()


async def test_a_file_of_which_whole_branches_have_gone_goes_with_the_rest(
    leaving: Any, autojump_clock: object
) -> None:
    made = await leaving()
    size_bytes = CHUNK_BYTES * MANIFEST_LINKS_MAX + 1
    branches = tuple(cid_of(b"not here %d" % number) for number in range(2))
    cid = keep(made, record.to_bytes(FileManifest(size_bytes=U64(size_bytes), links=branches)))
    made.hold(*[Keeper() for _ in range(TARGET)])
    assert await made.give_up()
    assert made.node.own.discarded_bytes() == made.node.chain.blobs.stat(cid.digest).size_bytes


async def test_content_that_links_to_other_content_and_is_no_file_stays(leaving: Any, autojump_clock: object) -> None:
    made = await leaving()
    keep(made, cbor.encode({"next": named(5)}))
    made.hold(*[Keeper() for _ in range(TARGET)])
    assert not await made.give_up()
    assert made.nothing_has_gone()
    assert "links to other content" in made.releases.last_error


@pytest.mark.parametrize("data", [cbor.encode({"next": 5}), b"\xff no dag-cbor"])
async def test_content_that_links_to_nothing_goes(leaving: Any, autojump_clock: object, data: bytes) -> None:
    """Also what only says that it is dag-cbor."""
    made = await leaving()
    keep(made, data)
    made.hold(*[Keeper() for _ in range(TARGET)])
    assert await made.give_up()


async def test_a_tree_whose_bytes_are_not_here_stays(leaving: Any, autojump_clock: object) -> None:
    """What it links to cannot be told."""
    made = await leaving()
    cid = keep(made, cbor.encode({"next": 6}))
    made.hold(*[Keeper() for _ in range(TARGET)])
    made.node.chain.blobs.delete_many([cid.digest])
    assert not await made.give_up()
    assert made.node.state(cid) is ContentState.HAVE


async def test_one_after_the_other_and_one_that_fails_holds_up_none(leaving: Any, autojump_clock: object) -> None:
    made = await leaving(1, 2, 3, 4)
    bad = made.contents[1]
    made.hold(*[Keeper(shows=lambda cid: "failed" if cid == bad else "passed") for _ in range(TARGET)])
    assert not await made.give_up()
    assert [made.is_kept(cid) for cid in made.contents] == [False, True, False, False]
    assert [cid for cid, _state in made.withdrawn] == [cid for cid in made.contents if cid != bad]
    assert dict(made.releases.counters) == {
        "replicas.given_up": 3, "replicas.release_failed": 1, "replicas.not_shown.failed": TARGET,
    }  # fmt: skip


async def test_the_work_goes_on_when_more_comes(leaving: Any, autojump_clock: object) -> None:
    made = await leaving(1, 2, keepers=TARGET)
    one, two = made.contents
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.releases.run)
        await wait_all_tasks_blocked()
        for cid in (one, two):
            made.node.holdings.release(cid)
            await trio.sleep(1)
            assert not made.is_kept(cid)
        nursery.cancel_scope.cancel()


async def test_what_is_given_up_is_freed_at_once_and_then_now_and_then(leaving: Any, autojump_clock: object) -> None:
    """A collection follows every root of the home, and these come with every round of every planner."""
    made = await leaving(*range(1, 8), keepers=TARGET)
    made.collecting = [0.0, 3.0]
    made.frees = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.releases.run)
        started = trio.current_time()
        for cid in made.contents:
            made.node.holdings.release(cid)
            await trio.sleep(4)
        await trio.sleep(FREE_SHARE * 3)
        nursery.cancel_scope.cancel()
    assert not any(map(made.is_kept, made.contents))
    at = [when - started for when in made.collected_s]
    # It took no time: the next after the pause; that took 3 s: the next after 20 times as long, and then no more.
    assert at == pytest.approx([0, FREE_PAUSE_S, FREE_PAUSE_S + 3 + FREE_SHARE * 3], abs=0.1)


async def test_what_is_given_up_while_somebody_is_about_to_pin_it_stays(leaving: Any, autojump_clock: object) -> None:
    """The pin fetches what else it needs, and has found this here."""
    made = await leaving(keepers=TARGET)
    home, blobs = made.node.chain.home, made.node.chain.blobs

    async def collect() -> None:
        collector, now_ms = Collector(home, blobs), blobs.wall_ms()
        with collector.alone():
            for _ in (*collector.mark(now_ms), *collector.note(now_ms), *collector.sweep(now_ms, 1_000_000)):
                await trio.lowlevel.checkpoint()

    made.releases.collect = collect
    with blobs.hold():
        assert blobs.rely_on([made.content.digest])
        assert await made.give_up()
        assert made.node.own.discarded_bytes()
        await pinned(made)
    await collect()
    assert blobs.has(made.content.digest)
    assert not made.node.own.discarded_bytes()


async def test_what_was_given_up_before_a_restart_is_freed_after_it(leaving: Any, autojump_clock: object) -> None:
    made = await leaving(keepers=TARGET)
    made.frees = True
    with trio.move_on_after(1):
        await made.releases.run()
    assert made.collected_s == [], "nothing was given up"
    made.node.own.discard([made.content.digest])
    with trio.move_on_after(1):
        await made.releases.run()
    assert len(made.collected_s) == 1


async def test_a_collection_that_is_refused_is_tried_again(leaving: Any, autojump_clock: object) -> None:
    made = await leaving(keepers=TARGET)
    made.frees = True
    made.collecting = [Refused(ErrorCode.BUSY, "garbage is being collected already")]
    assert await made.give_up(seconds=3 * FREE_PAUSE_S)
    assert len(made.collected_s) == 2
    assert made.collected_s[1] - made.collected_s[0] == pytest.approx(FREE_PAUSE_S)
    assert made.releases.counters["replicas.not_freed"] == 1


async def test_who_is_ended_in_the_middle_has_given_nothing_up(leaving: Any, autojump_clock: object) -> None:
    made = await leaving(keepers=TARGET - 1)
    made.hold(Keeper(on={ReplicaAsk.KEEP: late(5)}))
    made.node.holdings.release(made.content)
    with trio.move_on_after(1):
        await made.releases.run()
    assert made.is_kept(made.content)
    assert not made.withdrawn
    assert not made.node.holdings.is_leaving(made.content), "it is planned again"


async def test_a_disk_that_refuses_any_write_leaves_a_copy_or_none_and_no_half(
    leaving: Any, autojump_clock: object
) -> None:
    """Whatever was not written, the part begins anew once the disk works, and the copy is given up then."""
    made = await leaving(*range(1, 9), keepers=TARGET)
    disk = FaultyDisk(made.node.chain.path)
    disk.wrap(made.node.chain.home.database)
    refused = 0
    with disk.active():
        for operations, cid in enumerate(made.contents):
            disk.break_after(operations, errno.ENOSPC, lasting=True)
            made.node.holdings.release(cid)
            try:
                with trio.move_on_after(1):
                    await made.releases.run()
            except* StoreNotWritable:
                refused += 1
            disk.mend()
            assert not made.node.holdings.leaving
            assert made.node.chain.blobs.has(cid.digest)
            assert made.node.says(cid) in (Holding.HELD, Holding.NAMED)
            made.node.holdings.release(cid)
            with trio.move_on_after(1):
                await made.releases.run()
            assert made.node.says(cid) is Holding.NAMED
    assert 2 <= refused < len(made.contents), "each write was refused once, and then none"

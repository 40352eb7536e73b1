"""Stack tier: nothing is published before peers have shown samples of what was replicated (T-8.5, T-8.16, T-9.6)."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
from replicating import CONFIG, covered, open_checked, put, take_lease, until_covered, until_same_place

from agent_world.errors import ErrorCode, Refused
from agent_world.net.interface import RequestHandler
from agent_world.testing.stack import Stack, specs
from agent_world.testing.tapped_network import Lie
from agent_world.wire import record, rpc
from agent_world.wire.blob import FetchBlobRequest, FetchBlobResponse
from agent_world.wire.ids import PeerId

OTHERS = ("v2", "v3", "v4", "s1", "o1")


async def wrong_octets(_handler: RequestHandler, _peer: PeerId, data: bytes) -> bytes:
    asked = record.from_bytes(FetchBlobRequest, data, size_max=len(data))
    return record.to_bytes(FetchBlobResponse(content_hash=asked.content_hash, blob=b"other bytes"))


async def not_here(_handler: RequestHandler, _peer: PeerId, _data: bytes) -> bytes:
    raise Refused(ErrorCode.NOT_FOUND, "gone", rule="L1")


async def nonsense(_handler: RequestHandler, _peer: PeerId, _data: bytes) -> bytes:
    return b"\xff"


async def silence(_handler: RequestHandler, _peer: PeerId, _data: bytes) -> bytes:
    await trio.sleep(60)
    return b""


def lie(stack: Stack, told: Lie | None, *names: str) -> None:
    for name in names or OTHERS:
        stack.network(name).lie(rpc.FETCH_BLOB, told)


def shown(stack: Stack, what: str = "gate") -> dict[str, object]:
    found: dict[str, object] = stack.status("v1")["replication"]
    return found[what] if what == "gate" else found  # type: ignore[return-value]


async def until_refused(stack: Stack, since: int) -> None:
    await stack.until(lambda: stack.counters("v1").get("replication.gate.failed", 0) > since + 2, "the gate refuses")


@pytest.mark.parametrize(
    ("told", "reason"),
    [(wrong_octets, "hash_mismatch"), (not_here, "not_found"), (nonsense, "no_answer"), (silence, "timeout")],
)
async def test_a_gate_that_refuses_delays_heights_and_skips_none(
    tmp_path: Path, autojump_clock: object, told: Lie, reason: str
) -> None:  # T-8.16, T-9.6
    async with open_checked(tmp_path) as (stack, checker):
        await stack.start_all()
        await take_lease(stack, "v1")
        first = stack.node("v1").ledger.height
        await until_covered(stack, first + 8)
        lie(stack, told)
        await until_refused(stack, 0)
        at, top = stack.node("v1").replication.log.place(), stack.top()
        await stack.until_height(top + 4)  # the committed height grows meanwhile
        assert stack.node("v1").replication.log.place() == at
        gate, status = shown(stack), shown(stack, "status")
        assert (gate["passed"], gate["matches"], gate["required"], gate["samples"]) == (False, 0, 2, 3)
        assert str(gate["detail"]).startswith("network threshold unmet")
        assert gate["reasons"].keys() == {reason}  # type: ignore[attr-defined]
        assert int(str(status["outbox"])) >= 3
        assert "storage challenge gate failed: network threshold unmet" in str(status["last_error"])
        lie(stack, None)
        await until_covered(stack, top + 4)
        await until_same_place(stack)
        places = [stack.node("o1").replication.log.open(data).place for data in log_of(stack, "o1")]
        assert places == [(1, number) for number in range(1, len(places) + 1)]
        for name in stack.members:
            checker.covered(name, first, top + 4)
        await stack.until(lambda: shown(stack, "status")["last_error"] is None, "the error is over")


def log_of(stack: Stack, name: str) -> tuple[bytes, ...]:
    return stack.node(name).replication.store.records_after((0, 0))


async def test_two_of_three_matches_are_enough(tmp_path: Path, autojump_clock: object) -> None:  # T-8.5
    async with open_checked(tmp_path) as (stack, _checker):
        await stack.start_all()
        await take_lease(stack, "v1")
        await until_covered(stack, stack.top() + 8)
        store = stack.node("v1").replication.store
        chosen = [store.sample(position) for position in (1, 2, 3)]
        gone = {item.content.digest for item in chosen[:1] if item is not None}

        async def some(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
            asked = record.from_bytes(FetchBlobRequest, data, size_max=len(data)).content_hash
            return await (wrong_octets if asked in gone else pass_on)(handler, peer, data)

        lie(stack, some)
        stack.node("v1").replication.gate.draw = lambda _count: 0  # positions 1, 2, 3
        await until_covered(stack, stack.top() + 5)
        gate = shown(stack)
        assert (gate["passed"], gate["matches"], gate["samples"]) == (True, 2, 3)
        assert gate["reasons"] == {"hash_mismatch": CONFIG.replication.gate_peers_per_sample}
        gone.update(item.content.digest for item in chosen[:2] if item is not None)
        await until_refused(stack, 0)
        assert shown(stack)["matches"] == 1


async def pass_on(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
    return await handler(peer, data)


async def test_a_damaged_blob_here_stops_the_writer_until_it_is_healed(  # T-8.5: tampered local blobs
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_checked(tmp_path) as (stack, _checker):
        await stack.start_all()
        await take_lease(stack, "v1")
        await until_covered(stack, stack.top() + 8)
        node = stack.node("v1")
        sampled = node.replication.store.sample(1)
        assert sampled is not None
        digest = sampled.content.digest
        node.replication.gate.draw = lambda _count: 0
        node.blobs._database.execute("UPDATE blobs SET data = x'00' WHERE content_hash = ?", (digest,))
        await stack.until(lambda: "local_damaged" in str(shown(stack)["counts"]), "the damage is found")
        await until_covered(stack, stack.top() + 4)
        assert node.blobs.has(digest)
        assert stack.counters("v1")["heal.fetched"] >= 1


async def test_a_writer_without_a_peer_waits_and_a_first_one_gets_all_in_order(
    tmp_path: Path, autojump_clock: object
) -> None:  # K-8.8, K-8.1
    async with open_checked(tmp_path, specs(validators=1, observers=1)) as (stack, checker):
        await stack.start("v1")
        await take_lease(stack, "v1")
        first = stack.node("v1").ledger.height
        put(stack, "v1", "file", b"data")
        await stack.until_height(first + 12, "v1")
        assert covered(stack, "v1") == 0
        assert "waiting for neighbours" in str(shown(stack, "status")["last_error"])
        assert (await stack.node("v1").replication.gate.check()).reasons == {"no_peer": 1}
        await stack.start("o1")
        await until_covered(stack, first + 12)
        await until_same_place(stack)
        checker.covered("o1", first, first + 12)
        checker.one_log(stack.members)


async def test_a_full_outbox_holds_up_heights_and_loses_none(tmp_path: Path, autojump_clock: object) -> None:
    config = attrs.evolve(CONFIG, replication=attrs.evolve(CONFIG.replication, outbox_max=5))
    async with open_checked(tmp_path, specs(validators=1, observers=1), config=config) as (stack, checker):
        await stack.start("v1")
        await take_lease(stack, "v1")
        first = stack.node("v1").ledger.height
        await stack.until_height(first + 20, "v1")
        assert shown(stack, "status")["outbox"] == 5
        assert stack.counters("v1")["replication.outbox_full"] >= 1
        with pytest.raises(Refused) as caught:
            put(stack, "v1", "file", b"data")
        assert caught.value.code is ErrorCode.BUSY
        await stack.start("o1")
        await until_covered(stack, first + 20)
        checker.covered("o1", first, first + 20)


@pytest.mark.parametrize("stop", ["during the check", "before it"])
async def test_a_writer_that_dies_at_the_gate_skips_nothing(tmp_path: Path, autojump_clock: object, stop: str) -> None:
    async with open_checked(tmp_path) as (stack, checker):
        await stack.start_all()
        await take_lease(stack, "v1")
        first = stack.node("v1").ledger.height
        await until_covered(stack, first + 6)
        lie(stack, silence if stop == "during the check" else not_here)
        await stack.until(lambda: int(str(shown(stack, "status")["outbox"])) >= 3, "heights wait")
        await stack.stop("v1")
        lie(stack, None)
        await stack.until_height(stack.top() + 2)
        await stack.start("v1")
        stack.node("v1").lease.keep = True  # type: ignore[union-attr]
        last = stack.top() + 3
        await until_covered(stack, last)
        for name in stack.members:
            checker.covered(name, first, last)

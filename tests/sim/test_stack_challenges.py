"""Stack tier: whole nodes challenge each other in virtual time; who cannot read is found, who is slow is not blamed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from agent_world.config import MINIMAL, ChallengeConfig, NodeConfig
from agent_world.crypto.hashing import content_hash
from agent_world.distfs.probe import ProbeCursorState
from agent_world.errors import BlobHashMismatch, BlobNotFound
from agent_world.net.memory import LinkSettings
from agent_world.node.views import NodeViews
from agent_world.store.content import ContentState
from agent_world.store.home import HomeLayout
from agent_world.testing.stack import Stack, make_key, open_stack, specs
from agent_world.testing.stack_actions import applied, create, found_people
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import PeerId

CHALLENGES: Final = ChallengeConfig(
    interval_ms=1_000,
    settle_ms=2_000,
    challenges_per_tick=4,
    challenge_ttl_ms=2_000,
    failure_backoff_base_ms=2_000,
    failure_backoff_max_ms=100_000,
    backoff_multiplier_missing_sample=2,
    backoff_multiplier_hash_mismatch=4,
)
CONFIG: Final[NodeConfig] = attrs.evolve(
    MINIMAL, challenge=CHALLENGES, consensus=attrs.evolve(MINIMAL.consensus, empty_block_interval_ms=1_000)
)
DATA: Final = b"a poem" * 5_000
TICK_MS: Final = 1_000


async def world_with_a_poem(stack: Stack, keepers: tuple[str, ...]) -> Cid:
    """All members run, and every keeper holds an object's content."""
    await stack.start_all()
    await found_people(stack, "v1")
    content = NodeViews(stack.node("v1")).put_blob(DATA)
    payload = create("poem", content, len(DATA))
    await applied(stack, "v1", stack.submit("v1", make_key("alice"), payload))
    await stack.until(lambda: all(holds(stack, name, content) for name in keepers), "the poem is kept")
    return content


def holds(stack: Stack, name: str, content: Cid) -> bool:
    found = stack.node(name).content.get(content)
    return found is not None and found.state is ContentState.HAVE


def blob_path(stack: Stack, name: str, content: Cid) -> Path:
    digest = content.digest.hex()
    return HomeLayout(stack.members[name].home).blobs / digest[:2] / digest


def report(stack: Stack, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = stack.status(name)["distfs_challenge_report"]
    return shown


def asked_ms(stack: Stack, asker: str, target: PeerId) -> list[int]:
    """When a node has put questions to another; several at one time count once."""
    rows = stack.node(asker).challenges.challenger.recent(1_000)
    return sorted({row["asked_at_ms"] for row in rows if row["target"] == target})


async def test_every_role_challenges_and_honest_nodes_pass(tmp_path: Path, autojump_clock: object) -> None:
    """K-7.3, and K-7.7: every storage node is asked for all kinds of content. T-7.10: in the mode "network"."""
    members = specs(validators=3, storage=2, observers=1)
    async with open_stack(tmp_path, members, config=CONFIG) as stack:
        await world_with_a_poem(stack, ("s1", "s2"))
        await trio.sleep(30)
        one, other = stack.peers("s1", "s2")
        for name in ("v1", "v2", "v3", "o1"):
            shown = report(stack, name)
            assert (shown["failed_checks"], shown["failure_reasons"]) == (0, {}), name
            assert shown["passed_checks"] >= 60, name
            assert set(shown["targets"]) == {one, other}
            assert shown["latest_proof_semantics"]["node_id"] in (one, other)
        assert list(report(stack, "s1")["targets"]) == [other], "storage nodes challenge each other, not themselves"
        network = stack.status("v1")["distfs_network_challenge"]
        assert (network["mode"], len(network["issued_challenge_ids"])) == ("network", 4)
        assert sum(row["passed_checks"] for row in network["probe_report"]) == 4
        probe = stack.status("s1")["distfs_probe_cursor_state"]
        assert (probe["cumulative_failed_checks"], probe["rounds_executed"] >= 25) == (0, True)
        rows = stack.node("v1").challenges.challenger.recent(1_000)
        pairs = {(row["target"], row["content"]) for row in rows}
        both = {cid for target, cid in pairs if target == one} & {cid for target, cid in pairs if target == other}
        assert len(both) >= 4, "the same content is asked of both"


async def test_a_slow_and_breaking_line_is_never_held_against_an_honest_node(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, specs(validators=3, storage=1), config=CONFIG, seed=4) as stack:
        await world_with_a_poem(stack, ("s1",))
        bad = LinkSettings(delay_min_s=0.1, delay_max_s=0.7, connection_loss=0.01)
        stack.hub.set_link(*stack.peers("v1", "s1"), bad)

        def has_suffered() -> bool:
            targets = report(stack, "v1")["targets"].values()
            return any(each["passed_checks"] > 20 and each["contained"] + each["offline"] > 3 for each in targets)

        # Which message breaks the line is the luck of the schedule: 60 s saw 2 to 25 questions fail on the way.
        await stack.until(has_suffered, "the line has broken under questions")
        stack.hub.set_link(*stack.peers("v1", "s1"), None)
        (target,) = report(stack, "v1")["targets"].values()
        assert target["failed_checks"] == 0


async def test_two_reasons_give_two_waits_and_both_survive_a_restart(tmp_path: Path, autojump_clock: object) -> None:
    """One node has lost everything, another damaged it: each rests base x 2^(n-1) x the multiplier of its reason."""
    async with open_stack(tmp_path, specs(validators=3, storage=2), config=CONFIG) as stack:
        await world_with_a_poem(stack, ("s1", "s2"))
        lost, damaged = stack.peers("s1", "s2")

        def not_there(content: ContentHash) -> bytes:
            raise BlobNotFound(content.hex())

        def broken(content: ContentHash) -> bytes:
            raise BlobHashMismatch(content.hex())

        began_ms = stack.wall_ms()
        stack.node("s1").challenges.draw.read = not_there  # type: ignore[method-assign]
        stack.node("s2").challenges.draw.read = broken  # type: ignore[method-assign]
        await trio.sleep(40)
        waits = {}
        for target, reason in ((lost, "MISSING_SAMPLE"), (damaged, "HASH_MISMATCH")):
            state = report(stack, "v1")["targets"][target]
            assert (state["last_backoff_reason"], list(state["failure_reasons"])) == (reason, [reason])
            times = [time for time in asked_ms(stack, "v1", target) if time >= began_ms]
            waits[target] = [later - earlier for earlier, later in itertools.pairwise(times)]
            assert state["cumulative_backoff_skipped_rounds"] > 5
        for target, first_ms in ((lost, 4_000), (damaged, 8_000)):
            for number, wait_ms in enumerate(waits[target][:2]):
                expected_ms = first_ms * 2**number
                assert expected_ms <= wait_ms <= expected_ms + 2 * TICK_MS, waits
        before = report(stack, "v1")["targets"]
        await stack.stop("v1")
        await stack.start("v1")
        assert report(stack, "v1")["targets"] == before


async def test_a_flipped_octet_is_found_and_healed_and_the_streak_clears(
    tmp_path: Path, autojump_clock: object
) -> None:
    """T-9.8."""
    async with open_stack(tmp_path, specs(validators=3, storage=2), config=CONFIG) as stack:
        content = await world_with_a_poem(stack, ("s1", "s2"))
        await trio.sleep(5)
        path = blob_path(stack, "s1", content)
        good = bytearray(path.read_bytes())
        good[1_000] ^= 1
        path.write_bytes(good)
        challenges = stack.node("v1").challenges
        row = await challenges.challenge(stack.members["s1"].peer_id, content)
        assert (row["outcome"], row["reason"]) == ("failed", "HASH_MISMATCH")
        state = report(stack, "v1")["targets"][stack.members["s1"].peer_id]
        assert (state["last_backoff_duration_ms"], state["suspects"]) == (8_000, [str(content)])
        await stack.until(lambda: stack.node("s1").blobs.has(content.digest), "the blob is healed")
        assert content_hash(stack.node("s1").blobs.get(content.digest)) == content.digest
        row = await challenges.challenge(stack.members["s1"].peer_id, content)
        assert row["outcome"] == "passed"
        state = report(stack, "v1")["targets"][stack.members["s1"].peer_id]
        assert (state["consecutive_failure_rounds"], state["suspects"]) == (0, [])
        assert challenges.explain(row["challenge_id"])["receipt"]["size_bytes"] == len(DATA)


async def test_a_flipped_octet_of_a_file_is_audited_healed_and_clean_again(
    tmp_path: Path, autojump_clock: object
) -> None:
    """T-9.8, to the audit: the file's chunk is challenged, reported, fetched from another node, and all is clean."""
    async with open_stack(tmp_path, specs(validators=3, storage=2), config=CONFIG) as stack:
        content = await world_with_a_poem(stack, ("s1", "s2"))
        files = stack.node("s1").files
        files.index.put_content("poem", None, content, len(DATA))
        files.index.write_file("small", b"small")
        await trio.sleep(5)
        assert (await files.audit(reads=True))["is_clean"]
        path = blob_path(stack, "s1", content)
        octets = bytearray(path.read_bytes())
        octets[1_000] ^= 1
        path.write_bytes(octets)
        found = await files.audit(reads=True)
        assert (found["missing_file_blob_hashes"], found["is_clean"]) == ([content.digest.hex()], False)
        await stack.until(lambda: stack.node("s1").blobs.has(content.digest), "the blob is healed")
        assert (await files.audit(reads=True))["is_clean"]
        assert files.index.read_file("poem") == DATA
        # And once more, found by a challenge of another node.
        path.write_bytes(octets)
        challenges = stack.node("v1").challenges
        row = await challenges.challenge(stack.members["s1"].peer_id, content)
        assert (row["outcome"], row["reason"]) == ("failed", "HASH_MISMATCH")
        await stack.until(lambda: stack.node("s1").blobs.has(content.digest), "the blob is healed")
        assert (await challenges.challenge(stack.members["s1"].peer_id, content))["outcome"] == "passed"
        assert (await files.audit(reads=True))["is_clean"]
        assert stack.counters("s1")["store.corrupt"] == 2


async def test_the_probe_of_the_own_disk_finds_a_flipped_octet_first(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=3, storage=2), config=CONFIG) as stack:
        content = await world_with_a_poem(stack, ("s1", "s2"))
        challenges = stack.node("s1").challenges
        challenges.cursor = ProbeCursorState()
        hashes = sorted(stack.node("s1").blobs.iterate())
        for _ in range(2 * len(hashes) // CHALLENGES.challenges_per_tick):
            challenges.probe()
            last = challenges.cursor.last_hash
            assert last is not None
            assert challenges.cursor.next_blob_cursor == (hashes.index(last) + 1) % len(hashes)
        path = blob_path(stack, "s1", content)
        good = bytearray(path.read_bytes())
        good[1_000] ^= 1
        path.write_bytes(good)

        def found() -> int:
            reasons = stack.status("s1")["distfs_probe_cursor_state"]["cumulative_failure_reasons"]
            return int(reasons.get("HASH_MISMATCH", 0))

        for _ in range(2_000):
            if found():
                break
            stack.node("s1").challenges.probe()
            await trio.lowlevel.checkpoint()
        assert found() == 1
        await stack.until(lambda: stack.node("s1").blobs.has(content.digest), "the blob is healed")


async def test_a_node_that_is_gone_is_offline_and_not_failed(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=3, storage=1), config=CONFIG) as stack:
        await world_with_a_poem(stack, ("s1",))
        await trio.sleep(10)
        await stack.stop("s1")
        await trio.sleep(20)
        (target,) = report(stack, "v1")["targets"].values()
        assert target["failed_checks"] == 0
        assert target["offline"] > 5


async def test_a_node_that_answers_nothing_is_contained_and_then_fails(tmp_path: Path, autojump_clock: object) -> None:
    """The same question is put again: its id stays, its number of attempts rises to the bound."""
    async with open_stack(tmp_path, specs(validators=3, storage=1), config=CONFIG) as stack:
        await world_with_a_poem(stack, ("s1",))
        await trio.sleep(10)

        async def never(_peer: PeerId, _data: bytes) -> bytes:
            await trio.sleep_forever()
            raise AssertionError

        stack.network("s1").serve("/aw/rr/1.0.0/challenge", never)
        await trio.sleep(80)
        (target,) = report(stack, "v1")["targets"].values()
        assert list(target["failure_reasons"]) == ["TIMEOUT"]
        assert target["contained"] >= 7
        rows = [row for row in stack.node("v1").challenges.challenger.recent(1_000) if row["reason"] == "TIMEOUT"]
        assert {row["attempts"] for row in rows} == {CHALLENGES.contained_attempts_max}

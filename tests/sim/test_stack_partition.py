"""Stack tier: nodes that were cut off or stopped come back, catch up and vote again (T-9.2, T-9.5)."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from agent_world.errors import HomeError
from agent_world.net.interface import RequestHandler
from agent_world.store import keyfile
from agent_world.store.home import Home
from agent_world.testing.stack import make_key, open_stack, specs
from agent_world.testing.stack_actions import applied, balances, found_people, pay, trade
from agent_world.wire import record, rpc
from agent_world.wire.block import GetBlocksRequest
from agent_world.wire.consensus import CommitCertificate
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import CERTIFICATE_BYTES_MAX


async def test_a_partitioned_validator_catches_up_and_votes_again(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        await stack.until_height(2)
        stack.hub.partition(stack.peers("v1", "v2", "v3"), stack.peers("v4"))
        await stack.until_height(2, "v4")
        await stack.until_height(12, "v1", "v2", "v3")
        cut_off = stack.node("v4").ledger.height
        assert cut_off < 6
        assert not stack.status("v4")["peers"]
        stack.hub.heal()
        await stack.until_height(12)
        assert stack.counters("v4")["sync.heights"] >= 6
        rejoined = stack.top()
        # Without v3 the other two and v4 are exactly the required three: each block needs its vote.
        stack.hub.partition(stack.peers("v1", "v2", "v4"), stack.peers("v3"))
        await stack.until_height(rejoined + 4, "v1", "v2", "v4")
        stored = stack.node("v1").ledger.stored(rejoined + 4)
        assert stored is not None
        certificate = record.from_bytes(CommitCertificate, stored.certificate, size_max=CERTIFICATE_BYTES_MAX)
        voters = {signature.key for signature in certificate.signatures}
        key = stack.members["v4"].validator_key
        assert key is not None
        assert key.public_key in voters
        assert stack.agree()


async def test_no_side_of_an_even_split_goes_on(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        await stack.until_height(2)
        stack.hub.partition(stack.peers("v1", "v2"), stack.peers("v3", "v4"))
        await trio.sleep(2)  # whatever was decided is known to its side by then
        stuck = {name: stack.node(name).ledger.height for name in stack.members}
        await trio.sleep(30)
        assert {name: stack.node(name).ledger.height for name in stack.members} == stuck
        stack.hub.heal()
        await stack.until_height(max(stuck.values()) + 3)
        assert stack.agree()


async def test_a_follower_far_behind_fetches_ranges(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=3, observers=1)) as stack:
        for name in ("v1", "v2", "v3"):
            await stack.start(name)
        await trade(stack, "v1", "v2")
        await stack.until_height(70)
        asked: list[int] = []

        async def counted(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
            request = record.from_bytes(GetBlocksRequest, data, size_max=len(data))
            asked.extend(range(request.from_height, request.to_height + 1))
            return await handler(peer, data)

        for name in ("v1", "v2", "v3"):
            stack.network(name).lie(rpc.GET_BLOCKS, counted)
        await stack.start("o1")
        await stack.until_height(70)
        assert stack.agree()
        assert balances(stack, "o1") == {"alice": 40, "bob": 60}
        assert stack.counters("o1")["sync.heights"] >= 70
        first = sorted(asked)[:70]
        assert first == list(range(1, 71))  # none is asked for twice


async def test_a_stopped_node_goes_on_from_its_home(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=4, observers=1)) as stack:
        await stack.start_all()
        await found_people(stack, "v2")
        for name in ("v2", "o1", "v4"):
            before = stack.node(name).ledger.height
            await stack.stop(name)
            await stack.until_height(stack.top() + 3)
            node = await stack.start(name)
            assert node.ledger.height >= before
            await stack.until_height(stack.top() + 1)
        await applied(stack, "v2", stack.submit("v2", make_key("alice"), pay("bob", 1)))
        await stack.until_height(stack.top())
        assert stack.agree()
        assert balances(stack, "v2") == {"alice": 99, "bob": 1}


@pytest.mark.parametrize("seed", range(1, 5))
async def test_all_stopped_at_once_sign_nothing_different(tmp_path: Path, autojump_clock: object, seed: int) -> None:
    async with open_stack(tmp_path, specs(validators=3), seed=seed) as stack:
        await stack.start_all()
        await stack.until_height(2)
        for turn in range(4):
            await trio.sleep(0.137 + turn * 0.111 + seed * 0.017)  # in the middle of whatever round there is
            for name in stack.members:
                await stack.stop(name)
            for name in stack.members:
                await stack.start(name)
        await stack.until_height(stack.top() + 3)
        assert stack.agree()  # and the checker has seen every signature (I3)


async def test_nothing_is_committed_without_the_required_stake(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=3)) as stack:
        await stack.start("v1")
        await stack.start("v2")
        await stack.until_height(2)  # two of three equal stakes are two thirds
        await stack.stop("v2")
        stuck = stack.top()
        await trio.sleep(30)
        assert stack.top() <= stuck + 1
        await stack.start("v3")
        await stack.until_height(stuck + 3)


async def test_a_home_runs_once(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=1)) as stack:
        await stack.start_all()
        with pytest.raises(HomeError, match="in use by another process"):
            Home.open(stack.members["v1"].home, stack.genesis_hash)


async def test_a_validator_key_of_nobody_waits_for_a_seat(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, specs(validators=1, observers=1)) as stack:
        await stack.start("v1")
        keyfile.write(stack.members["o1"].home / "validator.key", make_key("nobody"))
        await stack.start("o1")
        await stack.until_height(3)
        assert stack.status("o1")["consensus"]["voting"] == "waiting: not in the validator set"


async def test_a_validator_far_behind_leaves_the_rounds_catches_up_and_votes_again(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, specs(validators=4)) as stack:
        await stack.start_all()
        await stack.until_height(3)
        await stack.stop("v4")
        await stack.until_height(150, "v1", "v2", "v3")
        shown: list[dict[str, object]] = []

        async def slowly(handler: RequestHandler, peer: PeerId, data: bytes) -> bytes:
            shown.append(stack.status("v4")["consensus"])
            await trio.sleep(0.3)
            return await handler(peer, data)

        for name in ("v1", "v2", "v3"):
            stack.network(name).lie(rpc.GET_BLOCKS, slowly)
        await stack.start("v4")
        await stack.until_height(stack.top(), "v4")
        behind = [row for row in shown if row["catching_up"]]
        assert behind
        assert str(behind[0]["catching_up_reason"]).startswith("a certificate proves height")
        assert behind[-1]["heights_per_s"] is None or behind[-1]["heights_per_s"] > 0
        counters = stack.counters("v4")
        assert counters["sync.left_voting"] >= 1
        before = counters.get("consensus.committed", 0)
        await stack.until(lambda: stack.counters("v4").get("consensus.committed", 0) > before + 5, "v4 votes again")
        assert stack.status("v4")["consensus"]["catching_up"] is False
        assert not any("ban" in name for name in stack.counters("v4"))

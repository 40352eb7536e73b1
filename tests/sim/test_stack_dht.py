"""Whoever has lost every known peer finds heads, peers and content through the DHT."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from agent_world.config import MINIMAL, ConsensusConfig
from agent_world.crypto.hashing import content_hash
from agent_world.crypto.signing import Domain, sign_record
from agent_world.errors import Refused
from agent_world.handlers.dht import capability_key
from agent_world.node import publishing
from agent_world.node.views import NodeViews
from agent_world.testing.stack import WORLD_ID, Stack, make_key, open_stack, specs
from agent_world.testing.stack_actions import applied, create, found_people
from agent_world.wire import record, rpc
from agent_world.wire.cid import Cid
from agent_world.wire.head import CertifiedHead
from agent_world.wire.hello import Role
from agent_world.wire.ids import U64
from agent_world.wire.limits import GOSSIP_BYTES_MAX

SWARM = specs(validators=3, storage=1, observers=1)
CALM = attrs.evolve(
    MINIMAL,
    consensus=ConsensusConfig(block_interval_ms=100, empty_block_interval_ms=2_000),
    net=attrs.evolve(MINIMAL.net, hello_interval_s=2.0, heartbeat_s=2.0),
)
"""Records go round in tens of seconds: with a block every 2 s they are as many heights as need be."""
HEAD = rpc.dht_head_key(WORLD_ID)
MEMBERSHIP = rpc.dht_membership_key(WORLD_ID)


async def name_content(stack: Stack, object_id: str, content: Cid, size_bytes: int) -> None:
    await applied(stack, "v1", stack.submit("v1", make_key("alice"), create(object_id, content, size_bytes)))


def head_in_dht(stack: Stack) -> int:
    value = stack.dht.records.get(HEAD)
    return 0 if value is None else record.from_bytes(CertifiedHead, value, size_max=GOSSIP_BYTES_MAX).head.height


async def start_all_but(stack: Stack, name: str) -> None:
    for other in stack.members:
        if other != name:
            await stack.start(other)


async def test_an_observer_whose_bootstrap_is_dead_starts_from_the_dht(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=CALM) as stack:
        await start_all_but(stack, "o1")
        await stack.until(lambda: head_in_dht(stack) > 0, "a head in the DHT")
        await stack.until(lambda: len(stack.dht.providers) > 0, "providers of the genesis")
        await stack.stop("v1")  # the only node that o1 has an address of
        await stack.start("o1")
        proved = head_in_dht(stack)
        await stack.until_height(proved, "o1")
        counters = stack.counters("o1")
        assert counters["dht.head_ahead"] >= 1
        assert counters["dht.peer_found"] >= 1
        assert stack.status("o1")["dht"]["joined"]


async def test_without_the_dht_it_would_stay_alone(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=CALM) as stack:
        stack.cut_off.add("o1")
        await start_all_but(stack, "o1")
        await stack.until(lambda: head_in_dht(stack) > 0, "a head in the DHT")
        await stack.stop("v1")
        await stack.start("o1")
        await stack.until(lambda: stack.counters("o1").get("dht.nobody_answered", 0) >= 3, "three look-ups")
        assert stack.node("o1").ledger.height == 0


async def test_heads_rise_and_a_forged_one_moves_nobody(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=CALM) as stack:
        await stack.start_all()
        await stack.until(lambda: head_in_dht(stack) > 0, "a head in the DHT")
        first = head_in_dht(stack)
        await stack.until(lambda: head_in_dht(stack) > first, "a higher head")
        real = record.from_bytes(CertifiedHead, stack.dht.records[HEAD], size_max=GOSSIP_BYTES_MAX)
        head = attrs.evolve(real.head, height=real.head.height + 1_000)
        stack.dht.records[HEAD] = record.to_bytes(attrs.evolve(real, head=head))
        await stack.until(lambda: head_in_dht(stack) < head.height, "the honest put theirs instead")
        assert stack.node("o1").catch_up.heads.network_committed_height < head.height


async def test_capability_records_say_who_keeps_what(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=CALM) as stack:
        await stack.start_all()
        storage = stack.members["s1"]
        key = capability_key(WORLD_ID, storage.peer_id)
        await stack.until(lambda: key in stack.dht.records, "a capability record")
        said = stack.node("o1").discovery.records.open_capability(key, stack.dht.records[key])
        assert (said.role, said.peer_id) == (Role.STORAGE, storage.peer_id)
        before = said.sequence
        await stack.until_height(said.to_height + 1, "s1")

        def renewed() -> bool:
            return stack.node("o1").discovery.records.open_capability(key, stack.dht.records[key]).sequence > before

        await stack.until(renewed, "a newer record")
        again = stack.node("o1").discovery.records.open_capability(key, stack.dht.records[key])
        assert again.sequence - before >= publishing.CAPABILITY_PUT_S * 1000 - 1


async def test_the_membership_directory_is_put_read_and_held_against_the_chain(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_stack(tmp_path, SWARM, config=CALM) as stack:
        await stack.start_all()
        await stack.until(lambda: MEMBERSHIP in stack.dht.records, "a directory")
        read = stack.node("o1").discovery.records.open_membership(stack.dht.records[MEMBERSHIP])
        assert read.validators == stack.genesis.validators
        await stack.until(lambda: stack.status("o1")["dht"]["membership"] is not None, "the observer has read it")
        shown = stack.status("o1")["dht"]["membership"]
        assert shown == {"version": 0, "from_height": 1, "validators": 3, "signed_by": read.requester_id}
        puts = [stack.counters(name).get("dht.membership_put", 0) for name in ("v1", "v2", "v3", "s1", "o1")]
        assert sum(puts[:3]) >= 1
        assert puts[3:] == [0, 0]
        # A set of somebody's invention moves nobody, and the honest put theirs instead.
        fewer = attrs.evolve(read.validators, validators=read.validators.validators[:1])
        key = stack.members["v1"].validator_key
        assert key is not None
        forged = sign_record(
            Domain.MEMBERSHIP, stack.genesis_hash, attrs.evolve(read, validators=fewer, version=U64(7)), key
        )
        stack.dht.records[MEMBERSHIP] = forged
        stack.node("v2").discovery._publisher._membership = publishing._Put()  # type: ignore[union-attr]
        await stack.until(lambda: stack.dht.records[MEMBERSHIP] != forged, "an honest directory again")
        assert stack.status("o1")["dht"]["membership"] == shown


async def test_content_of_a_stranger_is_fetched_through_its_provider(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=CALM) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        content = NodeViews(stack.node("v2")).put_blob(b"a poem")
        await name_content(stack, "poem", content, 6)
        await stack.until(lambda: content.digest in stack.dht.providers, "the storage node provides it")
        assert stack.dht.providers[content.digest] == {stack.members["s1"].peer_id}
        assert stack.status("s1")["dht"]["provided"] == 2  # the genesis and the poem
        storage = stack.members["s1"].peer_id
        async with stack.node("o1").client.providers([content.digest]) as providers:
            assert providers == [storage]
        assert await NodeViews(stack.node("o1")).blob(content.digest) == b"a poem"
        with pytest.raises(Refused) as refused:
            await NodeViews(stack.node("o1")).blob(content_hash(b"nobody has this"))
        assert refused.value.rule == "L1"


async def test_what_is_provided_is_known_after_a_restart(tmp_path: Path, autojump_clock: object) -> None:
    async with open_stack(tmp_path, SWARM, config=CALM) as stack:
        await stack.start_all()
        await found_people(stack, "v1")
        content = NodeViews(stack.node("v2")).put_blob(b"a poem")
        await name_content(stack, "poem", content, 6)
        await stack.until(lambda: content.digest in stack.dht.providers, "the storage node provides it")
        await stack.stop("s1")
        stack.dht.providers.clear()
        await stack.start("s1")
        await stack.until_height(stack.top() + 1)
        # It is not due again for hours, and the chain is not searched again.
        shown = stack.status("s1")["dht"]
        assert (shown["provided"], shown["provided_due"], shown["provided_refused"]) == (2, 0, 0)
        assert content.digest not in stack.dht.providers

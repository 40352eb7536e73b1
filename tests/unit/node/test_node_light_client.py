"""A light verifier over the network in memory, asking peers that serve a made-up chain, or lie about it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import attrs
import pytest

from agent_world.consensus.light import start_of
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import hash32
from agent_world.errors import AgentWorldError, ErrorCode, Refused, RemoteError, Unavailable, UsageError
from agent_world.net.memory import InMemoryNetwork
from agent_world.node.asked_peers import AskedPeers
from agent_world.node.light_client import Fault, LightClient
from agent_world.node.light_start import find_start, start_at_genesis
from agent_world.sync.light_follow import Fork
from agent_world.testing.certified_chain import EPOCH_HEIGHTS, CertifiedChain, ChainPeer, set_of_epoch
from agent_world.testing.node_swarm import make_key
from agent_world.wire import record, rpc
from agent_world.wire.head import CertifiedHead
from agent_world.wire.ids import U64, Hash32, Label, peer_id_of
from agent_world.world.records import WORLD

CHAIN = CertifiedChain(70 * EPOCH_HEIGHTS + 1)
HEIGHT = len(CHAIN.links)
TIP = hash32(CHAIN.tip.data)
PEERS = {name: peer_id_of(make_key("served", name).public_key) for name in "abc"}


@asynccontextmanager
async def served(**peers: ChainPeer) -> AsyncIterator[AskedPeers]:
    """What a light verifier of CHAIN's genesis has of these peers, in this order."""
    hub = InMemoryNetwork(Random(1))
    async with hub.open():
        addresses = []
        for name, peer in peers.items():
            network = hub.node(PEERS[name])
            peer.serve(network)
            addresses.append((PEERS[name], network.listen_addresses()[0]))
        yield AskedPeers(hub.node(peer_id_of(make_key("light").public_key)), CHAIN.genesis, addresses)


def honest(chain: CertifiedChain = CHAIN) -> ChainPeer:
    return ChainPeer(chain)


def begin(peers: AskedPeers) -> LightClient:
    return LightClient(peers, start_at_genesis(CHAIN.genesis).head)


def false_head(peer: ChainPeer) -> None:
    """Another block with the certificate of the true one."""
    other = CHAIN.branch(HEIGHT - 1, 1, b"other").tip
    peer.head = lambda: attrs.evolve(other, certificate=CHAIN.tip.certificate).certified


def head_of_strangers(peer: ChainPeer) -> None:
    made = CHAIN.make_link(HEIGHT + 5, set_of_epoch(900), set_of_epoch(900))
    peer.head = lambda: made.certified


def head_of_a_removed_set(peer: ChainPeer) -> None:
    made = CHAIN.make_link(HEIGHT + 5, set_of_epoch(1), set_of_epoch(1))
    peer.head = lambda: made.certified


def missing_boundaries(peer: ChainPeer) -> None:
    peer.boundaries = lambda _low, _count: []


def one_boundary_left_out(peer: ChainPeer) -> None:
    peer.boundaries = lambda low, count: [
        found for found in CHAIN.boundaries(low, count) if found != CHAIN.links[5 * EPOCH_HEIGHTS - 1].boundary
    ]


def ordinary_blocks_as_boundaries(peer: ChainPeer) -> None:
    peer.boundaries = lambda low, _count: [CHAIN.links[low - 1].boundary]


def another_set_beside_a_boundary(peer: ChainPeer) -> None:
    forged = attrs.evolve(CHAIN.links[EPOCH_HEIGHTS - 1].boundary, validators=record.to_bytes(set_of_epoch(7)))
    peer.boundaries = lambda _low, _count: [forged]


def genesis_of_another_hash(peer: ChainPeer) -> None:
    told = honest(CertifiedChain()).head()
    peer.head = lambda: attrs.evolve(told, head=attrs.evolve(told.head, block_hash=hash32(b"x")))


LIES: dict[Callable[[ChainPeer], None], str] = {
    false_head: "C5",
    head_of_strangers: "G4",
    head_of_a_removed_set: "G4",
    missing_boundaries: "G4",
    one_boundary_left_out: "G4",
    ordinary_blocks_as_boundaries: "G7",
    another_set_beside_a_boundary: "G5",
    genesis_of_another_hash: "G3",
}


async def test_all_epochs_and_the_head(autojump_clock: object) -> None:
    async with served(a=honest(), b=honest()) as peers:
        client = begin(peers)
        found = await client.round()
        assert found.head is not None
        assert (found.head.block_hash, found.is_new) == (TIP, True)
        assert found.agreeing == tuple(sorted((PEERS["a"], PEERS["b"])))
        assert client.follower.sets_crossed(PEERS["a"]) == 70
        again = await client.round()
        assert (again.head, again.is_new) == (found.head, False)


@pytest.mark.parametrize("lie", LIES)
async def test_a_liar_is_named_and_passed_over_and_others_are_asked(
    autojump_clock: object, lie: Callable[[ChainPeer], None]
) -> None:
    liar = honest()
    lie(liar)
    async with served(a=liar, b=honest()) as peers:
        client = begin(peers)
        for _round in range(2):
            found = await client.round()
            assert found.head is not None
            assert (found.head.block_hash, found.agreeing) == (TIP, (PEERS["b"],))
            why = client.passed_over[PEERS["a"]]
            assert (why.fault, why.rule) == (Fault.LIED, LIES[lie])
        assert liar.asked.count(rpc.GET_WORLD_HEAD) == 1, "a liar is not asked again"


@pytest.mark.parametrize("lie", LIES)
async def test_with_liars_only_nothing_is_accepted(autojump_clock: object, lie: Callable[[ChainPeer], None]) -> None:
    liar = honest()
    lie(liar)
    async with served(a=liar) as peers:
        client = begin(peers)
        with pytest.raises(RemoteError, match=PEERS["a"]) as caught:
            await client.round()
        assert (caught.value.exit_code, caught.value.rule) == (76, LIES[lie])
        assert client.follower.head is None


async def test_two_certified_chains_are_a_fork_whatever_heights_their_heads_have(autojump_clock: object) -> None:
    for shared, own in ((HEIGHT - 1, 1), (HEIGHT - 1, 9), (5, 20), (0, HEIGHT)):
        other = CHAIN.branch(shared, own, b"other")
        async with served(a=honest(), b=honest(other)) as peers:
            client = begin(peers)
            with pytest.raises(Fork) as caught:
                await client.round()
            fork = caught.value
            assert shared < fork.height <= min(HEIGHT, shared + own)
            assert {fork.first.peer, fork.second.peer} == {PEERS["a"], PEERS["b"]}
            assert client.follower.head is None


async def test_a_removed_set_forges_for_who_does_not_know_its_successor_until_it_is_compared(
    autojump_clock: object,
) -> None:
    forger = honest()
    made = CHAIN.make_link(HEIGHT + 500, set_of_epoch(0), set_of_epoch(0))
    forger.head, forger.boundaries = (lambda: made.certified), lambda _low, _count: []
    async with served(a=forger, b=honest()) as peers:
        client = begin(peers)
        found = await client.round()
        assert found.head is not None
        assert (found.head.block_hash, found.agreeing) == (TIP, (PEERS["b"],))
        assert client.passed_over[PEERS["a"]].rule == "G4"
    # Who will not show the block that others have is not believed either.
    forger.block = lambda _height: None
    async with served(a=forger, b=honest()) as peers:
        client = begin(peers)
        assert (await client.round()).agreeing == (PEERS["b"],)
        assert client.passed_over[PEERS["a"]].fault is Fault.BEHIND
    # Another of its blocks is a fork.
    forged = CHAIN.make_link(HEIGHT, set_of_epoch(0), set_of_epoch(0))
    forger.block = lambda _height: forged
    async with served(a=forger, b=honest()) as peers:
        with pytest.raises(Fork):
            await begin(peers).round()


async def test_who_shows_another_height_than_was_asked_for_is_passed_over(autojump_clock: object) -> None:
    longer = CHAIN.branch(HEIGHT, 1, b"")
    evasive = honest(longer)
    evasive.block = lambda _height: CHAIN.links[HEIGHT - 2]
    async with served(a=evasive, b=honest()) as peers:
        client = begin(peers)
        found = await client.round()
        assert found.agreeing == (PEERS["b"],)
        assert client.passed_over[PEERS["a"]].rule == "B5"


async def test_a_peer_whose_head_goes_back_is_behind_and_asked_again(autojump_clock: object) -> None:
    peer = honest()
    async with served(a=peer) as peers:
        client = begin(peers)
        first = (await client.round()).head
        peer.head = lambda: CHAIN.links[4].certified
        with pytest.raises(Unavailable, match="behind"):
            await client.round()
        peer.head = lambda: CHAIN.tip.certified
        assert (await client.round()).head == first


async def test_a_growing_chain_is_followed(autojump_clock: object) -> None:
    chain = CertifiedChain()
    async with served(a=honest(chain), b=honest(chain)) as peers:
        client = LightClient(peers, start_at_genesis(chain.genesis).head)
        assert (await client.round()).head is None
        for height in range(1, 3 * EPOCH_HEIGHTS + 1):
            chain.grow(1)
            found = await client.round()
            assert found.head is not None
            assert (found.head.block.height, found.is_new) == (height, True)
            assert client.follower.successor(found.head) == ValidatorSet(chain.set_at(height + 1))


async def test_the_fault_of_each_when_nobody_helps(autojump_clock: object) -> None:
    foreign = CertifiedChain(3)
    foreign.genesis = attrs.evolve(foreign.genesis, epoch_length_slots=U64(77))
    silent, never = honest(), honest()

    def busy() -> CertifiedHead:
        raise Refused(ErrorCode.BUSY, "later")

    silent.head = busy
    async with served(a=honest(foreign)) as peers:
        with pytest.raises(UsageError, match="genesis"):
            await begin(peers).round()
    async with served(b=silent) as peers:
        with pytest.raises(Unavailable, match="unreachable"):
            await begin(peers).round()
    async with served(c=never) as peers:
        peers.forget(PEERS["c"])
        with pytest.raises(Unavailable, match="no peer was asked"):
            await begin(peers).round()
    async with served(a=honest(foreign), b=silent, c=honest()) as peers:
        client = begin(peers)
        assert (await client.round()).agreeing == (PEERS["c"],)
        faults = {peer: why.fault for peer, why in client.passed_over.items()}
        assert faults == {PEERS["a"]: Fault.FOREIGN, PEERS["b"]: Fault.UNREACHABLE}


async def test_a_value_is_read_node_by_node_and_wrong_nodes_are_a_lie(autojump_clock: object) -> None:
    liar, poor = honest(), honest()
    liar.blob = lambda _content: b"another node"
    poor.blob = lambda _content: None
    system, key = Label("system"), WORLD.key()
    async with served(a=liar, b=poor, c=honest()) as peers:
        client = begin(peers)
        value = await client.state_value(CHAIN.state_root, system, key)
        assert isinstance(value, dict)
        assert value["world_id"] == CHAIN.genesis.world_id
        assert await client.state_value(CHAIN.state_root, system, b"nothing here") is None
        assert client.passed_over[PEERS["a"]].fault is Fault.LIED
    async with served(a=poor) as peers:
        with pytest.raises(Unavailable, match="nobody has"):
            await begin(peers).state_value(CHAIN.state_root, system, key)


@pytest.mark.parametrize("height", [1, 3, 4, 80, 105, HEIGHT])
async def test_a_given_block_and_the_set_after_it(autojump_clock: object, height: int) -> None:
    link = CHAIN.links[height - 1]
    async with served(a=honest(CHAIN.branch(0, HEIGHT, b"other")), b=honest()) as peers:
        start = await find_start(peers, CHAIN.genesis, height, hash32(link.data))
        assert (start.head.height, start.head.validators.record, start.data) == (height, link.coming, link.data)
        assert [why.rule for why in start.liars.values()] == ["G3"]
        found = await LightClient(peers, start.head).round()
        assert (found.agreeing, found.head and found.head.block.height) == (
            (PEERS["b"],), None if height == HEIGHT else HEIGHT,
        )  # fmt: skip


@pytest.mark.parametrize(("height", "block_hash", "kind", "words"), [
    (0, hash32(b"x"), UsageError, "height 0 is the genesis"),
    (7, hash32(b"x"), RemoteError, "at height 7"),
    (7, hash32(CHAIN.links[7].data), RemoteError, "at height 7"),
    (HEIGHT + 1, hash32(b"x"), Unavailable, "behind"),
])  # fmt: skip
async def test_a_given_block_that_nobody_has(
    autojump_clock: object, height: int, block_hash: Hash32, kind: type[AgentWorldError], words: str
) -> None:
    async with served(a=honest()) as peers:
        with pytest.raises(kind, match=words):
            await find_start(peers, CHAIN.genesis, height, block_hash)


async def test_the_genesis_may_be_given_too(autojump_clock: object) -> None:
    async with served(a=honest()) as peers:
        start = await find_start(peers, CHAIN.genesis, 0, CHAIN.genesis_hash)
        validators = ValidatorSet(CHAIN.genesis.validators)
        assert start.head == start_of(CHAIN.genesis.world_id, CHAIN.genesis_hash, validators)
        assert start.block is None


async def test_a_peer_that_hides_the_set_or_goes_in_circles(autojump_clock: object) -> None:
    hiding, circling = honest(), honest()
    hiding.boundaries = lambda _low, _count: []
    circling.boundaries = lambda _low, _count: [CHAIN.links[EPOCH_HEIGHTS - 1].boundary]
    for peer, rule in ((hiding, "G5"), (circling, "G3")):
        async with served(a=peer) as peers:
            with pytest.raises(RemoteError) as caught:
                await find_start(peers, CHAIN.genesis, 105, hash32(CHAIN.links[104].data))
            assert caught.value.rule == rule

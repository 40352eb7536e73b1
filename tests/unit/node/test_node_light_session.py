"""What a run of the light verifier shows and keeps, and when one that follows gives up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from agent_world.crypto.hashing import hash32
from agent_world.errors import ErrorCode, Refused, RemoteError, Unavailable
from agent_world.net.memory import InMemoryNetwork
from agent_world.node.asked_peers import AskedPeers
from agent_world.node.light_session import LightSession
from agent_world.sync.trust_anchor import anchor_text, parse_anchor, trust_anchor
from agent_world.testing.certified_chain import EPOCH_HEIGHTS, CertifiedChain, ChainPeer
from agent_world.testing.node_swarm import make_key
from agent_world.wire.head import CertifiedHead
from agent_world.wire.ids import peer_id_of


@asynccontextmanager
async def asked(*served: ChainPeer) -> AsyncIterator[AskedPeers]:
    hub = InMemoryNetwork(Random(1))
    async with hub.open():
        addresses = []
        for number, peer in enumerate(served):
            network = hub.node(peer_id_of(make_key("session", number).public_key))
            peer.serve(network)
            addresses.append((network.peer_id, network.listen_addresses()[0]))
        yield AskedPeers(hub.node(peer_id_of(make_key("light").public_key)), served[0].chain.genesis, addresses)


def out_of_reach() -> CertifiedHead:
    raise Refused(ErrorCode.BUSY, "later")


async def test_liars_do_not_end_the_run_of_who_waits_for_an_honest_peer(autojump_clock: object) -> None:
    chain = CertifiedChain(EPOCH_HEIGHTS + 1)
    liar, honest = ChainPeer(chain), ChainPeer(chain)
    liar.boundaries = lambda _low, _count: []
    async with asked(liar, honest) as peers:
        session = await LightSession.begin(peers, chain.genesis, None, "")
        assert await session.look(None, patient=True) is not None
        told, honest.head = honest.head, out_of_reach
        assert await session.look(None, patient=True) is None
        with pytest.raises(RemoteError):
            await session.look(None, patient=False)
        honest.head = told
        found = await session.look(None, patient=True)
        assert found is not None
        assert not found.is_new
        honest.boundaries = lambda _low, _count: [chain.links[0].boundary]
        with pytest.raises(RemoteError):
            await session.look(None, patient=True)


async def test_who_is_not_patient_is_told_that_nobody_answers(autojump_clock: object) -> None:
    chain = CertifiedChain(2)
    peer = ChainPeer(chain)
    peer.head = out_of_reach
    async with asked(peer) as peers:
        session = await LightSession.begin(peers, chain.genesis, None, "")
        with pytest.raises(Unavailable):
            await session.look(None, patient=False)


@pytest.mark.parametrize("heights", range(1, 2 * EPOCH_HEIGHTS + 1))
async def test_every_verified_head_can_be_begun_from(autojump_clock: object, heights: int) -> None:
    chain = CertifiedChain(heights)
    async with asked(ChainPeer(chain)) as peers:
        session = await LightSession.begin(peers, chain.genesis, None, "")
        found = await session.look(None, patient=False)
        assert found is not None
        assert found.anchor is not None
        anchor = parse_anchor(anchor_text(found.anchor), "x")
        head = trust_anchor(anchor, chain.genesis.world_id, chain.genesis_hash, "x")
        assert (head.height, head.validators.record) == (heights, chain.set_at(heights + 1))
        chain.grow(EPOCH_HEIGHTS)
        later = await LightSession.begin(peers, chain.genesis, anchor, "x")
        again = await later.look(None, patient=False)
        assert again is not None
        assert (again.shown["block_hash"], again.shown["sets_crossed"]) == (hash32(chain.tip.data), 1)


async def test_at_the_trusted_head_it_is_shown_without_a_certificate(autojump_clock: object) -> None:
    chain = CertifiedChain()
    async with asked(ChainPeer(chain)) as peers:
        session = await LightSession.begin(peers, chain.genesis, None, "")
        found = await session.look(None, patient=False)
        assert found is not None
        assert (found.anchor, found.shown["height"], found.shown["signed_stake"]) == (None, 0, 0)
        assert found.shown["state_root"] == chain.state_root
        chain.grow(2)
        given = (2, hash32(chain.tip.data))
        later = await (await LightSession.begin(peers, chain.genesis, given, "")).look(None, patient=False)
        assert later is not None
        assert later.anchor is None
        assert later.shown["epoch"] == chain.tip.header.epoch

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from agent_world.config import MINIMAL, NetConfig
from agent_world.crypto.hashing import cid_of, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import ErrorCode, Refused
from agent_world.handlers.hello import HelloHandler, sign_validator_claim
from agent_world.net.address import parse_address
from agent_world.net.memory import InMemoryNetwork
from agent_world.net.reputation import Offence
from agent_world.node.clock import Clock
from agent_world.node.peer_control import BAN_MS_MAX, HONEST_AFTER_S, PeerControl
from agent_world.node.peering import Peering
from agent_world.store.bans import BanBook
from agent_world.store.peers import PeerBook
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.stack import make_key
from agent_world.wire import record, rpc
from agent_world.wire.head import WorldHead
from agent_world.wire.hello import Hello, Role, ValidatorClaim
from agent_world.wire.ids import U64, PeerId, PublicKey, TimeMs, WorldId, peer_id_of
from agent_world.wire.signed import Signed

GENESIS = hash32(b"genesis")
VOTER, STRANGER = make_key("voter"), make_key("stranger")
DAY_MS = 1_000_000_000


def peer(number: int) -> PeerId:
    return peer_id_of(PublicKey(bytes([number]) * 32))


def proof_of(number: int, key: KeyPair = VOTER, *, issued_ms: int = 0) -> Signed:
    """For the hellos of ``peer(number)``."""
    return sign_validator_claim(ValidatorClaim(peer_id=peer(number), issued_at_ms=TimeMs(issued_ms)), GENESIS, key)


def hello(*, validator: Signed | None = None, versions: tuple[str, ...] = ("aw/1",)) -> Hello:
    head = WorldHead(
        world_id=WorldId("w"), height=U64(0), block_hash=GENESIS, state_root=cid_of(b""), timestamp_ms=TimeMs(0)
    )
    return Hello(
        world_id=WorldId("w"), genesis_hash=GENESIS, role=Role.OBSERVER, validator=validator, listen=(), head=head,
        peers=(), versions=versions,
    )  # fmt: skip


class Rig:
    """A node's peering and peer control, and other nodes that say hello."""

    def __init__(self, hub: InMemoryNetwork, chain: LedgerChain, config: NetConfig) -> None:
        self.hub = hub
        self.network = hub.node(peer(100))
        self.clock = Clock(lambda: DAY_MS + int(trio.current_time() * 1000))
        self.peering = Peering(self.network, PeerBook(chain.home, peers_max=9, ttl_ms=60_000), config, self.clock)
        self.peering.use(HelloHandler(hello, self.peering.greeted))
        self.peering.is_validator_key = lambda key: key == VOTER.public_key
        self.bans = BanBook(chain.home)
        self.control = PeerControl(self.network, self.peering, self.bans, config, self.clock)

    async def link(self, number: int, said: Hello | None = None) -> PeerId:
        node = self.hub.node(peer(number))

        async def serve(_peer: PeerId, _data: bytes) -> bytes:
            return record.to_bytes(said or hello())

        node.serve(rpc.HELLO, serve)
        node.dial(self.network.peer_id, self.network.listen_addresses()[0])
        await trio.sleep(0.1)
        with contextlib.suppress(Refused):
            await node.request(self.network.peer_id, rpc.HELLO, record.to_bytes(said or hello()))
        return node.peer_id

    def is_linked(self, number: int) -> bool:
        return self.hub.is_connected(self.network.peer_id, peer(number))

    def row(self, number: int) -> dict[str, object]:
        return next(row for row in self.control.rows() if row["peer_id"] == peer(number))


@asynccontextmanager
async def running(tmp_path: Path, **config: object) -> AsyncIterator[Rig]:
    net = attrs.evolve(MINIMAL.net, **config)
    hub = InMemoryNetwork(random.Random(1), config=net)
    with LedgerChain(tmp_path / "home") as chain:
        async with hub.open(), trio.open_nursery() as nursery:
            rig = Rig(hub, chain, net)
            nursery.start_soon(rig.peering.run)
            nursery.start_soon(rig.control.run)
            yield rig
            nursery.cancel_scope.cancel()


async def test_an_offender_is_thrown_out_noted_and_kept_out(tmp_path: Path, autojump_clock: object) -> None:
    async with running(tmp_path) as rig:
        one = await rig.link(1)
        assert rig.row(1)["score"] == 0
        for _ in range(6):
            rig.network.gate.blame(one, Offence.GARBAGE)
        await trio.sleep(5)
        assert not rig.is_linked(1)
        row = rig.row(1)
        assert (row["connected"], row["reason"], row["role"]) == (False, "garbage", None)
        (noted,) = rig.bans.all(DAY_MS)
        assert (noted.peer_id, noted.reason, noted.score) == (one, "garbage", -120)
        assert row["banned_until_ms"] == noted.until_ms
        await trio.sleep(MINIMAL.net.ban_s)
        assert rig.is_linked(1), "whoever keeps asking comes back when the ban is over"


async def test_bans_of_an_earlier_run_hold_for_the_rest_of_their_time(tmp_path: Path, autojump_clock: object) -> None:
    async with running(tmp_path) as rig:
        rig.control.ban(peer(1), 60_000, "noise")
        await trio.sleep(20)
        rig.network.gate.unban(peer(1))  # as a restart does
        rig.control.load()
        ban = rig.network.gate.ban_of(peer(1))
        assert ban is not None
        assert (ban.reason, ban.until_ms) == ("noise", rig.network.gate.now_ms() + 40_000)


async def test_operators_ban_and_unban(tmp_path: Path, autojump_clock: object) -> None:
    async with running(tmp_path) as rig:
        one = await rig.link(1)
        assert rig.control.ban(one, 1_000_000, "noise")["reason"] == "noise"
        await trio.sleep(2)
        assert not rig.is_linked(1)
        rig.control.unban(one)
        await trio.sleep(2)
        assert rig.is_linked(1)
        assert rig.bans.all(0) == ()
        with pytest.raises(Refused) as caught:
            rig.control.unban(one)
        assert caught.value.code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize(("number", "ban_ms"), [(100, 1_000), (1, 0), (1, BAN_MS_MAX + 1)])
async def test_bans_that_are_none(tmp_path: Path, number: int, ban_ms: int, autojump_clock: object) -> None:
    async with running(tmp_path) as rig:
        with pytest.raises(Refused) as caught:
            rig.control.ban(peer(number), ban_ms, "x")
        assert caught.value.code is ErrorCode.BAD_REQUEST


async def test_protected_is_who_proves_to_be_a_validator_of_this_world(tmp_path: Path, autojump_clock: object) -> None:
    async with running(tmp_path) as rig:
        proven = await rig.link(1, hello(validator=proof_of(1)))
        stranger = await rig.link(2, hello(validator=proof_of(2, STRANGER)))
        plain = await rig.link(3)
        assert [rig.control.is_protected(known) for known in (proven, stranger, plain)] == [True, False, False]
        assert [rig.row(number)["validator"] for number in (1, 2, 3)] == [True, False, False]
        rig.peering.links.choose(plain, "/ip4/10.0.0.9/tcp/1")
        assert rig.control.is_protected(plain)
        for known in (proven, stranger):
            for _ in range(30):
                rig.network.gate.blame(known, Offence.RATE)
        assert [ban.peer for ban in rig.network.gate.bans()] == [stranger]
        rig.peering.is_validator_key = lambda key: key == STRANGER.public_key
        assert not rig.control.is_protected(proven), "the set has changed"


async def test_one_key_protects_one_peer(tmp_path: Path, autojump_clock: object) -> None:
    async with running(tmp_path) as rig:
        for number, issued_ms in ((1, 5), (2, 7), (3, 6)):
            await rig.link(number, hello(validator=proof_of(number, issued_ms=issued_ms)))
        assert [rig.control.is_protected(peer(number)) for number in (1, 2, 3)] == [False, True, False]
        assert rig.peering.validators() == [peer(2)]


async def test_who_shows_the_proof_of_another_is_let_go_and_banned(tmp_path: Path, autojump_clock: object) -> None:
    async with running(tmp_path) as rig:
        honest = await rig.link(1, hello(validator=proof_of(1)))
        liar = await rig.link(2, hello(validator=proof_of(1)))
        assert not rig.control.is_protected(liar)
        assert "N6" in str(rig.row(2)["reason"])
        for _ in range(3):
            await trio.sleep(10)
            await rig.link(2, hello(validator=proof_of(1)))
        (ban,) = rig.network.gate.bans()
        assert (ban.peer, ban.reason) == (liar, "false proof of being a validator")
        assert rig.peering.validators() == [honest]


async def test_a_crowd_is_trimmed_and_validators_stay(tmp_path: Path, autojump_clock: object) -> None:
    async with running(tmp_path, connections_max=10, trim_above_percent=50, trim_to_percent=30) as rig:
        await rig.link(1, hello(validator=proof_of(1)))
        for number in range(2, 8):
            await rig.link(number)
            rig.hub.node(peer(number)).forget(rig.network.peer_id)
        await trio.sleep(2)
        assert rig.is_linked(1)
        assert len(rig.network.peers()) <= 5
        assert rig.control.counters["peers.trimmed"] > 0


async def test_a_refusal_is_shown(tmp_path: Path, autojump_clock: object) -> None:
    async with running(tmp_path) as rig:
        await rig.link(1, hello(versions=("aw/9",)))
        assert "N4: this node speaks aw/1; the peer names 'aw/9'" in str(rig.row(1)["reason"])


async def test_addresses_of_protected_and_of_lasting_peers_are_told(tmp_path: Path, autojump_clock: object) -> None:
    bootstrap = f"/ip4/10.9.9.9/tcp/1/p2p/{peer(50)}"
    async with running(tmp_path, bootstrap=(bootstrap,)) as rig:
        told: list[tuple[set[str], set[str]]] = []
        rig.network.gate.tell_addresses = lambda trusted, honest: told.append((set(trusted), set(honest)))  # type: ignore[method-assign]
        await rig.link(1, hello(validator=proof_of(1)))
        await rig.link(2)
        await rig.link(3)
        hosts = {number: parse_address(str(rig.row(number)["address"])).host for number in (1, 2, 3)}
        await trio.sleep(2)
        assert told[-1] == ({"10.9.9.9", hosts[1]}, set()), "nobody speaks for an address at once"
        for _ in range(3):
            rig.network.gate.blame(peer(3), Offence.GARBAGE)
        await trio.sleep(HONEST_AFTER_S)
        assert told[-1] == ({"10.9.9.9", hosts[1]}, {hosts[2]})


async def test_why_an_address_is_limited_is_listed(tmp_path: Path, autojump_clock: object) -> None:
    async with running(tmp_path, bans_per_ip_max=2) as rig:
        one, two = await rig.link(1), await rig.link(2)
        rig.network.gate.address_of = lambda _peer: "10.8.8.8"
        assert rig.row(2)["address_limit"] is None
        for _ in range(6):
            rig.network.gate.blame(one, Offence.GARBAGE)
            rig.network.gate.blame(two, Offence.GARBAGE)
        await trio.sleep(1)
        rig.network.gate.address_of = lambda _peer: None
        assert str(rig.row(2)["address_limit"]).startswith("bans of peers at 10.8.8.8: 2; no new connections")
        rig.control.unban(one)
        assert "one new connection in 10 s" in str(rig.row(2)["address_limit"])

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from agent_world.config import MINIMAL, NetConfig
from agent_world.crypto.hashing import cid_of, hash32
from agent_world.errors import ErrorCode, Refused, StoreNotWritable
from agent_world.handlers.hello import HelloHandler, sign_validator_claim
from agent_world.net.memory import InMemoryNetwork
from agent_world.node.clock import Clock
from agent_world.node.peering import Peering
from agent_world.store.peers import PeerBook
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.stack import make_key
from agent_world.wire import record, rpc
from agent_world.wire.head import WorldHead
from agent_world.wire.hello import PROTOCOL_VERSIONS, Hello, PeerAddress, Role, ValidatorClaim
from agent_world.wire.ids import U64, Hash32, PeerId, PublicKey, TimeMs, WorldId, peer_id_of

GENESIS = hash32(b"genesis")


def peer(number: int) -> PeerId:
    return peer_id_of(PublicKey(bytes([number]) * 32))


class Rig:
    """One Peering and other nodes that answer hellos as told."""

    def __init__(self, hub: InMemoryNetwork, chain: LedgerChain, config: NetConfig) -> None:
        self.hub = hub
        self.network = hub.node(peer(100))
        self.book = PeerBook(chain.home, peers_max=10, ttl_ms=60_000)
        self.peering = Peering(self.network, self.book, config, Clock(lambda: int(trio.current_time() * 1000)))
        self.peering.use(HelloHandler(lambda: self.hello(self.network.listen_addresses()), self.peering.greeted))
        self.greetings: list[int] = []

    @staticmethod
    def hello(listen: tuple[str, ...], *friends: PeerAddress) -> Hello:
        head = WorldHead(
            world_id=WorldId("w"), height=U64(0), block_hash=GENESIS, state_root=cid_of(b""), timestamp_ms=TimeMs(0)
        )
        return Hello(
            versions=PROTOCOL_VERSIONS,
            world_id=WorldId("w"), genesis_hash=GENESIS, role=Role.OBSERVER, validator=None, listen=listen,
            head=head, peers=friends,
        )  # fmt: skip

    def add(self, number: int, answer: Callable[[Hello], bytes] = record.to_bytes, *friends: PeerAddress) -> PeerId:
        node = self.hub.node(peer(number))

        async def serve(_peer: PeerId, _data: bytes) -> bytes:
            self.greetings.append(number)
            return answer(self.hello(node.listen_addresses(), *friends))

        node.serve(rpc.HELLO, serve)
        return node.peer_id

    def address(self, number: int) -> str:
        return self.hub.node(peer(number)).listen_addresses()[0]

    def link(self, number: int) -> None:
        self.network.dial(peer(number), self.address(number))

    def visit(self, number: int) -> None:
        self.hub.node(peer(number)).dial(self.network.peer_id, self.network.listen_addresses()[0])

    def is_linked(self, number: int) -> bool:
        return self.hub.is_connected(self.network.peer_id, peer(number))


@asynccontextmanager
async def running(tmp_path: Path, **config: object) -> AsyncIterator[Rig]:
    net = attrs.evolve(MINIMAL.net, **config)
    hub = InMemoryNetwork(random.Random(1), config=net)
    with LedgerChain(tmp_path / "home") as chain:
        async with hub.open(), trio.open_nursery() as nursery:
            rig = Rig(hub, chain, net)
            nursery.start_soon(rig.peering.run)
            yield rig
            nursery.cancel_scope.cancel()


async def test_who_connects_is_greeted_and_greeted_again(tmp_path: Path, autojump_clock: object) -> None:
    async with running(tmp_path, hello_interval_s=1.0) as rig:
        came: list[PeerId] = []
        rig.peering.came = came.append
        one = rig.add(1)
        rig.link(1)
        await trio.sleep(0.5)
        assert rig.peering.hellos[one].role is Role.OBSERVER
        assert rig.peering.known_addresses() == (PeerAddress(peer_id=one, address=rig.address(1), validator=False),)
        await trio.sleep(2)
        assert rig.greetings == [1, 1, 1]
        assert came == [one]


async def test_who_dials_and_says_no_hello_is_no_neighbour(tmp_path: Path, autojump_clock: object) -> None:
    async with running(tmp_path, hello_interval_s=1.0) as rig:
        one = rig.add(1)
        rig.visit(1)
        await trio.sleep(5)
        assert rig.is_linked(1)
        assert rig.greetings == []
        assert rig.peering.hellos == {}
        node = rig.hub.node(one)
        await node.request(rig.network.peer_id, rpc.HELLO, record.to_bytes(rig.hello(node.listen_addresses())))
        assert list(rig.peering.hellos) == [one]
        await trio.sleep(3)
        assert rig.greetings, "once it is a neighbour it is greeted like any other"


async def test_whom_this_node_keeps_is_greeted_whoever_dialled(tmp_path: Path, autojump_clock: object) -> None:
    async with running(tmp_path, hello_interval_s=1.0) as rig:
        one = rig.add(1)
        rig.visit(1)
        await trio.sleep(0.5)
        rig.peering.links.choose(one, rig.address(1))
        await trio.sleep(1.5)
        assert list(rig.peering.hellos) == [one]


async def test_who_is_gone_is_forgotten(tmp_path: Path, autojump_clock: object) -> None:
    async with running(tmp_path) as rig:
        gone: list[PeerId] = []
        rig.peering.gone = gone.append
        one = rig.add(1)
        rig.link(1)
        await trio.sleep(0.5)
        late = rig.peering.hellos[one]
        rig.hub.remove(one)
        await trio.sleep(0.5)
        assert gone == [one]
        rig.peering.greeted(one, late)  # its last hello was still being judged
        assert rig.peering.hellos == {}
        assert rig.peering.known_addresses() == ()


async def test_validators_are_those_that_prove_it(tmp_path: Path, autojump_clock: object) -> None:
    async with running(tmp_path) as rig:
        key = make_key("voter")
        claim = ValidatorClaim(peer_id=peer(2), issued_at_ms=TimeMs(0))
        proof = sign_validator_claim(claim, GENESIS, key)
        rig.peering.is_validator_key = lambda known: known == key.public_key
        changes: list[tuple[PublicKey, bool]] = []
        rig.peering.linked = lambda changed, is_linked: changes.append((changed, is_linked))
        rig.add(1)
        two = rig.add(2, lambda hello: record.to_bytes(attrs.evolve(hello, validator=proof)))
        rig.link(1)
        rig.link(2)
        await trio.sleep(0.5)
        assert rig.peering.validators() == [two]
        assert {known.peer_id: known.validator for known in rig.peering.known_addresses()} == {
            peer(1): False,
            two: True,
        }
        assert changes == [(key.public_key, True)]
        rig.hub.remove(two)
        await trio.sleep(0.5)
        assert rig.peering.validators() == []
        assert changes == [(key.public_key, True), (key.public_key, False)]


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("N1", {"world_id": WorldId("another")}),
        ("N2", {"genesis_hash": Hash32(bytes(32))}),
        ("N3", {"listen": ("nowhere",)}),
    ],
)
async def test_a_foreigner_is_let_go(
    tmp_path: Path, autojump_clock: object, rule: str, change: dict[str, object]
) -> None:
    async with running(tmp_path) as rig:
        one = rig.add(1, lambda hello: record.to_bytes(attrs.evolve(hello, **change)))
        rig.network.dial(one, rig.address(1))
        await trio.sleep(10)
        assert rig.peering.counters[f"hello.refused.{rule}"] == 1
        assert not rig.is_linked(1)
        assert rig.greetings == [1]
        assert rig.peering.hellos == {}


async def test_a_foreigner_that_comes_back_again_and_again_is_left_alone(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with running(tmp_path) as rig:
        rig.add(1, lambda _hello: b"\xff")
        rig.link(1)  # and keeps redialling
        await trio.sleep(30)
        assert len(rig.greetings) <= 6
        assert rig.peering.counters["hello.broken.D2"] == len(rig.greetings)
        assert rig.peering.hellos == {}


async def test_a_refusal_without_a_rule_ends_nothing(tmp_path: Path, autojump_clock: object) -> None:
    def busy(_hello: Hello) -> bytes:
        raise Refused(ErrorCode.BUSY, "later")

    async with running(tmp_path, hello_interval_s=1.0) as rig:
        rig.add(1, busy)
        rig.link(1)
        await trio.sleep(2.5)
        assert rig.peering.counters[f"hello.refused.{ErrorCode.BUSY}"] == 3
        assert rig.is_linked(1)


async def test_a_silent_peer_does_not_hold_up_the_others(tmp_path: Path, autojump_clock: object) -> None:
    async with running(tmp_path, hello_interval_s=1.0, request_timeout_s=100.0) as rig:
        one = rig.hub.node(peer(1))

        async def silent(_peer: PeerId, _data: bytes) -> bytes:
            await trio.sleep_forever()
            raise AssertionError

        one.serve(rpc.HELLO, silent)
        rig.add(2)
        rig.link(1)
        rig.link(2)
        await trio.sleep(10.5)
        assert len(rig.greetings) >= 10
        assert rig.peering.counters[f"hello.refused.{ErrorCode.TIMEOUT}"] >= 3
        assert rig.is_linked(1)


async def test_friends_of_a_peer_are_linked_to(tmp_path: Path, autojump_clock: object) -> None:  # T-8.11
    async with running(tmp_path) as rig:
        friends = [
            PeerAddress(peer_id=rig.add(number), address=rig.address(number), validator=False) for number in range(2, 5)
        ]
        me = PeerAddress(peer_id=rig.network.peer_id, address=rig.network.listen_addresses()[0], validator=False)
        rig.add(1, record.to_bytes, me, *friends)
        rig.link(1)
        await trio.sleep(2)
        assert len(rig.peering.hellos) == 4


async def test_the_book_is_written_when_there_is_something_new(tmp_path: Path, autojump_clock: object) -> None:
    async with running(tmp_path, hello_interval_s=1.0) as rig:
        one = rig.add(1)
        rig.link(1)
        await trio.sleep(0.5)
        known = rig.book.get(one)
        assert known is not None
        assert (known.addresses, known.verified) == ((rig.address(1),), True)
        await trio.sleep(30)
        again = rig.book.get(one)
        assert again is not None
        assert again.last_seen_ms == known.last_seen_ms  # thirty hellos, no write
        await trio.sleep(60)
        later = rig.book.get(one)
        assert later is not None
        assert later.last_seen_ms > known.last_seen_ms


async def test_a_wildcard_listener_is_reachable_where_it_came_from(tmp_path: Path, autojump_clock: object) -> None:
    async with running(tmp_path) as rig:
        one = rig.add(1, lambda hello: record.to_bytes(attrs.evolve(hello, listen=("/ip4/0.0.0.0/tcp/77",))))
        two = rig.add(2, lambda hello: record.to_bytes(attrs.evolve(hello, listen=("/ip4/0.0.0.0/tcp/0",))))
        rig.link(1)
        rig.link(2)
        await trio.sleep(0.5)
        host = rig.address(1).split("/")[2]
        assert rig.peering.known_addresses() == (
            PeerAddress(peer_id=one, address=f"/ip4/{host}/tcp/77", validator=False),
        )
        assert two in rig.peering.hellos


async def test_at_the_start_bootstrap_and_remembered_peers_are_dialled(tmp_path: Path, autojump_clock: object) -> None:
    async with running(tmp_path) as rig:
        bootstrap = f"{rig.address(1)}/p2p/{rig.add(1)}"
        remembered = rig.add(2)
        rig.book.seen(remembered, (rig.address(2),), 0, verified=True)
        config = attrs.evolve(MINIMAL.net, bootstrap=(bootstrap,))
        peering = Peering(rig.network, rig.book, config, Clock(lambda: 1000))
        peering.use(HelloHandler(lambda: rig.hello(()), peering.greeted))
        peering.dial_known()
        await trio.sleep(2)
        assert rig.is_linked(1)
        assert rig.is_linked(2)


async def test_peers_that_left_while_peering_paused_are_forgotten(tmp_path: Path, autojump_clock: object) -> None:
    """A fault of the disk ends the part, and it begins anew: nobody has told it meanwhile who is gone."""
    async with running(tmp_path) as rig:
        gone: list[PeerId] = []
        rig.peering.gone = gone.append
        stayed, left = rig.add(1), peer(2)
        rig.link(1)
        await trio.sleep(1)
        assert stayed in rig.peering.hellos
        rig.peering.hellos[left] = rig.peering.hellos[stayed]
        with trio.move_on_after(1):
            await rig.peering.run()
        assert (list(rig.peering.hellos), gone) == ([stayed], [left])


async def test_an_address_that_the_disk_does_not_take_is_written_with_a_later_hello(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise StoreNotWritable("full")

    async with running(tmp_path) as rig:
        with monkeypatch.context() as patch:
            patch.setattr(rig.book, "seen", refuse)
            known = rig.add(1)
            rig.link(1)
            await trio.sleep(1)
            assert known in rig.peering.hellos
        assert (rig.book.all(0), rig.peering.counters["peers.not_written"] >= 1) == ((), True)
        await trio.sleep(3 * MINIMAL.net.hello_interval_s)
        assert [found.peer_id for found in rig.book.all(0)] == [known]

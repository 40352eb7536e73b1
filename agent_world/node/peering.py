"""Greets every peer, learns addresses from verified ones, and keeps enough connections (Gap 5)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import attrs
import structlog
import trio

from agent_world.config import NetConfig
from agent_world.errors import Refused, RemoteError, StoreNotWritable
from agent_world.handlers.hello import HelloHandler, claim_in
from agent_world.net.address import parse_address, parse_peer
from agent_world.net.interface import DistributedNetwork, PeerDown, PeerUp
from agent_world.net.reputation import Offence
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.links import Links
from agent_world.node.shunned import Shunned
from agent_world.store.peers import PeerBook
from agent_world.wire import record, rpc
from agent_world.wire.hello import Hello, PeerAddress
from agent_world.wire.ids import PeerId, PublicKey, TimeMs
from agent_world.wire.limits import HELLO_PEERS_MAX

_log = structlog.get_logger("agent_world.peers")

PEERS_NAMED_EVERY: Final = 5
"""Of so many rounds of hellos one names peers."""
BOOK_PEERS_TRIED: Final = 64
"""Peers of earlier runs that may be dialled at the start, the ones seen last; the others come by hello."""
BOOK_REFRESH_MS: Final = 60_000
"""An unchanged address is written to the peer book again this often, not with every hello: a write is an fsync."""
REFUSALS_MAX: Final = 64
"""Peers of which the last refusal is remembered."""
_FALSE_PROOF: Final = ("N5", "N6")


class Peering:
    """One node's view of its neighbours; ``hellos`` holds the last hello of every connected peer."""

    def __init__(self, network: DistributedNetwork, book: PeerBook, config: NetConfig, clock: Clock) -> None:
        self._network = network
        self._book = book
        self._config = config
        self._clock = clock
        self._handler: HelloHandler | None = None
        self.hellos: dict[PeerId, Hello] = {}
        self._claims: dict[PeerId, tuple[PublicKey, TimeMs]] = {}
        """Keys of which connected peers have shown a proof, and when it was made."""
        self._addresses: dict[PeerId, str] = {}
        self._written: dict[PeerId, tuple[str, int]] = {}
        self._greeting: set[PeerId] = set()
        self._heard_ms: dict[PeerId, int] = {}
        self._newcomer_ms = 0
        self._shunned = Shunned()
        self.counters = Counters()
        self.links = Links(network, clock, config.hello_interval_s, self.counters.add)
        self.came: Callable[[PeerId], None] = lambda _peer: None
        """Called when a peer has said its first hello on a connection."""
        self.gone: Callable[[PeerId], None] = lambda _peer: None
        """Called when the last connection to a peer has ended."""
        self.linked: Callable[[PublicKey, bool], None] = lambda _key, _is_linked: None
        """Called with a validator's key when its first link is proved, and when its last one has ended."""
        self.is_validator_key: Callable[[PublicKey], bool] = lambda _key: False
        """Whether a key is in the world's validator set."""
        self.refusals: OrderedDict[PeerId, str] = OrderedDict()
        """Why hellos were refused, by this node or by the peer; the last REFUSALS_MAX peers."""

    def use(self, handler: HelloHandler) -> None:
        """The handler that serves and judges hellos."""
        self._handler = handler
        handler.refused = self._judged_wrong
        self._network.serve(rpc.HELLO, handler.serve)

    def validators(self) -> list[PeerId]:
        """Connected peers that have proved to be validators of this world and take consensus messages directly.

        One peer for each key, the one with the latest proof: a validator may move, and cannot protect a crowd.
        """
        latest: dict[PublicKey, tuple[TimeMs, PeerId]] = {}
        for peer, (key, issued_ms) in self._claims.items():
            if self.is_validator_key(key):
                latest[key] = max(latest.get(key, (issued_ms, peer)), (issued_ms, peer))
        return [peer for _issued_ms, peer in latest.values()]

    def is_validator(self, peer: PeerId) -> bool:
        """Whether ``validators`` has this peer."""
        return peer in self._claims and peer in self.validators()

    def known_addresses(self) -> tuple[PeerAddress, ...]:
        """Verified peers for our own hello: the connected ones, in turns if they are more than a hello may name.

        Only now and then, and while somebody is new here: judging them is most of what a hello costs.
        """
        interval_ms = max(1, int(self._config.hello_interval_s * 1000))
        turn = self._clock.now_ms() // interval_ms
        if turn % PEERS_NAMED_EVERY and self._clock.now_ms() - self._newcomer_ms > 2 * interval_ms:
            return ()
        validators = set(self.validators())
        voters = [peer for peer in sorted(self._addresses) if peer in validators]
        others = [peer for peer in sorted(self._addresses) if peer not in validators]
        named = _window(voters, HELLO_PEERS_MAX // 2, turn)
        named += _window(others, HELLO_PEERS_MAX - len(named), turn)
        return tuple(
            PeerAddress(peer_id=peer, address=self._addresses[peer], validator=peer in validators) for peer in named
        )

    def greeted(self, peer: PeerId, hello: Hello) -> None:
        """A hello of this world: note it, learn where the peer and its friends listen."""
        seen_as = next((info.address for info in self._network.peers() if info.peer == peer), None)
        if seen_as is None:
            return  # the connection has ended meanwhile: what is noted now would never be removed
        is_new = peer not in self.hellos
        self.refusals.pop(peer, None)
        self.hellos[peer] = hello
        claim = None if hello.validator is None else (hello.validator.key, claim_in(hello.validator).issued_at_ms)
        self._note_claim(peer, claim)
        self._heard_ms[peer] = self._clock.now_ms()
        self._shunned.forgive(peer)
        address = next(filter(None, (_reachable(listen, seen_as) for listen in hello.listen)), None)
        if address is not None:
            self._addresses[peer] = address
            self._write(peer, address)
        for friend in hello.peers:
            if friend.peer_id not in self.hellos:
                self.links.learn(friend.peer_id, friend.address, is_validator=friend.validator)
        self._tend()
        if is_new:
            self._newcomer_ms = self._clock.now_ms()
            self.came(peer)

    def _note_claim(self, peer: PeerId, claim: tuple[PublicKey, TimeMs] | None) -> None:
        """Which key a peer has proved last; None for none, or for a peer that is gone."""
        before = {key for key, _issued_ms in self._claims.values()}
        if claim is None:
            self._claims.pop(peer, None)
        else:
            self._claims[peer] = claim
        after = {key for key, _issued_ms in self._claims.values()}
        for key in before ^ after:
            if self.is_validator_key(key):
                self.linked(key, key in after)

    def heard_of(self, peer: PeerId, address: str) -> None:
        """Somebody else than a peer names a node of this world; it is linked to if links are wanted."""
        if peer not in self.hellos:
            self.links.learn(peer, address, is_validator=False)
            self._tend()

    def address_of(self, peer: PeerId) -> str | None:
        """Where a connected peer can be dialled, as it has proved; None if nobody can dial it."""
        return self._addresses.get(peer)

    def _tend(self) -> None:
        assert self._handler is not None, "use() comes before run()"
        validators = set(self.validators())
        linked = {peer: peer in validators for peer in self.hellos}
        self.links.tend(linked, is_validator=self._handler.own().validator is not None)

    def _write(self, peer: PeerId, address: str) -> None:
        known, written_ms = self._written.get(peer, ("", 0))
        now_ms = self._clock.now_ms()
        if known != address or now_ms - written_ms >= BOOK_REFRESH_MS:
            try:
                self._book.seen(peer, (address,), self._clock.wall_ms(), verified=True)
            except StoreNotWritable:
                self.counters.add("peers.not_written")  # tried again with the peer's next hello
            else:
                self._written[peer] = (address, now_ms)

    def dial_known(self) -> None:
        """At the start: bootstrap nodes, then peers remembered from earlier runs."""
        for text in self._config.bootstrap:
            self.links.choose(*parse_peer(text))
        for known in self._book.all(self._clock.wall_ms())[:BOOK_PEERS_TRIED]:
            self.links.remember(known.peer_id, known.addresses)
        self._tend()

    async def run(self) -> None:
        """Until cancelled: greet who connects, and everybody again at the hello interval."""
        connected = {info.peer for info in self._network.peers()}
        for peer in [known for known in self.hellos if known not in connected]:
            self._went(peer)  # while a fault of the disk had this part pause
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._greet_all_regularly, nursery)
            async for event in self._network.peer_events():
                match event:
                    case PeerUp(peer=peer, outbound=True):
                        nursery.start_soon(self.greet, peer)
                    case PeerUp():
                        pass  # who dials for a link says the first hello; who does not may only visit for its DHT
                    case PeerDown(peer=peer):
                        self._went(peer)

    def _went(self, peer: PeerId) -> None:
        self.hellos.pop(peer, None)
        self._note_claim(peer, None)
        self._heard_ms.pop(peer, None)
        self._addresses.pop(peer, None)
        self._written.pop(peer, None)
        self.gone(peer)

    async def _greet_all_regularly(self, nursery: trio.Nursery) -> None:
        while True:
            await trio.sleep(self._config.hello_interval_s)
            self._tend()
            # One exchange tells both sides: who has just greeted us need not be greeted.
            heard_since = self._clock.now_ms() - int(self._config.hello_interval_s * 750)
            for info in self._network.peers():
                wanted = info.outbound or info.peer in self.hellos or self.links.is_own(info.peer)
                if wanted and self._heard_ms.get(info.peer, heard_since) <= heard_since:
                    nursery.start_soon(self.greet, info.peer)

    async def greet(self, peer: PeerId) -> None:
        """Exchange hellos with one peer, once at a time; a foreigner is told why and left alone."""
        if peer in self._greeting or self._shunned.is_shunned(peer, self._clock.now_ms()):
            return
        self._greeting.add(peer)
        try:
            await self._exchange(peer)
        finally:
            self._greeting.discard(peer)

    async def _exchange(self, peer: PeerId) -> None:
        assert self._handler is not None, "use() comes before run()"
        own = record.to_bytes(self._handler.own())
        try:
            # The round of hellos does not wait for a slow peer, and the peer is asked again in the next one.
            timeout_s = max(1.0, self._config.hello_interval_s)
            answer = await self._network.request(peer, rpc.HELLO, own, timeout_s=timeout_s)
            self._handler.judge(peer, answer)
        except Refused as error:
            self.counters.add(f"hello.refused.{error.rule or error.code}")
            if error.rule:
                self._refused(peer, error)
                self._network.forget(peer)
                await self._drop(peer)
        except RemoteError as error:
            self.counters.add(f"hello.broken.{error.rule}")
            self._network.gate.blame(peer, Offence.GARBAGE)
            await self._drop(peer)

    def _judged_wrong(self, peer: PeerId, error: Refused) -> None:
        """This node has refused the peer's hello."""
        if error.rule in _FALSE_PROOF:
            self._network.gate.blame(peer, Offence.FALSE_PROOF)
        self._refused(peer, error)

    def _refused(self, peer: PeerId, error: Refused) -> None:
        """Either side has refused the other's hello."""
        _log.warning("peer cannot be of this swarm", peer=peer, rule=error.rule, reason=error.message)
        self.refusals[peer] = f"{error.rule}: {error.message}"
        self.refusals.move_to_end(peer)
        while len(self.refusals) > REFUSALS_MAX:
            self.refusals.popitem(last=False)

    async def _drop(self, peer: PeerId) -> None:
        self._shunned.add(peer, self._clock.now_ms())
        await self._network.disconnect(peer)


def _window(peers: list[PeerId], size: int, turn: int) -> list[PeerId]:
    """``size`` of them from a place that moves on every turn; all of them if they are no more."""
    if len(peers) <= size:
        return peers
    start = turn * size % len(peers)
    return (peers + peers)[start : start + size]


def _reachable(listen: str, seen_as: str | None) -> str | None:
    """Where a peer that listens on ``listen`` can be dialled; a wildcard host is the one its connection came from."""
    address = parse_address(listen)
    if address.is_dialable:
        return str(address)
    if seen_as is None or address.port == 0:
        return None
    seen = parse_address(seen_as)
    return str(attrs.evolve(address, protocol=seen.protocol, host=seen.host))

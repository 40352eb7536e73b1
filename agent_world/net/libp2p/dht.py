"""Kademlia over the connections of a ``Libp2pNetwork``; satisfies ``interface.DistributedDht`` (D7).

The library serves records, providers and its routing table to others; questions are asked by our own lookup.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.peer.peerstore import PeerStoreError
from libp2p.records.record import make_signed_put_record
from libp2p.records.validator import NamespacedValidator, Validator
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from agent_world.errors import AgentWorldError, DecodeError, Unavailable, UsageError
from agent_world.net.address import parse_address
from agent_world.net.counters import Counters
from agent_world.net.dht_records import DHT_NAMESPACE, RecordRules
from agent_world.net.interface import PeerUp
from agent_world.net.libp2p import library_faults
from agent_world.net.libp2p.host import library_id, our_id
from agent_world.net.libp2p.kad_client import ADDRESS_TTL_S, Answer, KadClient, distance_to
from agent_world.net.libp2p.kad_lookup import NEAREST, Lookup, look_up
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId, check_peer_id

log: Final = logging.getLogger(__name__)

PROVIDE_EVERY_S: Final = 1.1
"""A DHT peer takes 10 provider records in 10 s from us and resets what is above."""
PROVIDES_WAITING_MAX: Final = 1_024
"""Callers of ``provide`` that wait for their turn; the last of them waits 19 minutes."""
PROVIDERS_FOUND_MAX: Final = 20
PUT_MAX_S: Final = 15.0
"""Time for storing a record or announcing a provider."""
PROVIDED_CHECKED_AT: Final = 3
"""Holders that are asked whether they took a provider record; they confirm no write."""
WALK_EVERY_S: Final = 300.0
"""A look-up of a random place, so that the routing table hears of newcomers and forgets the dead."""
WALK_FIRST_S: Final = 1.0
"""The first one, so that a node that has just joined is known near its place."""
TABLE_SMALL: Final = 5
"""With fewer peers in the routing table every connected peer is asked too."""
WALK_MAX_S: Final = 20.0


class _Rules(Validator):
    """Our record rules as the library asks for them."""

    def __init__(self, rules: RecordRules, counters: Counters) -> None:
        self._rules = rules
        self._counters = counters

    def validate(self, key: str, value: bytes) -> None:
        """Raise ValueError, the library's own sign, for what the rules refuse."""
        try:
            self._rules.check(key, value)
        except AgentWorldError as error:
            self._counters.add("dht_record_refused")
            raise ValueError(str(error)) from None

    def select(self, key: str, values: list[bytes]) -> int:
        """Index of the best; the last of equals, or a holder would refuse to renew a record it has."""
        best = self._rules.best(key, values)
        return max(index for index, value in enumerate(values) if value == best)


class Libp2pDht:
    """Made and run by ``Libp2pDht.open``; usable inside that scope only."""

    def __init__(self, network: Libp2pNetwork, rules: RecordRules, rng: random.Random) -> None:
        self._network = network
        self._rules = rules
        self._rng = rng
        self._counters = Counters()
        self._kad = KadDHT(
            network.host.inner,
            DHTMode.SERVER,
            validator=NamespacedValidator({DHT_NAMESPACE: _Rules(rules, self._counters)}, strict_validation=True),
            validator_changed=True,
            strict_validation=True,
        )
        library_faults.stop_own_walk(self._kad)
        visits = network.connections.visits
        self._client = KadClient(network.host, visits, self._counters, self._answered, self._silent)
        self._provide_turn = trio.Lock()
        self._next_provide = 0.0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, network: Libp2pNetwork, rules: RecordRules, rng: random.Random | None = None
    ) -> AsyncIterator[Libp2pDht]:
        """Serve and use the DHT until the block is left; ``rules`` judge every record that comes or goes.

        ``rng`` chooses the places of the random walk.
        """
        dht = cls(network, rules, rng or random.Random())
        async with background_trio_service(dht._kad), trio.open_nursery() as nursery:
            library_faults.after_identify(network.host.inner, dht._know)
            nursery.start_soon(dht._feed_routing_table)
            nursery.start_soon(dht._walk)
            yield dht
            nursery.cancel_scope.cancel()

    async def put_record(self, key: str, value: bytes) -> None:
        """Store at the peers nearest to the key; a better record that is known already stays.

        Raises RemoteError if the rules refuse the record, Unavailable if no peer took it in time.
        """
        self._rules.check(key, value)
        deadline = trio.current_time() + PUT_MAX_S
        found, lookup = await self._find_records(key, PUT_MAX_S / 2)
        if any(known != value and self._rules.best(key, [known, value]) == known for known in found):
            self._counters.add("dht_put_outdated")
            return
        self._hold(key, value)
        taken = 0
        limit = trio.CapacityLimiter(NEAREST)

        async def put(peer: ID) -> None:
            nonlocal taken
            async with limit:
                taken += await self._client.put_value(peer, key.encode(), value)

        with trio.move_on_at(deadline):
            async with trio.open_nursery() as nursery:
                for peer in lookup.nearest:
                    nursery.start_soon(put, peer)
        self._counters.add("dht_put_copies", taken)
        if not taken:
            raise Unavailable(f"no DHT peer stored {key}")

    async def get_record(self, key: str, *, timeout_s: float, at: PeerId | None = None) -> bytes | None:
        """The best valid record of the peers nearest to the key and of our own store, or that of one peer.

        Raises Unavailable when no DHT peer answered in time; None says that those who answered have none.
        """
        found = await self._ask_for_record(key, at) if at is not None else (await self._find_records(key, timeout_s))[0]
        return self._rules.best(key, found) if found else None

    async def _ask_for_record(self, key: str, peer: PeerId) -> list[bytes]:
        """The peer's valid record, if it has one."""
        found: list[bytes] = []
        answer = await self._client.get_value(library_id(peer), key.encode())
        if answer is None:
            raise Unavailable(f"DHT peer {peer} did not answer for {key}")
        if answer.value is not None:
            self._take(key, answer.value, found)
        return found

    async def _find_records(self, key: str, timeout_s: float) -> tuple[list[bytes], Lookup[ID]]:
        """Valid records, our own copy among them but never alone, and who holds the place of the key."""
        octets = key.encode()
        found: list[bytes] = []

        async def ask(peer: ID) -> Sequence[ID] | None:
            answer = await self._client.get_value(peer, octets)
            if answer is None:
                return None
            if answer.value is not None:
                self._take(key, answer.value, found)
            return answer.closer

        lookup = await self._look_up(octets, ask, timeout_s)
        own = self._kad.value_store.get(octets)
        if own is not None:
            self._take(key, own.value, found)
        return list(dict.fromkeys(found)), lookup

    def _take(self, key: str, value: bytes, found: list[bytes]) -> None:
        try:
            self._rules.check(key, value)
        except AgentWorldError as error:
            self._counters.add("dht_record_wrong")
            log.debug("a record of %s is wrong: %s", key, error)
        else:
            found.append(value)

    def _hold(self, key: str, value: bytes) -> None:
        """Keep a copy for those who ask us, without the library's own renewal: whoever put it renews it."""
        record = make_signed_put_record(key.encode(), value, self._network.host.inner.get_private_key())
        self._kad.value_store.put_record(key.encode(), record)

    async def provide(self, content: Cid) -> None:
        """Announce this node as a provider, at most one content a second; raises Unavailable if no peer took it."""
        self._start_of_lookup()
        if self._provide_turn.statistics().tasks_waiting >= PROVIDES_WAITING_MAX:
            raise Unavailable("too many contents wait to be announced")
        async with self._provide_turn:
            await trio.sleep_until(self._next_provide)
            self._next_provide = trio.current_time() + PROVIDE_EVERY_S
            confirmed = False
            with trio.move_on_after(PUT_MAX_S):
                confirmed = await self._announce(_multihash(content))
        if not confirmed:
            self._counters.add("dht_provide_failed")
            raise Unavailable(f"no DHT peer took the provider record of {content}")
        self._counters.add("dht_provided")

    async def _announce(self, key: bytes) -> bool:
        me = library_id(self._network.peer_id)
        self._kad.provider_store.add_provider(key, PeerInfo(me, self._network.host.inner.get_addrs()))
        lookup = await self._look_up(key, self._closer_of(key), PUT_MAX_S / 2)
        async with trio.open_nursery() as nursery:
            for peer in lookup.nearest:
                nursery.start_soon(self._client.add_provider, peer, key)
        for peer in lookup.nearest[:PROVIDED_CHECKED_AT]:
            answer = await self._client.get_providers(peer, key)
            if answer is not None and me in answer.providers:
                return True
        return False

    def _closer_of(self, key: bytes, answers: list[Answer] | None = None) -> Any:
        async def ask(peer: ID) -> Sequence[ID] | None:
            answer = await self._client.get_providers(peer, key)
            if answer is not None and answers is not None:
                answers.append(answer)
            return None if answer is None else answer.closer

        return ask

    async def find_providers(self, content: Cid, *, timeout_s: float) -> Sequence[PeerId]:
        """Who says that it provides, ascending by id; raises Unavailable as ``get_record`` does."""
        key = _multihash(content)
        answers: list[Answer] = []
        await self._look_up(key, self._closer_of(key, answers), timeout_s)
        found = {provider for answer in answers for provider in answer.providers}
        found.update(info.peer_id for info in self._kad.provider_store.get_providers(key))
        # Nearness to the content is as good as any order, and nobody can choose to be first everywhere.
        nearest = sorted(found, key=distance_to(key))[:PROVIDERS_FOUND_MAX]
        return sorted(peer for library in nearest if (peer := _node_id(library)) is not None)

    def addresses(self, peer: PeerId) -> tuple[str, ...]:
        """Where the peer can be dialled, as far as DHT peers or it itself have told; empty if nobody has."""
        try:
            known = self._network.host.inner.get_peerstore().addrs(library_id(peer))
        except PeerStoreError:
            return ()
        texts = (str(address).split("/p2p/")[0] for address in known)
        return tuple(dict.fromkeys(text for text in texts if _is_dialable(text)))

    def learned(self, peer: PeerId, address: str) -> None:
        """A peer of this world listens at ``address``; it is handed on to those who look for it."""
        self._network.host.inner.get_peerstore().add_addrs(library_id(peer), [Multiaddr(address)], ADDRESS_TTL_S)

    def withdraw(self, content: Cid) -> None:
        """This node does not serve ``content`` any more; records at other holders run out by themselves."""
        providers = self._kad.provider_store.providers.get(_multihash(content), {})
        providers.pop(str(library_id(self._network.peer_id)), None)

    def peers(self) -> int:
        """Peers in the routing table."""
        return len(self._kad.routing_table.get_peer_ids())

    def counters(self) -> Mapping[str, int]:
        """Counters by name, and what is held here now."""
        return {
            **self._counters.snapshot(),
            "dht_peers": self.peers(),
            "dht_visits_open": len(self._network.connections.visits),
            "dht_records_held": len(self._kad.value_store.store),
            "dht_contents_held": len(self._kad.provider_store.providers),
        }

    async def _look_up(self, key: bytes, ask: Any, timeout_s: float) -> Lookup[ID]:
        start = self._start_of_lookup()
        self._counters.add("dht_lookups")
        lookup = await look_up(start, ask, distance_to(key), timeout_s=timeout_s)
        if not lookup.answered:
            self._counters.add("dht_lookups_unanswered")
            raise Unavailable(f"no DHT peer answered within {timeout_s} s")
        return lookup

    def _start_of_lookup(self) -> list[ID]:
        known: list[ID] = self._kad.routing_table.get_peer_ids()
        if len(known) < TABLE_SMALL:
            # Who was identified before its DHT began does not tell of it; asking does.
            connected = [library_id(info.peer) for info in self._network.peers()]
            known = list(dict.fromkeys([*known, *connected]))
        if not known:
            raise Unavailable("no DHT peer is known")
        return known

    async def _answered(self, peer: ID) -> None:
        await self._kad.routing_table.add_peer(peer, skip_server_mode_check=True)

    def _silent(self, peer: ID) -> None:
        self._kad.routing_table.remove_peer(peer)

    async def _know(self, peer: ID) -> None:
        """A peer has told its protocols: it enters the routing table or, if it speaks no DHT, leaves it."""
        if not await self._kad.add_peer(peer):
            # The library takes in any peer that is connected when it starts.
            self._kad.routing_table.remove_peer(peer)

    async def _feed_routing_table(self) -> None:
        # Connections alone do not enter the routing table. A peer that was identified before is not identified
        # again when it comes back, so it is added when it connects.
        async for event in self._network.peer_events():
            if isinstance(event, PeerUp) and self._network.host.is_identified(event.peer):
                await self._know(library_id(event.peer))

    async def _walk(self) -> None:
        pause_s = WALK_FIRST_S
        while True:
            await trio.sleep(pause_s * (0.5 + 0.5 * self._rng.random()))
            pause_s = WALK_EVERY_S
            # Our own neighbourhood first: records whose place is near to us are ours to hold.
            for target in (library_id(self._network.peer_id).to_bytes(), b"\x12\x20" + self._rng.randbytes(32)):
                try:
                    await self._look_up(target, self._nodes_near(target), WALK_MAX_S)
                except Unavailable as error:
                    log.debug("the random walk met nobody: %s", error)

    def _nodes_near(self, target: bytes) -> Any:
        async def ask(peer: ID) -> Sequence[ID] | None:
            answer = await self._client.find_node(peer, target)
            return None if answer is None else answer.closer

        return ask


def _multihash(content: Cid) -> bytes:
    return content.to_bytes()[2:]


def _node_id(peer: Any) -> PeerId | None:
    """Our id, or None for a peer whose key is not Ed25519: no node of this system."""
    try:
        return PeerId(check_peer_id(our_id(peer)))
    except DecodeError:
        return None


def _is_dialable(text: str) -> bool:
    try:
        return parse_address(text).is_dialable
    except UsageError:
        return False

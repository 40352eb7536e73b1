"""Kademlia over the connections of a ``Libp2pNetwork``; satisfies ``interface.DistributedDht`` (D7)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.records.validator import NamespacedValidator, Validator
from libp2p.tools.anyio_service import background_trio_service

from agent_world.errors import AgentWorldError, DecodeError, Unavailable
from agent_world.net.dht_records import DHT_NAMESPACE, RecordRules
from agent_world.net.interface import PeerUp
from agent_world.net.libp2p import library_faults
from agent_world.net.libp2p.host import library_id, our_id
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


class _Rules(Validator):
    """Our record rules as the library asks for them."""

    def __init__(self, rules: RecordRules) -> None:
        self._rules = rules

    def validate(self, key: str, value: bytes) -> None:
        """Raise ValueError, the library's own sign, for what the rules refuse."""
        try:
            self._rules.check(key, value)
        except AgentWorldError as error:
            raise ValueError(str(error)) from None

    def select(self, key: str, values: list[bytes]) -> int:
        """Index of the best; the last of equals, or a holder would refuse to renew a record it has."""
        best = self._rules.best(key, values)
        return max(index for index, value in enumerate(values) if value == best)


class Libp2pDht:
    """Made and run by ``Libp2pDht.open``; usable inside that scope only."""

    def __init__(self, network: Libp2pNetwork, rules: RecordRules) -> None:
        self._network = network
        self._rules = rules
        self._kad = KadDHT(
            network.host.inner,
            DHTMode.SERVER,
            validator=NamespacedValidator({DHT_NAMESPACE: _Rules(rules)}, strict_validation=True),
            validator_changed=True,
            strict_validation=True,
        )
        self._copies_of = library_faults.count_stored_copies(self._kad)
        self._put_turn = trio.Lock()
        self._provide_turn = trio.Lock()
        self._next_provide = 0.0

    @classmethod
    @asynccontextmanager
    async def open(cls, network: Libp2pNetwork, rules: RecordRules) -> AsyncIterator[Libp2pDht]:
        """Serve and use the DHT until the block is left; ``rules`` judge every record that comes or goes."""
        dht = cls(network, rules)
        async with background_trio_service(dht._kad), trio.open_nursery() as nursery:
            library_faults.after_identify(network.host.inner, dht._kad.add_peer)
            nursery.start_soon(dht._feed_routing_table)
            yield dht
            nursery.cancel_scope.cancel()

    async def put_record(self, key: str, value: bytes) -> None:
        """Store at the peers nearest to the key; a better record that is known already stays.

        Raises RemoteError if the rules refuse the record, Unavailable if no peer took it in time.
        """
        self._rules.check(key, value)
        self._require_peers()
        async with self._put_turn:
            before = self._copies_of(key)
            with trio.move_on_after(PUT_MAX_S):
                try:
                    await self._kad.put_value(key, value)
                except ValueError:
                    return  # the library's sign that a better record is stored here
            if self._copies_of(key) != before:
                return
            # Nobody took it: because all have a better one, or because nobody answers.
            found, _ = await self._look_up(key, PUT_MAX_S)
            if found is None:
                raise Unavailable(f"no DHT peer stored {key}")

    async def get_record(self, key: str, *, timeout_s: float) -> bytes | None:
        """The best record of the peers nearest to the key and of our own store.

        Raises Unavailable when no DHT peer is connected or nothing was found in time.
        """
        self._require_peers()
        found, own = await self._look_up(key, timeout_s)
        records = [record for record in (found, own) if record is not None]
        return self._rules.best(key, records) if records else None

    async def _look_up(self, key: str, timeout_s: float) -> tuple[bytes | None, bytes | None]:
        """What other peers have and what we have; raises Unavailable if time ran out and there is neither."""
        store = self._kad.value_store.store
        # Taken out meanwhile: the library would answer from the copy of its last look-up, for a day.
        own = store.pop(key.encode(), None)
        found: bytes | None = None
        try:
            with trio.move_on_after(timeout_s) as scope:
                found = await self._kad.get_value(key)
        finally:
            if own is not None and (found is None or self._rules.best(key, [own[0].value, found]) != found):
                store[key.encode()] = own
        if found is None and own is None and scope.cancelled_caught:
            raise Unavailable(f"no DHT peer answered for {key} within {timeout_s} s")
        return found, None if own is None else own[0].value

    async def provide(self, content: Cid) -> None:
        """Announce this node as a provider, at most one content a second; raises Unavailable if no peer took it."""
        self._require_peers()
        if self._provide_turn.statistics().tasks_waiting >= PROVIDES_WAITING_MAX:
            raise Unavailable("too many contents wait to be announced")
        async with self._provide_turn:
            await trio.sleep_until(self._next_provide)
            self._next_provide = trio.current_time() + PROVIDE_EVERY_S
            accepted = False
            with trio.move_on_after(PUT_MAX_S):
                accepted = await self._kad.provider_store.provide(_multihash(content))
        if not accepted:
            raise Unavailable(f"no DHT peer took the provider record of {content}")

    async def find_providers(self, content: Cid, *, timeout_s: float) -> Sequence[PeerId]:
        """Who says that it provides, ascending by id; raises Unavailable as ``get_record`` does."""
        self._require_peers()
        key = _multihash(content)
        # As with records: what an earlier look-up has left here would be the whole answer.
        own = self._kad.provider_store.providers.pop(key, {})
        found: list[Any] = []
        with trio.move_on_after(timeout_s) as scope:
            found = await self._kad.provider_store.find_providers(key, PROVIDERS_FOUND_MAX)
        me = str(library_id(self._network.peer_id))
        if me in own:
            self._kad.provider_store.providers.setdefault(key, {})[me] = own[me]
        if not found and scope.cancelled_caught:
            raise Unavailable(f"no DHT peer answered for {content} within {timeout_s} s")
        return sorted({peer for info in found if (peer := _node_id(info.peer_id)) is not None})

    def _require_peers(self) -> None:
        known = self._kad.routing_table.get_peer_ids()
        if not any(self._network.host.is_connected(our_id(peer)) for peer in known):
            raise Unavailable("no DHT peer is connected")

    async def _feed_routing_table(self) -> None:
        # Connections alone do not enter the routing table. A peer that was identified before is not identified
        # again when it comes back, so it is added when it connects.
        async for event in self._network.peer_events():
            if isinstance(event, PeerUp) and self._network.host.is_identified(event.peer):
                await self._kad.add_peer(library_id(event.peer))


def _multihash(content: Cid) -> bytes:
    return content.to_bytes()[2:]


def _node_id(peer: Any) -> PeerId | None:
    """Our id, or None for a peer whose key is not Ed25519: no node of this system."""
    try:
        return PeerId(check_peer_id(our_id(peer)))
    except DecodeError:
        return None

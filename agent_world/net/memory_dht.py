"""A DHT inside one process, with the same checks of records as the real one; satisfies ``interface.DistributedDht``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import trio

from agent_world.errors import RemoteError, Unavailable
from agent_world.net.counters import Counters
from agent_world.net.dht_records import RecordRules
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import PeerId


class InMemoryDhtStore:
    """What all nodes of one test see. ``rules`` judge and compare records, unless a node brings its own."""

    def __init__(self, rules: RecordRules) -> None:
        self.rules = rules
        self.records: dict[str, bytes] = {}
        self.providers: dict[ContentHash, set[PeerId]] = {}
        self.addresses: dict[PeerId, dict[str, None]] = {}

    def node(
        self,
        peer_id: PeerId,
        *,
        is_reachable: Callable[[], bool] = lambda: True,
        rules: RecordRules | None = None,
    ) -> InMemoryDht:
        """The DHT as this node sees it; ``is_reachable`` says whether anybody would answer it now."""
        return InMemoryDht(self, peer_id, is_reachable, rules or self.rules)


class InMemoryDht:
    """Made by ``InMemoryDhtStore.node``."""

    def __init__(
        self, store: InMemoryDhtStore, peer_id: PeerId, is_reachable: Callable[[], bool], rules: RecordRules
    ) -> None:
        self._store = store
        self._peer_id = peer_id
        self._is_reachable = is_reachable
        self._rules = rules
        self._counters = Counters()

    async def put_record(self, key: str, value: bytes) -> None:
        """Store; raises RemoteError if the rules refuse it, Unavailable if nobody can be reached.

        A record worse than the stored one changes nothing.
        """
        await trio.lowlevel.checkpoint()
        self._rules.check(key, value)
        self._require_reachable()
        stored = self._store.records.get(key)
        if stored is not None and not self._accepts(key, stored):
            stored = None  # a holder with these rules would never have taken it
        if stored is None or self._rules.best(key, [stored, value]) == value:
            self._store.records[key] = value
        else:
            self._counters.add("dht_put_outdated")

    async def get_record(self, key: str, *, timeout_s: float, at: PeerId | None = None) -> bytes | None:
        """The stored record or None, whoever is asked; raises Unavailable if nobody can be reached.

        A record that this node's rules refuse is none for it.
        """
        await trio.lowlevel.checkpoint()
        self._require_reachable()
        stored = self._store.records.get(key)
        return stored if stored is not None and self._accepts(key, stored) else None

    async def provide(self, content: Cid) -> None:
        """Say that this node serves ``content``."""
        await trio.lowlevel.checkpoint()
        self._require_reachable()
        self._store.providers.setdefault(content.digest, set()).add(self._peer_id)
        self._counters.add("dht_provided")

    async def find_providers(self, content: Cid, *, timeout_s: float) -> Sequence[PeerId]:
        """Who provides it, ascending by id; raises Unavailable if nobody can be reached."""
        await trio.lowlevel.checkpoint()
        self._require_reachable()
        return sorted(self._store.providers.get(content.digest, ()))

    def withdraw(self, content: Cid) -> None:
        """Stop saying that this node serves ``content``."""
        self._store.providers.get(content.digest, set()).discard(self._peer_id)

    def addresses(self, peer: PeerId) -> tuple[str, ...]:
        """What any node has learned of this peer."""
        return tuple(self._store.addresses.get(peer, ()))

    def learned(self, peer: PeerId, address: str) -> None:
        """Note an address for all nodes."""
        self._store.addresses.setdefault(peer, {})[address] = None

    def peers(self) -> int:
        """1 if anybody would answer."""
        return int(self._is_reachable())

    def counters(self) -> Mapping[str, int]:
        """Counters by name."""
        return self._counters.snapshot()

    def _accepts(self, key: str, value: bytes) -> bool:
        try:
            self._rules.check(key, value)
        except RemoteError:
            self._counters.add("dht_record_wrong")
            return False
        return True

    def _require_reachable(self) -> None:
        self._counters.add("dht_lookups")
        if not self._is_reachable():
            self._counters.add("dht_lookups_unanswered")
            raise Unavailable("no DHT node can be reached")

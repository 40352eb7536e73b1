"""A DHT inside one process, with the same checks of records as the real one; satisfies ``interface.DistributedDht``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from agent_world.errors import Unavailable
from agent_world.net.dht_records import RecordRules
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId


class InMemoryDhtStore:
    """What all nodes of one test see. ``rules`` judge and compare records."""

    def __init__(self, rules: RecordRules) -> None:
        self.rules = rules
        self.records: dict[str, bytes] = {}
        self.providers: dict[Cid, set[PeerId]] = {}

    def node(self, peer_id: PeerId, *, is_reachable: Callable[[], bool] = lambda: True) -> InMemoryDht:
        """The DHT as this node sees it; ``is_reachable`` says whether anybody would answer it now."""
        return InMemoryDht(self, peer_id, is_reachable)


class InMemoryDht:
    """Made by ``InMemoryDhtStore.node``."""

    def __init__(self, store: InMemoryDhtStore, peer_id: PeerId, is_reachable: Callable[[], bool]) -> None:
        self._store = store
        self._peer_id = peer_id
        self._is_reachable = is_reachable

    async def put_record(self, key: str, value: bytes) -> None:
        """Store; raises RemoteError if the rules refuse it, Unavailable if nobody can be reached.

        A record worse than the stored one changes nothing.
        """
        await trio.lowlevel.checkpoint()
        self._store.rules.check(key, value)
        self._require_reachable()
        stored = self._store.records.get(key)
        if stored is None or self._store.rules.best(key, [stored, value]) == value:
            self._store.records[key] = value

    async def get_record(self, key: str, *, timeout_s: float) -> bytes | None:
        """The stored record or None; raises Unavailable if nobody can be reached."""
        await trio.lowlevel.checkpoint()
        self._require_reachable()
        return self._store.records.get(key)

    async def provide(self, content: Cid) -> None:
        """Say that this node serves ``content``."""
        await trio.lowlevel.checkpoint()
        self._require_reachable()
        self._store.providers.setdefault(content, set()).add(self._peer_id)

    async def find_providers(self, content: Cid, *, timeout_s: float) -> Sequence[PeerId]:
        """Who provides it, ascending by id; raises Unavailable if nobody can be reached."""
        await trio.lowlevel.checkpoint()
        self._require_reachable()
        return sorted(self._store.providers.get(content, ()))

    def _require_reachable(self) -> None:
        if not self._is_reachable():
            raise Unavailable("no DHT node can be reached")

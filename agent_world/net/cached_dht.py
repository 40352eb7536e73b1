"""A DHT behind a memory of its answers; satisfies ``interface.DistributedDht``.

A set of providers is remembered as a whole with the time it was fetched, so that what this node provides itself never
hides who else does; records are merged, so that a head never falls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from agent_world.distfs.dht_index import IndexedRecord, IndexStore, ProviderSet
from agent_world.net.counters import Counters
from agent_world.net.dht_records import RecordRules
from agent_world.net.interface import DistributedDht
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId


@attrs.frozen(slots=True, kw_only=True)
class DhtCacheConfig:
    """How long answers hold, in ms; 0 switches a memory off."""

    provider_ttl_ms: int = 600_000
    absent_ttl_ms: int = 10_000
    """An answer without providers; short, since whoever asks usually waits for the first one."""
    record_ttl_ms: int = 2_000
    """A head is older than that in any case when it comes out of the DHT."""
    max_providers_per_content: int = 8
    """Providers given to who asks; 0 for all. All are remembered."""


class CachedDht:
    """``now_ms`` is the wall clock's, since the index may outlive the process."""

    def __init__(
        self,
        inner: DistributedDht,
        index: IndexStore,
        rules: RecordRules,
        own_id: PeerId,
        now_ms: Callable[[], int],
        config: DhtCacheConfig = DhtCacheConfig(),
    ) -> None:
        self._inner = inner
        self._index = index
        self._rules = rules
        self._own_id = own_id
        self._now_ms = now_ms
        self._config = config
        self._counters = Counters()

    async def find_providers(self, content: Cid, *, timeout_s: float) -> Sequence[PeerId]:
        """Remembered or looked up; at most ``max_providers_per_content``. Raises Unavailable as the DHT does."""
        known = self._index.get_providers(content)
        if known is not None and self._is_fresh(known.fetched_at_ms, self._ttl_of(known)):
            self._counters.add("dht_cache_hit")
            return self._trimmed(known.providers)
        self._counters.add("dht_cache_miss")
        found = tuple(await self._inner.find_providers(content, timeout_s=timeout_s))
        self._index.put_providers(ProviderSet(content, found, self._now_ms()))
        return self._trimmed(found)

    async def provide(self, content: Cid) -> None:
        """Announce; a set that is remembered gets this node too and stays as old as it is."""
        await self._inner.provide(content)
        known = self._index.get_providers(content)
        if known is not None and self._own_id not in known.providers:
            self._index.put_providers(attrs.evolve(known, providers=tuple(sorted([*known.providers, self._own_id]))))

    def withdraw(self, content: Cid) -> None:
        """Stop announcing."""
        self._inner.withdraw(content)
        known = self._index.get_providers(content)
        if known is not None:
            others = tuple(peer for peer in known.providers if peer != self._own_id)
            self._index.put_providers(attrs.evolve(known, providers=others))

    async def get_record(self, key: str, *, timeout_s: float, at: PeerId | None = None) -> bytes | None:
        """Remembered or looked up, whichever is better. Raises Unavailable as the DHT does."""
        known = self._index.get_record(key)
        if known is not None and self._is_fresh(known.fetched_at_ms, self._config.record_ttl_ms):
            self._counters.add("dht_cache_hit")
            return known.value
        self._counters.add("dht_cache_miss")
        found = await self._inner.get_record(key, timeout_s=timeout_s, at=at)
        if found is None:
            return None if known is None else known.value
        return self._remember(key, found)

    async def put_record(self, key: str, value: bytes) -> None:
        """Store at others first; what they refuse is not remembered either."""
        await self._inner.put_record(key, value)
        self._remember(key, value)

    def addresses(self, peer: PeerId) -> tuple[str, ...]:
        """As the DHT has it."""
        return self._inner.addresses(peer)

    def learned(self, peer: PeerId, address: str) -> None:
        """For the DHT."""
        self._inner.learned(peer, address)

    def peers(self) -> int:
        """As the DHT has it."""
        return self._inner.peers()

    def counters(self) -> Mapping[str, int]:
        """The DHT's and those of the memory."""
        return {**self._inner.counters(), **self._counters.snapshot()}

    def _remember(self, key: str, value: bytes) -> bytes:
        known = self._index.get_record(key)
        best = value if known is None else self._rules.best(key, [known.value, value])
        self._index.put_record(IndexedRecord(key, best, self._now_ms()))
        return best

    def _ttl_of(self, known: ProviderSet) -> int:
        return self._config.provider_ttl_ms if known.providers else self._config.absent_ttl_ms

    def _is_fresh(self, fetched_at_ms: int, ttl_ms: int) -> bool:
        # A wall clock that was put back makes what is remembered old, not new for ever.
        return ttl_ms > 0 and 0 <= self._now_ms() - fetched_at_ms <= ttl_ms

    def _trimmed(self, providers: Sequence[PeerId]) -> Sequence[PeerId]:
        return providers[: self._config.max_providers_per_content or None]

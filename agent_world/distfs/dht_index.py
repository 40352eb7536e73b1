"""What this node remembers of DHT answers: sets of providers and records, each with the time it was fetched."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol, TypeVar

import attrs

from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId

ENTRIES_MAX: Final = 4_096
"""Records, and sets of providers, that an index remembers of each; the one written longest ago is dropped."""

K = TypeVar("K")
V = TypeVar("V")


@attrs.frozen(slots=True)
class ProviderSet:
    """The whole answer of one look-up; empty if it found nobody."""

    content: Cid
    providers: tuple[PeerId, ...]
    fetched_at_ms: int


@attrs.frozen(slots=True)
class IndexedRecord:
    """The best record known under a key."""

    key: str
    value: bytes
    fetched_at_ms: int


class IndexStore(Protocol):
    """Bounded memory of answers; what is remembered is as little to be believed as the answer was."""

    def put_providers(self, found: ProviderSet) -> None:
        """Remember, instead of an earlier set of this content."""
        ...

    def get_providers(self, content: Cid) -> ProviderSet | None:
        """The set remembered; None if there is none."""
        ...

    def put_record(self, found: IndexedRecord) -> None:
        """Remember, instead of an earlier record of this key."""
        ...

    def get_record(self, key: str) -> IndexedRecord | None:
        """The record remembered; None if there is none."""
        ...


class InMemoryIndexStore:
    """Until the process ends."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._providers: OrderedDict[Cid, ProviderSet] = OrderedDict()
        self._records: OrderedDict[str, IndexedRecord] = OrderedDict()

    def put_providers(self, found: ProviderSet) -> None:
        """Remember, instead of an earlier set of this content."""
        self._put(self._providers, found.content, found)

    def get_providers(self, content: Cid) -> ProviderSet | None:
        """The set remembered; None if there is none."""
        return self._providers.get(content)

    def put_record(self, found: IndexedRecord) -> None:
        """Remember, instead of an earlier record of this key."""
        self._put(self._records, found.key, found)

    def get_record(self, key: str) -> IndexedRecord | None:
        """The record remembered; None if there is none."""
        return self._records.get(key)

    def _put(self, entries: OrderedDict[K, V], key: K, entry: V) -> None:
        entries[key] = entry
        entries.move_to_end(key)
        while len(entries) > self._entries_max:
            entries.popitem(last=False)

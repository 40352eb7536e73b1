"""DHT answers that outlive the process; the same as ``distfs.dht_index.InMemoryIndexStore``, in the home's database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from agent_world.distfs.dht_index import ENTRIES_MAX, IndexedRecord, ProviderSet
from agent_world.errors import DecodeError
from agent_world.store.home import Home
from agent_world.wire import cbor
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId, check_peer_id
from agent_world.wire.limits import KIB

_PROVIDERS_BYTES_MAX = 64 * KIB
"""About 1,200 peer ids; one look-up finds 20."""


class SqliteIndexStore:
    """Bounded by ``entries_max`` records and as many sets of providers; the oldest answer is dropped first."""

    def __init__(self, home: Home, entries_max: int = ENTRIES_MAX) -> None:
        self._database = home.database
        self._entries_max = entries_max
        self._counters: Counter[str] = Counter()

    def put_providers(self, found: ProviderSet) -> None:
        """Remember, instead of an earlier set of this content."""
        row = (found.content.to_bytes(), cbor.encode(list(found.providers)), found.fetched_at_ms)
        with self._database.transaction():
            self._database.execute("INSERT OR REPLACE INTO dht_providers VALUES (?, ?, ?)", row)
            self._make_room("dht_providers", "cid")

    def get_providers(self, content: Cid) -> ProviderSet | None:
        """The set remembered; None if there is none, or if its row is damaged: then it is looked up again."""
        rows = self._database.query(
            "SELECT providers, fetched_at_ms FROM dht_providers WHERE cid = ?", (content.to_bytes(),)
        )
        if not rows:
            return None
        try:
            names = cbor.decode(rows[0][0], size_max=_PROVIDERS_BYTES_MAX)
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise DecodeError("D8", "providers are not a list of text")
            return ProviderSet(content, tuple(PeerId(check_peer_id(str(name))) for name in names), rows[0][1])
        except DecodeError:
            self._counters["damaged"] += 1
            return None

    def put_record(self, found: IndexedRecord) -> None:
        """Remember, instead of an earlier record of this key."""
        with self._database.transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO dht_records VALUES (?, ?, ?)", (found.key, found.value, found.fetched_at_ms)
            )
            self._make_room("dht_records", "key")

    def get_record(self, key: str) -> IndexedRecord | None:
        """The record remembered; None if there is none."""
        rows = self._database.query("SELECT value, fetched_at_ms FROM dht_records WHERE key = ?", (key,))
        return IndexedRecord(key, rows[0][0], rows[0][1]) if rows else None

    def counters(self) -> Mapping[str, int]:
        """Since start: evicted, damaged."""
        return dict(self._counters)

    def _make_room(self, table: str, name: str) -> None:
        excess = self._database.query(f"SELECT count(*) FROM {table}")[0][0] - self._entries_max
        if excess > 0:
            self._counters["evicted"] += self._database.execute(
                f"DELETE FROM {table} WHERE {name} IN"
                f" (SELECT {name} FROM {table} ORDER BY fetched_at_ms, {name} LIMIT ?)",
                (excess,),
            )

"""Evidence of equivocation that this node has seen: appended, never changed, bounded."""

from __future__ import annotations

from typing import Final

from agent_world.errors import DecodeError
from agent_world.store.home import Home
from agent_world.wire import record
from agent_world.wire.evidence import EquivocationEvidence
from agent_world.wire.ids import PublicKey
from agent_world.wire.limits import EVIDENCE_BYTES_MAX

EVIDENCE_MAX: Final = 1_024
"""Pieces kept, at most 47 MiB; what comes above it is not taken, as the first ones cost the seats already."""


class EvidenceBook:
    """The evidence of one home, one piece for each key, height and round."""

    def __init__(self, home: Home) -> None:
        self._database = home.database

    def add(self, key: PublicKey, height: int, round: int, evidence: EquivocationEvidence) -> bool:
        """Keep it durably; False if there is one for that place, or no room."""
        rows = self._database.query("SELECT count(*) FROM evidence")
        if rows[0][0] >= EVIDENCE_MAX:
            return False
        return bool(
            self._database.execute(
                "INSERT INTO evidence VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (key, height, round, record.to_bytes(evidence)),
            )
        )

    def has(self, key: PublicKey, height: int, round: int) -> bool:
        """Whether there is a piece for that place."""
        sql = "SELECT 1 FROM evidence WHERE public_key = ? AND height = ? AND round = ?"
        return bool(self._database.query(sql, (key, height, round)))

    def all(self) -> list[tuple[PublicKey, int, int, EquivocationEvidence]]:
        """Every piece with its place, lowest height first; a damaged row is passed over (``damaged`` counts them)."""
        found = []
        for key, height, round_, data in self._rows():
            try:
                evidence = record.from_bytes(EquivocationEvidence, data, size_max=EVIDENCE_BYTES_MAX)
            except DecodeError:
                continue  # counted by ``damaged``; what it proved can be seen again by whoever was lied to
            found.append((PublicKey(key), int(height), int(round_), evidence))
        return found

    def damaged(self) -> int:
        """Rows that do not decode any more."""
        return len(self._rows()) - len(self.all())

    def _rows(self) -> list[tuple[bytes, int, int, bytes]]:
        sql = "SELECT public_key, height, round, evidence FROM evidence ORDER BY height, round, public_key"
        return [(key, height, round_, data) for key, height, round_, data in self._database.query(sql)]

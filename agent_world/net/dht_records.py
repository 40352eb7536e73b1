"""Which DHT records are valid and which of two is better; the same for both DHTs (K-1.7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs

from agent_world.errors import DecodeError
from agent_world.wire.limits import KIB

RECORD_BYTES_MAX: Final = 128 * KIB
"""One DHT record; the largest is a head with its certificate of at most 64 KiB."""
DHT_NAMESPACE: Final = "aw"
"""First part of every key, ``/aw/...``; keys of other namespaces are refused."""

RecordValidator = Callable[[str, bytes], None]
"""Raises RemoteError for a record that breaks a rule; anything it accepts may be stored and handed on."""
RecordSelector = Callable[[str, Sequence[bytes]], int]
"""Index of the best of several valid records of one key; at equal worth any of the best."""


@attrs.frozen(slots=True)
class RecordRules:
    """The hooks of whoever knows the records: ``validate`` and ``select``."""

    validate: RecordValidator
    select: RecordSelector

    def check(self, key: str, value: bytes) -> None:
        """Raise RemoteError unless key and value are valid."""
        if not key.startswith(f"/{DHT_NAMESPACE}/"):
            raise DecodeError("D7", f"{key[:80]!r} is not a key of the namespace {DHT_NAMESPACE}")
        if len(value) > RECORD_BYTES_MAX:
            raise DecodeError("D1", f"a record of {len(value)} bytes is over the limit of {RECORD_BYTES_MAX}")
        self.validate(key, value)

    def best(self, key: str, values: Sequence[bytes]) -> bytes:
        """The best of valid records; never empty."""
        return values[self.select(key, values)]

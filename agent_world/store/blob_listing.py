"""Which blobs are stored, in pages, without reading them."""

from __future__ import annotations

import re
from typing import Final

from agent_world.errors import UsageError
from agent_world.store.blob_store import BlobStat
from agent_world.store.home import Home
from agent_world.wire.cid import ContentHash

_PREFIX: Final = re.compile("[0-9a-f]{0,64}")
_HEX_DIGITS: Final = 64


class BlobListing:
    """The blobs of one home by their hashes, ascending."""

    def __init__(self, home: Home) -> None:
        self._database = home.database

    def page(self, after: ContentHash | None, limit: int, *, prefix: str = "") -> tuple[BlobStat, ...]:
        """At most ``limit`` blobs above ``after`` whose hash, as hex, begins with ``prefix``.

        Raises UsageError if the prefix is not 0 to 64 lower-case hex digits.
        """
        if not _PREFIX.fullmatch(prefix):
            raise UsageError(f"a prefix of a content hash is up to {_HEX_DIGITS} hex digits 0-9 a-f, not {prefix!r}")
        rows = self._database.query(
            "SELECT content_hash, size_bytes, data IS NULL FROM blobs"
            " WHERE content_hash > ? AND content_hash BETWEEN ? AND ? ORDER BY content_hash LIMIT ?",
            (b"" if after is None else bytes(after), _padded(prefix, "0"), _padded(prefix, "f"), limit),
        )
        return tuple(BlobStat(ContentHash(key), size, bool(is_file)) for key, size, is_file in rows)


def _padded(prefix: str, digit: str) -> bytes:
    return bytes.fromhex(prefix.ljust(_HEX_DIGITS, digit))

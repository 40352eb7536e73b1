"""Records of protocols/files: a file index as content (D2)."""

from __future__ import annotations

from typing import Final

import attrs

from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import U16, U64, TimeMs
from agent_world.wire.record import V1

PAGE_FILES_MAX: Final = 512
"""Files of one page: with the longest paths half a blob."""


@attrs.frozen(slots=True, kw_only=True)
class FileMetadata:
    """One file of the index."""

    path: str
    """In its normal form."""
    content: Cid
    """Raw for a file of one blob, else of its file manifest."""
    size_bytes: U64
    updated_at_ms: TimeMs
    """By the clock of whoever wrote it; it never falls for a path."""

    @property
    def content_hash(self) -> ContentHash:
        """What a write on a condition is given."""
        return self.content.digest


@attrs.frozen(slots=True, kw_only=True)
class FileIndexPage:
    """Up to PAGE_FILES_MAX consecutive files."""

    v: U16 = U16(V1)
    files: tuple[FileMetadata, ...]
    """Ascending by the bytes of their paths."""


@attrs.frozen(slots=True, kw_only=True)
class FileIndexManifest:
    """A whole index: pages, and by them files, are reached by its links. Equal indexes give equal bytes."""

    v: U16 = U16(V1)
    files: U64
    """Of all pages."""
    pages: tuple[Cid, ...]
    """All full but the last."""


@attrs.frozen(slots=True, kw_only=True)
class FileIndexManifestRef:
    """Which blob the FileIndexManifest is."""

    content_hash: ContentHash
    size_bytes: U64

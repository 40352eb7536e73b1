"""Blobs between the steps of a put: looked up, written to files, made to exist."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping

import attrs

from agent_world.store.blob_files import BlobFiles, Wait
from agent_world.wire.cid import ContentHash


@attrs.frozen(slots=True)
class PreparedBlobs:
    """Checked blobs whose files are already durable; ``LocalCasStore.insert`` makes them exist."""

    rows: tuple[tuple[ContentHash, int, bytes | None], ...]
    """(hash, size in bytes, data or None for a file) of what is new or healed."""
    present: tuple[ContentHash, ...] = ()
    """What was here already, unharmed."""


class StagedBlobs:
    """Blobs that are not here yet, with sizes checked."""

    def __init__(
        self,
        missing: Mapping[ContentHash, bytes],
        present: Iterable[ContentHash],
        files: BlobFiles,
        inline_bytes_max: int,
    ) -> None:
        """``missing`` is verified."""
        self._missing = missing
        self._present = tuple(present)
        self._files = files
        self._inline_bytes_max = inline_bytes_max
        self.prepared = PreparedBlobs((), self._present)

    def write(self) -> Generator[Wait, None, None]:
        """Make the files durable, as ``BlobFiles.write``; then they are ``prepared``. Raises HomeError."""
        inline_max = self._inline_bytes_max
        yield from self._files.write({key: data for key, data in self._missing.items() if len(data) > inline_max})
        self.prepared = PreparedBlobs(
            tuple((key, len(data), data if len(data) <= inline_max else None) for key, data in self._missing.items()),
            self._present,
        )

"""Bytes that have arrived and wait to be read, kept in the pieces in which they came.

A bytearray copies every piece in, moves what is left at every read, and copies a piece out again.
"""

from __future__ import annotations

from collections import deque


class Pieces:
    """As much of a bytearray as the library's streams use for what they have received; ``take`` is what is fast."""

    def __init__(self, data: bytes | bytearray = b"") -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self.extend(data)

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(self._pieces)

    def extend(self, data: bytes | bytearray) -> None:
        """Add at the end; bytes are kept as they are."""
        if data:
            self._pieces.append(bytes(data))
            self._size += len(data)

    def clear(self) -> None:
        """Forget all."""
        self._pieces.clear()
        self._size = 0

    def take(self, size: int) -> bytes:
        """The first piece, at most ``size`` bytes of it; b"" if nothing is here."""
        if not self._pieces or size <= 0:
            return b""
        piece = self._pieces.popleft()
        if len(piece) > size:
            self._pieces.appendleft(piece[size:])
            piece = piece[:size]
        self._size -= len(piece)
        return piece

    def __getitem__(self, part: slice) -> bytes:
        """The first bytes, ``[:n]``; the library asks for no others."""
        left, found = _count(part, self._size), []
        for piece in self._pieces:
            found.append(piece[:left])
            left -= len(found[-1])
            if not left:
                break
        return b"".join(found)

    def __delitem__(self, part: slice) -> None:
        """Forget the first bytes, ``[:n]``."""
        left = _count(part, self._size)
        while left:
            left -= len(self.take(left))


def _count(part: slice, size: int) -> int:
    if part.start or part.step:
        raise IndexError("only the first bytes can be asked for")
    return part.indices(size)[1]

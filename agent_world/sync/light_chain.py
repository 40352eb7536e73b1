"""What is proved of the network's chain above the own height, without executing it (D4, D5).

A node that is behind by epochs does not know the set that decided a head which it is told. It asks for the boundaries
in between; each proves the next set, and then the head proves itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from agent_world.consensus.light import TrustedHead, check_head, cross, height_of
from agent_world.crypto.hashing import hash32
from agent_world.errors import RemoteError
from agent_world.wire.block import WorldBlock
from agent_world.wire.membership import EpochBoundary

CROSSED_MAX: Final = 1_024
"""Boundaries kept above the own height, a few KiB each; the ones further up are asked for again later."""


class LightChain:
    """Boundaries crossed above the own head; ``own`` is that head wherever it is an argument."""

    def __init__(self) -> None:
        self._crossed: list[TrustedHead] = []

    def tip(self, own: TrustedHead) -> TrustedHead:
        """The highest head whose successor set is proved."""
        self._forget_below(own)
        return self._crossed[-1] if self._crossed else own

    def check_head(self, own: TrustedHead, block: bytes, certificate: bytes, height: int) -> WorldBlock:
        """The block of ``height`` if it is certified by the set that decides there.

        Raises OtherSet while that set is not proved, RemoteError for what is wrong.
        """
        self._forget_below(own)
        below = next((head for head in reversed(self._crossed) if head.height < height), own)
        found = check_head(below, block, certificate)
        # [REJECT] G8: at the height of a boundary that is proved it is that block.
        if any(head.height == height and head.block_hash != hash32(block) for head in self._crossed):
            raise RemoteError("G8", f"another block of height {height} than the boundary that is proved")
        return found

    def cross(self, own: TrustedHead, boundaries: Iterable[EpochBoundary]) -> int:
        """Go over boundaries in order; how many were new. Raises RemoteError or OtherSet at the first that is wrong."""
        new = 0
        for boundary in boundaries:
            tip = self.tip(own)
            if len(self._crossed) >= CROSSED_MAX:
                break
            if height_of(boundary) <= tip.height:
                continue  # the own chain came there while they were on their way
            self._crossed.append(cross(tip, boundary))
            new += 1
        return new

    def _forget_below(self, own: TrustedHead) -> None:
        passed = [head for head in self._crossed if head.height <= own.height]
        if not passed:
            return
        # Where the own chain has gone another way, nothing above follows from it: it is asked for again.
        is_on_the_way = passed[-1].validators == own.validators and all(
            head.block_hash == own.block_hash for head in passed if head.height == own.height
        )
        self._crossed = self._crossed[len(passed) :] if is_on_the_way else []

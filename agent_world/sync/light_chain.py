"""What is proved of the network's chain above the own height, without executing it (D4, D5).

A node that is behind by epochs does not know the set that decided a head which it is told. It asks for the boundaries
in between; each proves the next set, and then the head proves itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from agent_world.consensus.light import TrustedHead, check_head, cross, height_of
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
        return check_head(below, block, certificate)

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
        if self._crossed and self._crossed[0].height <= own.height:
            self._crossed = [head for head in self._crossed if head.height > own.height]

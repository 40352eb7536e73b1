"""What simulated nodes say to each other."""

from __future__ import annotations

import attrs

from agent_world.wire.cid import ContentHash


@attrs.frozen(slots=True)
class Consensus:
    """A signed proposal or vote."""

    data: bytes


@attrs.frozen(slots=True)
class Head:
    """The sender's committed height: a hint."""

    height: int


@attrs.frozen(slots=True)
class Want:
    """Ask for blocks from this height on."""

    from_height: int


@attrs.frozen(slots=True)
class Blocks:
    """Answer to Want: consecutive (block, certificate)."""

    items: tuple[tuple[bytes, bytes], ...]


@attrs.frozen(slots=True)
class Submitted:
    """Actions that somebody wants ordered."""

    actions: tuple[ContentHash, ...]

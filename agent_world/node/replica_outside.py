"""What a planner of copies asks of the rest of its node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Any

import attrs

from agent_world.distfs.providers import ProviderRecord
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import PeerId

Challenge = Callable[[PeerId, Cid], Awaitable[dict[str, Any]]]
"""One storage challenge; its "outcome" is "passed" if the peer has shown that it holds the content."""


@attrs.frozen(slots=True)
class Outside:
    """Of one node."""

    describe: Callable[[PeerId], ProviderRecord]
    suspects: Callable[[PeerId], Iterable[str]]
    """Contents (CIDs as text) that a peer has last failed to show."""
    challenge: Challenge
    providers: Callable[[Sequence[ContentHash]], AbstractAsyncContextManager[list[PeerId]]]
    """Connected peers that the DHT names, as long as the block lasts."""
    random: Random

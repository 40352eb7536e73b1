"""Messages of protocols/replica: who keeps which content, and asking a storage node to keep it or to give it up."""

from __future__ import annotations

from enum import StrEnum

import attrs

from agent_world.wire.cid import Cid
from agent_world.wire.ids import U16, U64, PeerId, WorldId
from agent_world.wire.record import V1


class ReplicaAsk(StrEnum):
    """What is asked of a storage node."""

    STATUS = "status"
    """Which of these contents it keeps."""
    HOLD = "hold"
    """Fetch this content and keep it: too few do."""
    RELIEVE = "relieve"
    """The same, since one that keeps it is loaded."""
    RELEASE = "release"
    """Give this content up, once enough others have shown that they hold it."""
    KEEP = "keep"
    """Promise not to give this content up for REPLICA_PLEDGE_MS: the asker is about to."""


class Holding(StrEnum):
    """What a node says of one content."""

    UNKNOWN = "unknown"
    """It is not named by the world, as far as this node knows."""
    NAMED = "named"
    """It is left to others."""
    COMING = "coming"
    """It is being fetched, or this node has not decided yet whether to take it."""
    HELD = "held"
    """It is kept, and this node is ready to show it."""
    BOUND = "bound"
    """As held, and it is not given up on request now: a pin or a file of this node wants it, or it was promised."""


@attrs.frozen(slots=True, kw_only=True)
class ReplicaRequest:
    """replica. Any number of contents up to REPLICA_CONTENTS_MAX for a status, else exactly one."""

    v: U16 = U16(V1)
    world_id: WorldId
    ask: ReplicaAsk
    contents: tuple[Cid, ...]
    source: PeerId | None
    """Of hold and relieve: who has it, as a hint."""


@attrs.frozen(slots=True, kw_only=True)
class ReplicaResponse:
    """Answer to replica; the node's own word, so it is checked before much depends on it."""

    holdings: tuple[Holding, ...]
    """In the order asked, after what was asked has been done or begun."""
    quota_bytes: U64
    """For content that is not the chain's."""
    free_bytes: U64
    """What of it is not used, without what is on its way and with what was given up."""
    target: U16
    """Copies that this node wants of each content; 0: it keeps all of them."""

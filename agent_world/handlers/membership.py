"""protocols/membership: where other validators took over, by request."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent_world.errors import ErrorCode, Refused
from agent_world.wire import record
from agent_world.wire.ids import PeerId, WorldId
from agent_world.wire.limits import BOUNDARIES_MAX, HEADER_BYTES_MAX, MIB, RPC_BODY_BYTES_MAX
from agent_world.wire.membership import EpochBoundary, GetBoundariesRequest, GetBoundariesResponse

_ANSWER_BYTES_MAX = MIB
"""An answer stops adding boundaries here; the first is given always."""


class MembershipHandler:
    """Serves get_boundaries; ``boundaries`` reads those at a height and above, ascending, as many as asked for."""

    def __init__(self, world_id: WorldId, boundaries: Callable[[int, int], Sequence[EpochBoundary]]) -> None:
        self._world_id = world_id
        self._boundaries = boundaries

    async def serve_boundaries(self, _peer: PeerId, data: bytes) -> bytes:
        """get_boundaries."""
        request = record.from_bytes(GetBoundariesRequest, data, size_max=HEADER_BYTES_MAX)
        # [REJECT] G1: the request is for this world.
        if request.world_id != self._world_id:
            raise Refused(ErrorCode.BAD_REQUEST, f"no world {request.world_id!r} here", rule="G1")
        given: list[EpochBoundary] = []
        size = 0
        for boundary in self._boundaries(request.from_height, BOUNDARIES_MAX):
            size += len(boundary.block) + len(boundary.certificate) + len(boundary.validators)
            if given and size > _ANSWER_BYTES_MAX:
                break
            given.append(boundary)
        return record.to_bytes(GetBoundariesResponse(boundaries=tuple(given)))


def open_boundaries(answer: bytes) -> tuple[EpochBoundary, ...]:
    """The boundaries in an answer, none of them checked yet; raises DecodeError."""
    return record.from_bytes(GetBoundariesResponse, answer, size_max=RPC_BODY_BYTES_MAX).boundaries

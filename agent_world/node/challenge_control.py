"""Routes of the control API for storage challenges."""

from __future__ import annotations

from typing import Any, Final, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent_world.errors import ErrorCode, Refused
from agent_world.node.request_body import read_object
from agent_world.wire.cid import Cid, parse_content_hash
from agent_world.wire.ids import Hash32, PeerId, check_peer_id
from agent_world.wire.jsonable import jsonable

BODY_BYTES_MAX: Final = 4_096
RECENT: Final = 20
"""Challenges listed by ``challenge status``."""


class ChallengeControlView(Protocol):
    """What the routes need of a node; satisfied by ``challenges.Challenges``."""

    async def challenge(self, target: PeerId | None, content: Cid | None) -> dict[str, Any]:
        """Make one challenge."""
        ...

    def shown(self, limit: int) -> dict[str, Any]:
        """Reports and the last challenges."""
        ...

    def explain(self, challenge_id: Hash32) -> dict[str, Any]:
        """One challenge."""
        ...


class ChallengeRoutes:
    """Requests -> view."""

    def __init__(self, view: ChallengeControlView) -> None:
        self._view = view

    def routes(self) -> list[Route]:
        """For the application of the control API."""
        return [
            Route("/challenges", self._status, methods=["GET"]),
            Route("/challenges", self._run, methods=["POST"]),
            Route("/challenges/{challenge_id}", self._explain, methods=["GET"]),
        ]

    async def _status(self, _request: Request) -> Response:
        return JSONResponse(jsonable(self._view.shown(RECENT)))

    async def _run(self, request: Request) -> Response:
        asked = await read_object(request, BODY_BYTES_MAX)
        if not {"target", "content"} <= asked.keys():
            raise Refused(ErrorCode.BAD_REQUEST, "a challenge needs target and content, each of which may be null")
        target, content = asked["target"], asked["content"]
        peer = None if target is None else PeerId(check_peer_id(str(target)))
        cid = None if content is None else Cid.parse(str(content))
        return JSONResponse(jsonable(await self._view.challenge(peer, cid)))

    async def _explain(self, request: Request) -> Response:
        found = self._view.explain(Hash32(parse_content_hash(request.path_params["challenge_id"])))
        return JSONResponse(jsonable(found))

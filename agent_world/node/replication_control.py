"""Routes of the control API that show the record log."""

from __future__ import annotations

from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent_world.errors import ErrorCode, Refused
from agent_world.wire.jsonable import jsonable


class ReplicationControlView(Protocol):
    """What the routes need of a node; satisfied by ``replication.Replication``."""

    def status(self) -> dict[str, Any]:
        """Where the log is."""
        ...

    async def commit(self, height: int) -> dict[str, Any]:
        """The record of a committed height."""
        ...


class ReplicationRoutes:
    """Requests -> view."""

    def __init__(self, view: ReplicationControlView) -> None:
        self._view = view

    def routes(self) -> list[Route]:
        """For the application of the control API."""
        return [
            Route("/replication", self._status, methods=["GET"]),
            Route("/replication/commits/{height}", self._commit, methods=["GET"]),
        ]

    async def _status(self, _request: Request) -> Response:
        return JSONResponse(jsonable(self._view.status()))

    async def _commit(self, request: Request) -> Response:
        text = request.path_params["height"]
        if not text.isascii() or not text.isdigit() or not 1 <= int(text[:20]) < 2**63 or len(text) > 19:
            raise Refused(ErrorCode.BAD_REQUEST, "height must be an integer from 1")
        return JSONResponse(jsonable(await self._view.commit(int(text))))

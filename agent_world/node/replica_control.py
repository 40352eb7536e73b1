"""Routes of the control API for replica maintenance."""

from __future__ import annotations

from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent_world.wire.jsonable import jsonable


class ReplicaControlView(Protocol):
    """What the routes need of a node; satisfied by ``replicas.Replicas``."""

    def status(self) -> dict[str, Any]:
        """What is kept here, and the last round."""
        ...

    async def plan(self) -> dict[str, Any]:
        """What a round would do now; raises Refused."""
        ...

    async def round(self) -> dict[str, Any]:
        """A round now, and then the status; raises Refused."""
        ...


class ReplicaRoutes:
    """Requests -> view."""

    def __init__(self, view: ReplicaControlView) -> None:
        self._view = view

    def routes(self) -> list[Route]:
        """For the application of the control API."""
        return [
            Route("/replicas", self._status, methods=["GET"]),
            Route("/replicas/plan", self._plan, methods=["GET"]),
            Route("/replicas/rounds", self._round, methods=["POST"]),
        ]

    async def _status(self, _request: Request) -> Response:
        return JSONResponse(jsonable(self._view.status()))

    async def _plan(self, _request: Request) -> Response:
        return JSONResponse(jsonable(await self._view.plan()))

    async def _round(self, _request: Request) -> Response:
        return JSONResponse(jsonable(await self._view.round()))

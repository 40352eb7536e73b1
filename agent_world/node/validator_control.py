"""Routes of the control API by which an operator uses the node's validator key; all wait for the block."""

from __future__ import annotations

from typing import Any, Final, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent_world.errors import DecodeError, ErrorCode, Refused
from agent_world.node.request_body import read_object
from agent_world.wire import record
from agent_world.wire.cid import parse_content_hash
from agent_world.wire.ids import Hash32
from agent_world.wire.jsonable import jsonable
from agent_world.wire.limits import PAYLOAD_BYTES_MAX
from agent_world.wire.membership import MembershipApproval, MembershipChange

BODY_BYTES_MAX: Final = 2 * PAYLOAD_BYTES_MAX
"""A change as JSON: keys are hex digits."""


class ValidatorControlView(Protocol):
    """What the routes need of a node; satisfied by ``validator_views.ValidatorControl``."""

    def changes(self) -> list[dict[str, Any]]:
        """Open changes of the set."""
        ...

    async def epoch(self, epoch: int | None) -> dict[str, Any]:
        """What happened in an epoch."""
        ...

    async def file(self, payload: object) -> dict[str, Any]:
        """Sign an action with the validator key."""
        ...

    def lease(self) -> dict[str, Any]:
        """Who holds the lease."""
        ...

    async def acquire_lease(self, ttl_ms: int | None, *, keep: bool) -> dict[str, Any]:
        """Ask for the lease."""
        ...

    async def release_lease(self) -> dict[str, Any]:
        """Give it up."""
        ...


class ValidatorRoutes:
    """Requests -> view."""

    def __init__(self, view: ValidatorControlView) -> None:
        self._view = view

    def routes(self) -> list[Route]:
        """For the application of the control API."""
        return [
            Route("/lease", self._lease, methods=["GET"]),
            Route("/lease/acquire", self._acquire, methods=["POST"]),
            Route("/lease/release", self._release, methods=["POST"]),
            Route("/epochs", self._epoch, methods=["GET"]),
            Route("/epochs/{epoch}", self._epoch, methods=["GET"]),
            Route("/validators/changes", self._changes, methods=["GET"]),
            Route("/validators/changes", self._file, methods=["POST"]),
            Route("/validators/changes/{change_id}", self._approve, methods=["POST"]),
        ]

    async def _lease(self, _request: Request) -> Response:
        return JSONResponse(jsonable(self._view.lease()))

    async def _acquire(self, request: Request) -> Response:
        asked = await read_object(request, BODY_BYTES_MAX)
        ttl_ms, keep = asked.get("ttl_ms"), asked.get("keep", False)
        if not (ttl_ms is None or type(ttl_ms) is int) or type(keep) is not bool:
            raise Refused(ErrorCode.BAD_REQUEST, "ttl_ms must be an integer or null, keep true or false")
        return JSONResponse(jsonable(await self._view.acquire_lease(ttl_ms, keep=keep)))

    async def _release(self, _request: Request) -> Response:
        return JSONResponse(jsonable(await self._view.release_lease()))

    async def _epoch(self, request: Request) -> Response:
        text = request.path_params.get("epoch")
        if text is not None and not (text.isascii() and text.isdigit() and len(text) < 20):
            raise Refused(ErrorCode.BAD_REQUEST, "the epoch must be an integer that is not negative")
        return JSONResponse(jsonable(await self._view.epoch(None if text is None else int(text))))

    async def _changes(self, _request: Request) -> Response:
        return JSONResponse({"changes": jsonable(self._view.changes())})

    async def _file(self, request: Request) -> Response:
        asked = await read_object(request, BODY_BYTES_MAX)
        try:
            for entry in asked.get("validators", ()):
                entry["public_key"] = bytes.fromhex(entry["public_key"])
            change = record.structure(asked, MembershipChange)
        except (DecodeError, ValueError, KeyError, TypeError) as error:
            raise Refused(ErrorCode.BAD_REQUEST, f"not a change of the validator set: {error}") from None
        return JSONResponse(jsonable(await self._view.file(change)))

    async def _approve(self, request: Request) -> Response:
        change_id = Hash32(parse_content_hash(request.path_params["change_id"]))
        approve = (await read_object(request, BODY_BYTES_MAX)).get("approve")
        if type(approve) is not bool:
            raise Refused(ErrorCode.BAD_REQUEST, "approve must be true or false")
        return JSONResponse(jsonable(await self._view.file(MembershipApproval(change_id=change_id, approve=approve))))

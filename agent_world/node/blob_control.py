"""Routes of the control API by which an operator looks at the stored blobs and has them checked."""

from __future__ import annotations

from typing import Any, Final, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent_world.errors import ErrorCode, Refused
from agent_world.node.request_body import read_object
from agent_world.wire.cid import Cid, ContentHash, parse_content_hash
from agent_world.wire.jsonable import jsonable

LISTED_MAX: Final = 1_000
"""Blobs in one answer of the list."""
CHECKED_MAX: Final = 256
"""Blobs named in one request to check them."""
BODY_BYTES_MAX: Final = 64 * 1024
"""Body of that request: so many CIDs as text."""


class BlobControlView(Protocol):
    """What the routes need of a node; satisfied by ``blob_views.BlobControl``."""

    def listed(self, prefix: str, after: ContentHash | None, limit: int) -> list[dict[str, Any]]:
        """Stored blobs."""
        ...

    async def stat(self, cid: Cid) -> dict[str, Any]:
        """One stored blob."""
        ...

    async def verify(self, contents: list[Cid], *, heal: bool) -> dict[str, Any]:
        """Read these."""
        ...

    async def verify_stored(self, prefix: str, after: ContentHash | None, *, heal: bool) -> dict[str, Any]:
        """Read what is stored."""
        ...


class BlobRoutes:
    """Requests -> view."""

    def __init__(self, view: BlobControlView) -> None:
        self._view = view

    def routes(self) -> list[Route]:
        """For the application of the control API."""
        return [
            Route("/blobs", self._listed, methods=["GET"]),
            Route("/blobs/{cid}/stat", self._stat, methods=["GET"]),
            Route("/blobs/verify", self._verify, methods=["POST"]),
        ]

    async def _listed(self, request: Request) -> Response:
        query = request.query_params
        limit = query.get("limit", str(LISTED_MAX))
        if not limit.isascii() or not limit.isdigit() or len(limit) > 4 or not 0 < int(limit) <= LISTED_MAX:
            raise Refused(ErrorCode.BAD_REQUEST, f"limit must be an integer in 1..{LISTED_MAX}")
        rows = self._view.listed(query.get("prefix", ""), _after(query.get("after")), int(limit))
        return JSONResponse({"blobs": jsonable(rows)})

    async def _stat(self, request: Request) -> Response:
        return JSONResponse(jsonable(await self._view.stat(Cid.parse(request.path_params["cid"]))))

    async def _verify(self, request: Request) -> Response:
        """With ``contents`` those, else what is stored above ``after`` and begins with ``prefix``; a part at a time."""
        asked = await read_object(request, BODY_BYTES_MAX)
        if type(asked.get("heal", False)) is not bool:
            raise Refused(ErrorCode.BAD_REQUEST, "heal must be true or false")
        heal, contents, prefix = asked.get("heal", False), asked.get("contents"), asked.get("prefix", "")
        if contents is None:
            if type(prefix) is not str:
                raise Refused(ErrorCode.BAD_REQUEST, "prefix must be a text")
            return JSONResponse(jsonable(await self._view.verify_stored(prefix, _after(asked.get("after")), heal=heal)))
        if type(contents) is not list or not all(type(item) is str for item in contents):
            raise Refused(ErrorCode.BAD_REQUEST, "contents must be a list of CIDs")
        if len(contents) > CHECKED_MAX:
            raise Refused(ErrorCode.BAD_REQUEST, f"at most {CHECKED_MAX} contents at a time")
        return JSONResponse(jsonable(await self._view.verify([Cid.parse(item) for item in contents], heal=heal)))


def _after(text: object) -> ContentHash | None:
    if text is None:
        return None
    if type(text) is not str:
        raise Refused(ErrorCode.BAD_REQUEST, "after must be a content hash")
    return parse_content_hash(text)

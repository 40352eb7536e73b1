"""Routes of the control API for archives (CAR)."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from agent_world.errors import ErrorCode, Refused
from agent_world.node.archives import Archives
from agent_world.wire.cid import Cid

TIMEOUT_MS_MAX: Final = 50_000
"""Longest wait for what is not here; below the CLI's own time-out."""


class ArchiveRoutes:
    """Requests -> archives."""

    def __init__(self, archives: Archives) -> None:
        self._archives = archives

    def routes(self) -> list[Route]:
        """For the application of the control API."""
        return [
            Route("/car/{cid}", self._export, methods=["GET"]),
            Route("/car", self._import, methods=["POST"]),
        ]

    async def _export(self, request: Request) -> Response:
        cid = Cid.parse(request.path_params["cid"])
        text = request.query_params.get("timeout_ms", "0")
        if not text.isascii() or not text.isdigit() or int(text) > TIMEOUT_MS_MAX:
            raise Refused(ErrorCode.BAD_REQUEST, f"timeout_ms must be an integer in 0..{TIMEOUT_MS_MAX}")
        local_only = request.query_params.get("local_only") == "1"
        missing = await self._archives.prepare(cid, int(text) / 1000, local_only=local_only)
        if request.query_params.get("unixfs") == "1":
            root = await self._archives.unixfs_root(cid)
            parts = self._archives.export_unixfs(root, local_only=local_only)
        else:
            parts = self._archives.export(cid, local_only=local_only)
        return StreamingResponse(parts, media_type="application/vnd.ipld.car", headers={"x-missing": str(missing)})

    async def _import(self, request: Request) -> Response:
        return JSONResponse(await self._archives.take_in(request.stream(), request.query_params.get("pin")))

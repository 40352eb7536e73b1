"""Routes of the control API for who provides content: announcing, finding, and asking providers alone."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent_world.distfs.providers import provider_json, score
from agent_world.errors import ErrorCode, Refused
from agent_world.node.clock import Clock
from agent_world.node.discovery import Discovery
from agent_world.node.distributed_client import DistributedClient
from agent_world.node.request_body import read_object
from agent_world.node.sources import Sources
from agent_world.wire.cid import Cid
from agent_world.wire.jsonable import jsonable
from agent_world.wire.limits import MIB


class ProvideRoutes:
    """Requests -> discovery."""

    def __init__(self, discovery: Discovery, client: DistributedClient, sources: Sources, clock: Clock) -> None:
        self._discovery = discovery
        self._client = client
        self._sources = sources
        self._clock = clock

    def routes(self) -> list[Route]:
        """For the application of the control API."""
        return [
            Route("/provide", self._stat, methods=["GET"]),
            Route("/provide", self._once, methods=["POST"]),
            Route("/provide/{cid}", self._find, methods=["GET"]),
        ]

    async def _stat(self, _request: Request) -> Response:
        return JSONResponse(jsonable(self._discovery.status()))

    async def _once(self, request: Request) -> Response:
        try:
            cids = [Cid.parse(text) for text in (await read_object(request, MIB))["cids"]]
        except (KeyError, TypeError, AttributeError):
            raise Refused(ErrorCode.BAD_REQUEST, "cids must be a list of CIDs") from None
        return JSONResponse(await self._discovery.provide_now(cids))

    async def _find(self, request: Request) -> Response:
        cid = Cid.parse(request.path_params["cid"])
        now_ms = self._clock.wall_ms()
        providers = await self._client.named(cid.digest, now_ms)
        rows = []
        for peer in providers:
            known = self._sources.describe(peer)
            rows.append({**provider_json(known), "score": round(score(known, now_ms), 3)})
        found: dict[str, Any] = {"cid": str(cid), "providers": rows}
        if request.query_params.get("check") == "1":
            found["checked_bytes"] = len(await self._client.fetch_blob_from_dht(cid.digest, now_ms))
        return JSONResponse(found)

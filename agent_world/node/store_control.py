"""Routes of the control API for what a node keeps: pins, garbage, single blobs."""

from __future__ import annotations

from typing import Any, Final, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent_world.errors import ErrorCode, Refused
from agent_world.node.answers import Tell, answer, untold
from agent_world.node.collecting import Collected, shown
from agent_world.node.request_body import read_object
from agent_world.store.pins import Pin
from agent_world.wire.cid import Cid, ContentHash, parse_content_hash
from agent_world.wire.limits import I64_MAX, MIB

PINS_BYTES_MAX: Final = 16 * MIB
"""Largest pins.json; about 80,000 pins."""
TIMEOUT_S_MAX: Final = 50.0
"""Longest wait for content; below the CLI's own time-out."""


class Pins(Protocol):
    """Satisfied by ``pinning.Pinning``."""

    def new(self, name: str, cid: Cid, *, recursive: bool = True, expires_in_ms: int | None = None) -> Pin:
        """A pin from now on."""
        ...

    async def pin(self, pin: Pin, timeout_s: float) -> int:
        """Fetch and pin."""
        ...

    def unpin(self, name: str) -> Pin:
        """Remove a pin."""
        ...

    def rows(self) -> list[dict[str, Any]]:
        """All pins."""
        ...

    def take_in(self, found: Any) -> int:
        """Set the pins of a file."""
        ...


class Garbage(Protocol):
    """Satisfied by ``collecting.Collecting``."""

    async def collect(
        self, *, dry_run: bool = False, grace_ms: int | None = None, evict: bool = False, tell: Tell = untold
    ) -> Collected:
        """Look for garbage and remove it."""
        ...

    async def remove(self, content: ContentHash) -> int:
        """Remove one blob."""
        ...


class StoreRoutes:
    """Requests -> pins and garbage."""

    def __init__(self, pins: Pins, garbage: Garbage) -> None:
        self._pins = pins
        self._garbage = garbage

    def routes(self) -> list[Route]:
        """For the application of the control API."""
        return [
            Route("/pins", self._list, methods=["GET"]),
            Route("/pins", self._pin, methods=["POST"]),
            Route("/pins/import", self._import, methods=["POST"]),
            Route("/pins/remove", self._unpin, methods=["POST"]),
            Route("/gc", self._collect, methods=["POST"]),
            Route("/blobs/{content_hash}/remove", self._remove, methods=["POST"]),
        ]

    async def _list(self, _request: Request) -> Response:
        return JSONResponse({"version": 1, "pins": self._pins.rows()})

    async def _pin(self, request: Request) -> Response:
        asked = await read_object(request, MIB)
        name, recursive = asked.get("name"), asked.get("recursive", True)
        if not isinstance(name, str) or not isinstance(asked.get("cid"), str) or type(recursive) is not bool:
            raise Refused(ErrorCode.BAD_REQUEST, "a pin needs a name, a cid, and recursive as true or false")
        expires = None if asked.get("expires_in_ms") is None else _number(asked["expires_in_ms"], "expires_in_ms")
        timeout_s = _number(asked.get("timeout_ms", 0), "timeout_ms") / 1000
        pin = self._pins.new(name, Cid.parse(asked["cid"]), recursive=recursive, expires_in_ms=expires)
        fetched = await self._pins.pin(pin, min(timeout_s, TIMEOUT_S_MAX))
        return JSONResponse({"name": name, "cid": str(pin.cid), "fetched": fetched, "expires_ms": pin.expires_ms})

    async def _import(self, request: Request) -> Response:
        return JSONResponse({"pins": self._pins.take_in(await read_object(request, PINS_BYTES_MAX))})

    async def _unpin(self, request: Request) -> Response:
        name = (await read_object(request, MIB)).get("name")
        if not isinstance(name, str):
            raise Refused(ErrorCode.BAD_REQUEST, "name must be a text")
        return JSONResponse({"name": name, "cid": str(self._pins.unpin(name).cid)})

    async def _collect(self, request: Request) -> Response:
        asked = await read_object(request, MIB)
        dry_run, grace = asked.get("dry_run", False), asked.get("grace_ms")
        if type(dry_run) is not bool:
            raise Refused(ErrorCode.BAD_REQUEST, "dry_run must be true or false")
        grace_ms = None if grace is None else _number(grace, "grace_ms")

        async def collect(tell: Tell) -> dict[str, Any]:
            return shown(await self._garbage.collect(dry_run=dry_run, grace_ms=grace_ms, tell=tell))

        return await answer(request, collect)

    async def _remove(self, request: Request) -> Response:
        content = parse_content_hash(request.path_params["content_hash"])
        return JSONResponse({"content_hash": content.hex(), "freed_bytes": await self._garbage.remove(content)})


def _number(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value <= I64_MAX // 2:
        raise Refused(ErrorCode.BAD_REQUEST, f"{name} must be an integer that is not negative")
    return value

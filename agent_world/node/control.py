"""The control API of a running node: HTTP with JSON on a Unix socket in its home, for the CLI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import ASGIFramework
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from agent_world.errors import AgentWorldError, BlobTooLarge, ErrorCode, Refused
from agent_world.node.answers import error_value, refusal
from agent_world.node.large import Stored
from agent_world.node.request_body import read_body, read_object
from agent_world.node.task_status import TaskStatus
from agent_world.node.validator_control import ValidatorControlView, ValidatorRoutes
from agent_world.store.socket_path import socket_address
from agent_world.wire import record
from agent_world.wire.action import ActionBundle
from agent_world.wire.cid import Cid, ContentHash, parse_content_hash
from agent_world.wire.ids import ActorId, Hash32, PeerId, check_actor_id, check_peer_id
from agent_world.wire.jsonable import jsonable
from agent_world.wire.limits import BLOB_BYTES_MAX, ENVELOPE_BYTES_MAX, GOSSIP_ACTIONS_MAX, MIB, U64_MAX

WAIT_MS_MAX: Final = 50_000
"""Longest wait for a receipt; below the CLI's own time-out."""
ROWS_MAX: Final = 10_000
"""Rows in one answer."""
BUNDLE_BYTES_MAX: Final = MIB
"""Body of a request that hands in several actions."""
ADMITTED_AT_ONCE: Final = 32
"""Actions of a bundle between two chances for other tasks: each costs about 0.1 ms."""
BAN_BYTES_MAX: Final = 4_096
"""Body of a request to ban a peer."""
KEPT_IDLE_S: Final = 75.0
"""An idle connection is closed after this.

Far above what a client keeps one for (the CLI's is 5 s): were both the same, a request sent at that moment would meet
a closed connection, and an action cannot be sent twice on a guess.
"""

_HTTP_STATUS: Final[Mapping[ErrorCode, int]] = {
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.BAD_REQUEST: 400,
    ErrorCode.INVALID_HASH: 422,
    ErrorCode.STATE_MISMATCH: 409,
    ErrorCode.UNSUPPORTED: 501,
    ErrorCode.UNAUTHORIZED: 403,
    ErrorCode.BUSY: 503,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.TIMEOUT: 504,
    ErrorCode.NOT_AVAILABLE: 503,
}


class ControlView(Protocol):
    """What the API shows of a node; satisfied by ``node.views.NodeViews``."""

    def status(self) -> dict[str, Any]:
        """How the node is."""
        ...

    def peers(self) -> list[dict[str, Any]]:
        """Connected, banned and refused peers."""
        ...

    def ban_peer(self, peer: PeerId, ban_ms: int, reason: str) -> dict[str, Any]:
        """Ban a peer."""
        ...

    def unban_peer(self, peer: PeerId) -> dict[str, Any]:
        """End a ban."""
        ...

    def head(self) -> dict[str, Any]:
        """The last committed block in short."""
        ...

    def block(self, height: int) -> dict[str, Any]:
        """One committed block."""
        ...

    def actor(self, actor_id: ActorId) -> dict[str, Any]:
        """One actor."""
        ...

    def state_entry(self, namespace: str, key: str, *, proof: bool) -> dict[str, Any]:
        """One key of the state."""
        ...

    def state_entries(self, namespace: str, limit: int) -> dict[str, Any]:
        """The first entries of a namespace."""
        ...

    def events(self, from_height: int | None, limit: int) -> dict[str, Any]:
        """Events from a height on."""
        ...

    def validators(self) -> dict[str, Any]:
        """Who decides now and next."""
        ...

    def submit(self, data: bytes) -> Hash32:
        """Admit an action."""
        ...

    async def receipt(self, action_id: Hash32, wait_ms: int) -> dict[str, Any]:
        """A receipt, waited for."""
        ...

    async def blob(self, content: ContentHash) -> bytes:
        """A blob from here or a peer."""
        ...

    def put_blob(self, data: bytes) -> Cid:
        """Store a raw blob."""
        ...

    async def put_content(self, parts: AsyncIterator[bytes]) -> Stored:
        """Store content of any size."""
        ...

    async def content_size(self, cid: Cid, providers: Sequence[PeerId]) -> int:
        """Bytes of a blob or file."""
        ...

    def read_content(self, cid: Cid, start: int, end: int, providers: Sequence[PeerId]) -> AsyncIterator[bytes]:
        """A range of a blob or file."""
        ...


class ControlApi:
    """Routes -> views; every failure is a JSON error with its code."""

    def __init__(self, view: ControlView, validator: ValidatorControlView, more: Sequence[Route] = ()) -> None:
        """``more`` are the routes of parts that only a running node has."""
        self._view = view
        self._more = more
        self._validator = ValidatorRoutes(validator)

    def app(self) -> Starlette:
        """The ASGI application."""
        get: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/status": self._status,
            "/peers": self._peers,
            "/head": self._head,
            "/blocks/{height}": self._block,
            "/actors/{actor_id}": self._actor,
            "/state/{namespace}": self._state,
            "/events": self._events,
            "/validators": self._validators,
            "/receipts/{action_id}": self._receipt,
            "/blobs/{content_hash}": self._blob,
            "/content/{cid}": self._content,
        }
        routes = [Route(path, handler, methods=["GET"]) for path, handler in get.items()]
        routes.append(Route("/actions", self._submit, methods=["POST"]))
        routes.append(Route("/actions/bundle", self._submit_bundle, methods=["POST"]))
        routes.append(Route("/blobs", self._put_blob, methods=["POST"]))
        routes.append(Route("/content", self._put_content, methods=["POST"]))
        routes.append(Route("/peers/{peer_id}/ban", self._ban_peer, methods=["POST"]))
        routes.append(Route("/peers/{peer_id}/unban", self._unban_peer, methods=["POST"]))
        routes += self._validator.routes()
        routes += self._more
        return Starlette(routes=routes, exception_handlers={AgentWorldError: _error, HTTPException: _http_error})

    async def _status(self, _request: Request) -> Response:
        return JSONResponse(jsonable(self._view.status()))

    async def _peers(self, _request: Request) -> Response:
        return JSONResponse({"peers": jsonable(self._view.peers())})

    async def _ban_peer(self, request: Request) -> Response:
        peer = PeerId(check_peer_id(request.path_params["peer_id"]))
        asked = await read_object(request, BAN_BYTES_MAX)
        ban_ms, reason = asked.get("ban_ms"), asked.get("reason")
        if type(ban_ms) is not int or not isinstance(reason, str) or not reason:
            raise Refused(ErrorCode.BAD_REQUEST, "ban_ms must be an integer and reason a text")
        return JSONResponse(jsonable(self._view.ban_peer(peer, ban_ms, reason)))

    async def _unban_peer(self, request: Request) -> Response:
        return JSONResponse(jsonable(self._view.unban_peer(PeerId(check_peer_id(request.path_params["peer_id"])))))

    async def _head(self, _request: Request) -> Response:
        return JSONResponse(jsonable(self._view.head()))

    async def _block(self, request: Request) -> Response:
        return JSONResponse(jsonable(self._view.block(_integer(request.path_params["height"], "height", 2**63))))

    async def _actor(self, request: Request) -> Response:
        actor_id = ActorId(check_actor_id(request.path_params["actor_id"]))
        return JSONResponse(jsonable(self._view.actor(actor_id)))

    async def _state(self, request: Request) -> Response:
        namespace = request.path_params["namespace"]
        key = request.query_params.get("key")
        if key is None:
            return JSONResponse(jsonable(self._view.state_entries(namespace, _number(request, "limit", 100))))
        proof = request.query_params.get("proof") == "1"
        return JSONResponse(jsonable(self._view.state_entry(namespace, key, proof=proof)))

    async def _events(self, request: Request) -> Response:
        start = _number(request, "from_height", 0, high=2**63)
        return JSONResponse(jsonable(self._view.events(start or None, _number(request, "limit", 100))))

    async def _validators(self, _request: Request) -> Response:
        return JSONResponse(jsonable(self._view.validators()))

    async def _receipt(self, request: Request) -> Response:
        action_id = Hash32(parse_content_hash(request.path_params["action_id"]))
        wait_ms = _number(request, "wait_ms", 0, high=WAIT_MS_MAX)
        return JSONResponse(jsonable(await self._view.receipt(action_id, wait_ms)))

    async def _blob(self, request: Request) -> Response:
        data = await self._view.blob(parse_content_hash(request.path_params["content_hash"]))
        return Response(data, media_type="application/octet-stream")

    async def _submit(self, request: Request) -> Response:
        # One byte more than an action may have is enough for the pool to refuse and count it (A1).
        data = await read_body(request, ENVELOPE_BYTES_MAX + 1)
        return JSONResponse({"action_id": self._view.submit(data).hex()})

    async def _submit_bundle(self, request: Request) -> Response:
        """Each action by itself, in order: one that is refused does not keep out the others."""
        data = await read_body(request, BUNDLE_BYTES_MAX + 1)
        bundle = record.from_bytes(ActionBundle, data, size_max=BUNDLE_BYTES_MAX)
        if len(bundle.actions) > GOSSIP_ACTIONS_MAX:
            raise Refused(ErrorCode.BAD_REQUEST, f"a bundle has at most {GOSSIP_ACTIONS_MAX} actions")
        results: list[dict[str, Any]] = []
        for number, action in enumerate(bundle.actions):
            if number % ADMITTED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            try:
                results.append({"action_id": self._view.submit(action).hex()})
            except Refused as error:
                results.append({"error": error_value(error)})
        return JSONResponse({"actions": results})

    async def _put_blob(self, request: Request) -> Response:
        data = await read_body(request, BLOB_BYTES_MAX + 1)
        if len(data) > BLOB_BYTES_MAX:
            raise BlobTooLarge(f"the body is above the limit of a blob, {BLOB_BYTES_MAX} bytes")
        cid = self._view.put_blob(data)
        return JSONResponse({"content_hash": cid.digest.hex(), "cid": str(cid), "size_bytes": len(data)})

    async def _put_content(self, request: Request) -> Response:
        stored = await self._view.put_content(request.stream())
        shown = {"content_hash": stored.cid.digest.hex(), "cid": str(stored.cid), "size_bytes": stored.size_bytes}
        return JSONResponse(shown)

    async def _content(self, request: Request) -> Response:
        cid = Cid.parse(request.path_params["cid"])
        providers = [PeerId(check_peer_id(text)) for text in request.query_params.getlist("provider")]
        size = await self._view.content_size(cid, providers)
        start = min(size, _number(request, "offset", 0, high=U64_MAX))
        end = min(size, start + _number(request, "length", size, high=U64_MAX))
        return StreamingResponse(
            self._view.read_content(cid, start, end, providers),
            media_type="application/octet-stream",
            headers={"content-length": str(end - start), "x-content-size": str(size)},
        )


def _number(request: Request, name: str, default: int, *, high: int = ROWS_MAX) -> int:
    text = request.query_params.get(name)
    return default if text is None else _integer(text, name, high)


def _integer(text: str, name: str, high: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 20 or int(text) > high:
        raise Refused(ErrorCode.BAD_REQUEST, f"{name} must be an integer in 0..{high}")
    return int(text)


async def _error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, AgentWorldError)
    refused = refusal(error)
    return JSONResponse({"error": error_value(refused)}, status_code=_HTTP_STATUS[refused.code])


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = {"code": ErrorCode.UNSUPPORTED.value, "message": error.detail, "retryable": False, "rule": ""}
    return JSONResponse({"error": body}, status_code=error.status_code)


async def serve_control(
    view: ControlView,
    validator: ValidatorControlView,
    socket: Path,
    more: Sequence[Route] = (),
    *,
    task_status: TaskStatus[None],
) -> None:
    """Serve until cancelled, with ``more`` routes too.

    The socket is the owner's alone (0600) and is removed at the end.
    """
    _remove(socket)  # left by a node that was killed; the home's lock shows that none runs now
    config = Config()
    config.bind = [f"unix:{socket_address(socket)}"]
    config.umask = 0o177
    config.accesslog = None
    config.errorlog = None
    config.graceful_timeout = 0.2
    config.keep_alive_timeout = KEPT_IDLE_S
    try:
        async with trio.open_nursery() as nursery:
            # Hypercorn's own shutdown trigger never fires: the node ends by cancelling this nursery.
            app = cast(ASGIFramework, ControlApi(view, validator, more).app())
            await nursery.start(partial(serve, app, config, shutdown_trigger=trio.sleep_forever))
            task_status.started(None)
    finally:
        _remove(socket)


def _remove(socket: Path) -> None:
    socket.unlink(missing_ok=True)

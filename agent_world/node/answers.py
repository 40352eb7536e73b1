"""Answers of the control API that other parts share: an error, and that of work that takes its time."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import trio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from agent_world.errors import AgentWorldError, DecodeError, Refused

Tell = Callable[[Mapping[str, int]], None]
"""Is told how far the work is: counts by their names."""
Work = Callable[[Tell], Awaitable[dict[str, Any]]]
PROGRESS_S: Final = 0.5
"""Between two lines of progress; far below the time in which a client takes a silent node for stuck."""


def untold(_counts: Mapping[str, int]) -> None:
    """Nobody wants to know."""


def refusal(error: AgentWorldError) -> Refused:
    """As it is told to whoever asked."""
    if isinstance(error, Refused):
        return error
    return Refused(error.wire_code, str(error), rule=error.rule if isinstance(error, DecodeError) else "")


def error_value(refused: Refused) -> dict[str, Any]:
    """For JSON."""
    return {
        "code": refused.code.value,
        "message": refused.message,
        "retryable": refused.retryable,
        "rule": refused.rule,
    }


async def answer(request: Request, work: Work) -> Response:
    """What ``work`` gives: as one JSON value, or with ``?progress=1`` as the last of a stream of lines."""
    if request.query_params.get("progress") == "1":
        return _Lines(work)
    return JSONResponse(await work(untold))


class _Lines(Response):
    """``{"progress": {...}}`` in every PROGRESS_S, then ``{"result": ...}`` or ``{"error": ...}``, a line each.

    The work ends with the connection.
    """

    media_type = "application/x-ndjson"

    def __init__(self, work: Work) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._work = work
        self._counts: Mapping[str, int] = {}
        self._outcome: dict[str, Any] | None = None
        self._done = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        del scope
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
            nursery.start_soon(self._run)
            while self._outcome is None:
                with trio.move_on_after(PROGRESS_S):
                    await self._done.wait()
                await self._line(send, {"progress": self._counts} if self._outcome is None else self._outcome)
            nursery.cancel_scope.cancel()
        if self._outcome is not None:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _run(self) -> None:
        try:
            self._outcome = {"result": await self._work(self._tell)}
        except AgentWorldError as error:
            self._outcome = {"error": error_value(refusal(error))}
        self._done.set()

    def _tell(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    @staticmethod
    async def _line(send: Send, value: dict[str, Any]) -> None:
        await send({"type": "http.response.body", "body": json.dumps(value).encode() + b"\n", "more_body": True})


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent_world.errors import DecodeError, ErrorCode, Refused
from agent_world.node.answers import PROGRESS_S, Tell, answer, error_value, refusal


class Long:
    """Work of three steps of two seconds, or one that fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self.cancelled = False

    async def work(self, tell: Tell) -> dict[str, Any]:
        try:
            for step in range(3):
                tell({"steps": step})
                await trio.sleep(4 * PROGRESS_S)
                if self._error is not None:
                    raise self._error
        except trio.Cancelled:
            self.cancelled = True
            raise
        return {"sum": 6}

    async def route(self, request: Request) -> Response:
        return await answer(request, self.work)

    async def asked(self, query: str) -> httpx.Response:
        app = Starlette(routes=[Route("/work", self.route)])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://node") as client:
            return await client.get(f"/work{query}")


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.splitlines()]


async def test_who_does_not_ask_for_progress_gets_one_value(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    assert (await Long().asked("")).json() == {"sum": 6}


async def test_progress_comes_before_the_result(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    *progress, last = lines(await Long().asked("?progress=1"))
    assert last == {"result": {"sum": 6}}
    assert 9 <= len(progress) <= 12
    steps = [line["progress"]["steps"] for line in progress]
    assert set(steps) == {0, 1, 2}
    assert steps == sorted(steps)


async def test_a_failure_is_the_last_line(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    response = await Long(Refused(ErrorCode.BUSY, "another one")).asked("?progress=1")
    assert response.status_code == 200
    assert lines(response)[-1] == {"error": error_value(Refused(ErrorCode.BUSY, "another one"))}


async def test_work_ends_with_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    long, sent = Long(), []

    async def receive() -> dict[str, Any]:
        await trio.sleep(PROGRESS_S / 2 if not sent else 3 * PROGRESS_S)
        return {"type": "http.request" if len(sent) < 2 else "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        await trio.lowlevel.checkpoint()

    scope = {"type": "http", "query_string": b"progress=1", "headers": []}
    response = await long.route(Request(scope))
    await response(scope, receive, send)
    assert long.cancelled
    assert b"result" not in b"".join(message.get("body", b"") for message in sent)


@pytest.mark.parametrize(
    ("error", "code", "rule"),
    [
        (Refused(ErrorCode.BUSY, "no", rule="R1"), ErrorCode.BUSY, "R1"),
        (DecodeError("D6", "no hash"), DecodeError("D6", "").wire_code, "D6"),
    ],
)
def test_every_error_has_a_code(error: Any, code: ErrorCode, rule: str) -> None:
    shown = error_value(refusal(error))
    assert (shown["code"], shown["rule"]) == (code.value, rule)

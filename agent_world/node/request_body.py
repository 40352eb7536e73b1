"""Bodies of requests to the control API, read up to a bound."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any

from starlette.requests import Request

from agent_world.errors import ErrorCode, Refused


async def read_body(request: Request, size_max: int) -> bytes:
    """The first ``size_max`` bytes of the body; the rest is not read."""
    data = bytearray()
    async with aclosing(request.stream()) as parts:
        async for part in parts:
            data += part
            if len(data) >= size_max:
                break
    return bytes(data[:size_max])


async def read_object(request: Request, size_max: int) -> dict[str, Any]:
    """The body as a JSON object; raises Refused (ERR_BAD_REQUEST) for anything else, also for lists nested too deep."""
    try:
        value = json.loads(await read_body(request, size_max))
    except (ValueError, RecursionError):
        value = None
    if type(value) is not dict:
        raise Refused(ErrorCode.BAD_REQUEST, f"the body must be a JSON object of at most {size_max} bytes")
    return value

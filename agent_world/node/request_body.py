"""Bodies of requests to the control API, read up to a bound."""

from __future__ import annotations

from contextlib import aclosing

from starlette.requests import Request


async def read_body(request: Request, size_max: int) -> bytes:
    """The first ``size_max`` bytes of the body; the rest is not read."""
    data = bytearray()
    async with aclosing(request.stream()) as parts:
        async for part in parts:
            data += part
            if len(data) >= size_max:
                break
    return bytes(data[:size_max])

from __future__ import annotations

import json

import pytest
from starlette.requests import Request

from agent_world.errors import ErrorCode, Refused
from agent_world.node.request_body import read_body, read_object


def request(*parts: bytes) -> Request:
    """One whose body comes in these parts."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    coming = iter([*messages, {"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, object]:
        return next(coming)

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def test_a_body_is_read_up_to_its_bound() -> None:
    assert await read_body(request(b"abc", b"def", b"never"), 5) == b"abcde"
    assert await read_body(request(b"abc"), 3) == b"abc"


async def test_an_object_in_parts() -> None:
    assert await read_object(request(b'{"a": [1', b", null]}"), 20) == {"a": [1, None]}


NO_OBJECTS = {
    "nothing": b"",
    "a list": b"[1]",
    "a text": b'"a"',
    "cut off": b'{"a": 1',
    "longer than the bound": json.dumps({"a": "x" * 2_000_000}).encode(),
    "no UTF-8": b'{"a": "\xff"}',
    "nested too deep": b"[" * 500_000,
    "an object nested too deep": b'{"a":' * 100_000,
    "a number of too many digits": b'{"a": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("body", NO_OBJECTS.values(), ids=NO_OBJECTS.keys())
async def test_whatever_is_no_object_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        await read_object(request(body), 1_000_000)
    assert caught.value.code is ErrorCode.BAD_REQUEST

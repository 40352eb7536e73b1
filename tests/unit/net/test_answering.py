import logging

import pytest
import trio

from agent_world.config import NetConfig
from agent_world.errors import (
    AgentWorldError,
    BlobHashMismatch,
    BlobNotFound,
    ChainError,
    DecodeError,
    ErrorCode,
    HomeError,
    LocalError,
    Refused,
    Unavailable,
)
from agent_world.net import answering as module
from agent_world.net.answering import REQUEST_BYTES_MAX, Answering, check_request_size, is_well_formed, payload_of
from agent_world.net.counters import Counters
from agent_world.net.gate import Gate
from agent_world.wire import record
from agent_world.wire.ids import U32, U64, PeerId
from agent_world.wire.limits import RPC_BODY_BYTES_MAX, RPC_FRAME_BYTES_MAX
from agent_world.wire.rpc import RequestFrame, ResponseFrame

PEER = PeerId("peer")
GATE = Gate(NetConfig(), Counters(), lambda: 0.0)
METHOD = "/aw/rr/1.0.0/test"


def request(payload: bytes = b"", *, method: str = METHOD, deadline_ms: int = 1_000) -> RequestFrame:
    return RequestFrame(id=U64(7), method=method, payload=payload, deadline_ms=U32(deadline_ms))


async def answer_of(error: Exception) -> tuple[ResponseFrame, Counters]:
    counters = Counters()
    answering = Answering(4, counters, GATE)

    async def fail(_peer: PeerId, _payload: bytes) -> bytes:
        raise error

    answering.serve(METHOD, fail)
    return await answering.answer(PEER, request()), counters


async def test_an_answer_has_the_payload_and_the_id() -> None:
    answering = Answering(4, Counters(), GATE)

    async def reverse(_peer: PeerId, payload: bytes) -> bytes:
        return payload[::-1]

    answering.serve(METHOD, reverse)
    response = await answering.answer(PEER, request(b"abc"))
    assert (response.id, payload_of(response)) == (7, b"cba")  # T-1.7: a normal response is returned unchanged


async def test_the_last_registration_wins() -> None:
    answering = Answering(4, Counters(), GATE)
    for text in (b"first", b"second"):

        async def say(_peer: PeerId, _payload: bytes, text: bytes = text) -> bytes:
            return text

        answering.serve(METHOD, say)
    assert payload_of(await answering.answer(PEER, request())) == b"second"


@pytest.mark.parametrize("code", ErrorCode)
@pytest.mark.parametrize("retryable", [True, False])
async def test_refused_passes_through_as_it_is(code: ErrorCode, retryable: bool) -> None:  # T-1.3, T-1.7, T-1.13
    response, _ = await answer_of(Refused(code, "the reason", rule="A3", retryable=retryable))
    with pytest.raises(Refused) as caught:
        payload_of(response)
    seen = caught.value
    assert (seen.code, seen.message, seen.rule, seen.retryable) == (code, "the reason", "A3", retryable)


@pytest.mark.parametrize(
    ("error", "code", "rule"),
    [
        (BlobNotFound("/secret/path"), ErrorCode.NOT_FOUND, ""),
        (BlobHashMismatch("/secret/path"), ErrorCode.INVALID_HASH, ""),
        (ChainError(3, "secret root", "x"), ErrorCode.STATE_MISMATCH, ""),
        (DecodeError("D8", "secret"), ErrorCode.BAD_REQUEST, "D8"),
        (HomeError("secret"), ErrorCode.NOT_AVAILABLE, ""),
        (LocalError("secret"), ErrorCode.NOT_AVAILABLE, ""),
        (Unavailable("secret"), ErrorCode.NOT_AVAILABLE, ""),
        (ExceptionGroup("secret", [ExceptionGroup("x", [BlobNotFound("secret")])]), ErrorCode.NOT_FOUND, ""),
    ],
)
async def test_our_errors_travel_as_their_code_without_our_text(error: Exception, code: ErrorCode, rule: str) -> None:
    response, _ = await answer_of(error)
    assert response.error is not None
    assert (response.error.code, response.error.rule) == (code, rule)
    assert response.error.retryable is code.retryable
    assert "secret" not in response.error.message


async def test_a_bug_in_a_handler_is_logged_counted_and_hidden(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        response, counters = await answer_of(ZeroDivisionError("secret"))
    assert response.error is not None
    assert response.error.code is ErrorCode.NOT_AVAILABLE
    assert response.error.retryable
    assert counters.snapshot()["request_handler_failed"] == 1
    assert "secret" not in response.error.message
    assert "ZeroDivisionError" in caplog.text


async def test_unknown_method() -> None:
    response = await Answering(4, Counters(), GATE).answer(PEER, request())
    assert response.error is not None
    assert response.error.code is ErrorCode.UNSUPPORTED


async def test_deadline_of_the_asker_ends_the_handler(autojump_clock: object) -> None:
    counters = Counters()
    answering = Answering(4, counters, GATE)

    async def sleep(_peer: PeerId, _payload: bytes) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    answering.serve(METHOD, sleep)
    response = await answering.answer(PEER, request(deadline_ms=1_500))
    assert response.error is not None
    assert response.error.code is ErrorCode.TIMEOUT
    assert trio.current_time() == pytest.approx(1.5)
    assert counters.snapshot()["request_deadline"] == 1
    await answering.answer(PEER, request(deadline_ms=2**32 - 1))
    assert trio.current_time() == pytest.approx(1.5 + module.ANSWER_TIME_MAX_S)


async def test_a_peer_above_its_limit_is_busy_and_others_are_not(autojump_clock: object) -> None:
    answering = Answering(2, Counters(), GATE)
    go_on = trio.Event()

    async def wait(_peer: PeerId, _payload: bytes) -> bytes:
        await go_on.wait()
        return b"done"

    answering.serve(METHOD, wait)
    responses: dict[str, ResponseFrame] = {}

    async def ask(name: str, peer: str) -> None:
        responses[name] = await answering.answer(PeerId(peer), request(deadline_ms=60_000))

    async with trio.open_nursery() as nursery:
        for name in ("a1", "a2", "b1"):
            nursery.start_soon(ask, name, name[0])
        await trio.testing.wait_all_tasks_blocked()
        await ask("a3", "a")
        go_on.set()
    assert responses["a3"].error is not None
    assert responses["a3"].error.code is ErrorCode.BUSY
    assert all(responses[name].payload == b"done" for name in ("a1", "a2", "b1"))
    await ask("a4", "a")
    assert responses["a4"].payload == b"done"


async def test_all_peers_together_are_limited(monkeypatch: pytest.MonkeyPatch, autojump_clock: object) -> None:
    monkeypatch.setattr(module, "REQUESTS_IN_FLIGHT_MAX", 3)
    answering = Answering(2, Counters(), GATE)

    async def sleep(_peer: PeerId, _payload: bytes) -> bytes:
        await trio.sleep(1)
        return b""

    answering.serve(METHOD, sleep)
    codes: list[ErrorCode | None] = []

    async def ask(peer: str) -> None:
        response = await answering.answer(PeerId(peer), request(deadline_ms=9_000))
        codes.append(response.error and response.error.code)

    async with trio.open_nursery() as nursery:
        for peer in "abcde":
            nursery.start_soon(ask, peer)
    assert sorted(codes, key=str) == [ErrorCode.BUSY] * 2 + [None] * 3


async def test_an_answer_over_the_limit_is_not_sent() -> None:
    counters = Counters()
    answering = Answering(4, counters, GATE)

    async def much(_peer: PeerId, _payload: bytes) -> bytes:
        return bytes(RPC_BODY_BYTES_MAX + 1)

    answering.serve(METHOD, much)
    response = await answering.answer(PEER, request())
    assert response.error is not None
    assert counters.snapshot()["request_answer_too_large"] == 1


def test_request_size_fits_the_frame() -> None:
    check_request_size(METHOD, bytes(REQUEST_BYTES_MAX))
    frame = request(bytes(REQUEST_BYTES_MAX), deadline_ms=2**32 - 1)
    assert len(record.to_bytes(frame)) <= RPC_FRAME_BYTES_MAX
    with pytest.raises(LocalError):
        check_request_size(METHOD, bytes(REQUEST_BYTES_MAX + 1))


def test_largest_error_fits_the_frame() -> None:
    error = Refused(ErrorCode.STATE_MISMATCH, "\N{GRINNING FACE}" * 600, rule="A" * 64)
    frame = ResponseFrame(
        id=U64(2**64 - 1), payload=None, error=module.ErrorResponse.of(error), elsewhere=False
    )  # fmt: skip
    assert len(record.to_bytes(frame)) <= RPC_FRAME_BYTES_MAX


def test_exactly_one_of_payload_error_elsewhere() -> None:
    error = module.failure(U64(1), ErrorCode.BUSY).error
    for payload in (None, b""):
        for failed in (None, error):
            for elsewhere in (False, True):
                response = ResponseFrame(id=U64(1), payload=payload, error=failed, elsewhere=elsewhere)
                count = (payload is not None) + (failed is not None) + elsewhere
                assert is_well_formed(response) is (count == 1)


def test_public_text_exists_for_every_code() -> None:
    assert set(module._PUBLIC_TEXT) == set(ErrorCode)
    assert issubclass(Refused, AgentWorldError)

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from agent_world.cli.client import KEEP_S
from agent_world.crypto.hashing import actor_id_of, cid_of, content_hash, hash32
from agent_world.errors import BlobHashMismatch, ChainError, ErrorCode, HomeError, Refused
from agent_world.node.control import BAN_BYTES_MAX, ROWS_MAX, WAIT_MS_MAX, ControlApi, serve_control
from agent_world.testing.stack import make_key
from agent_world.wire import record
from agent_world.wire.action import ActionBundle
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import ActorId, Hash32, PeerId, peer_id_of
from agent_world.wire.limits import BLOB_BYTES_MAX, ENVELOPE_BYTES_MAX, GOSSIP_ACTIONS_MAX

ACTOR = actor_id_of(make_key("alice").public_key)
HASH = "ab" * 32
half_read = pytest.mark.filterwarnings("ignore:.*ByteStream.__aiter__:pytest.PytestUnraisableExceptionWarning")
"""httpx's in-process transport does not close its own body when the application stops reading."""


class FakeView:
    """Answers with what it was asked; ``error`` is raised by everything."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.submitted: list[bytes] = []
        self.unwanted: bytes | None = None
        self.put: list[bytes] = []

    def _answer(self, **asked: Any) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        return asked

    def status(self) -> dict[str, Any]:
        return self._answer(node_id="n", hash=Hash32(bytes(2)), link=cid_of(b""), rows=(1, None))

    def peers(self) -> list[dict[str, Any]]:
        return [self._answer(peer_id="p", score=-1.5)]

    def ban_peer(self, peer: PeerId, ban_ms: int, reason: str) -> dict[str, Any]:
        return self._answer(peer=peer, ban_ms=ban_ms, reason=reason)

    def unban_peer(self, peer: PeerId) -> dict[str, Any]:
        return self._answer(peer=peer)

    def head(self) -> dict[str, Any]:
        return self._answer(height=3)

    def block(self, height: int) -> dict[str, Any]:
        return self._answer(height=height)

    def actor(self, actor_id: ActorId) -> dict[str, Any]:
        return self._answer(actor_id=actor_id)

    def state_entry(self, namespace: str, key: str, *, proof: bool) -> dict[str, Any]:
        return self._answer(namespace=namespace, key=key, proof=proof)

    def state_entries(self, namespace: str, limit: int) -> dict[str, Any]:
        return self._answer(namespace=namespace, limit=limit)

    def events(self, from_height: int | None, limit: int) -> dict[str, Any]:
        return self._answer(from_height=from_height, limit=limit)

    def validators(self) -> dict[str, Any]:
        return self._answer(epoch=4)

    def submit(self, data: bytes) -> Hash32:
        self._answer()
        if data == self.unwanted:
            raise Refused(ErrorCode.BUSY, "full", rule="A12")
        self.submitted.append(data)
        return hash32(data)

    async def receipt(self, action_id: Hash32, wait_ms: int) -> dict[str, Any]:
        return self._answer(action_id=action_id, wait_ms=wait_ms)

    async def blob(self, content: ContentHash) -> bytes:
        self._answer()
        return b"blob " + content[:1]

    def put_blob(self, data: bytes) -> Cid:
        self._answer()
        self.put.append(data)
        return cid_of(data, Codec.RAW)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the view has no {name}: extend this fake and the tests")


@pytest.fixture
def view() -> FakeView:
    return FakeView()


@pytest.fixture
async def http(view: FakeView) -> AsyncIterator[httpx.AsyncClient]:
    app = ControlApi(view, view).app()  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        yield client


ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/status", {"node_id": "n", "hash": "0000", "link": str(cid_of(b"")), "rows": [1, None]}),
    ("/head", {"height": 3}),
    ("/blocks/7", {"height": 7}),
    (f"/blocks/{2**63}", {"height": 2**63}),
    (f"/actors/{ACTOR}", {"actor_id": ACTOR}),
    ("/state/rules", {"namespace": "rules", "limit": 100}),
    (f"/state/rules?limit={ROWS_MAX}", {"namespace": "rules", "limit": ROWS_MAX}),
    ("/state/rules?key=a/b&proof=1", {"namespace": "rules", "key": "a/b", "proof": True}),
    ("/state/rules?key=%C3%A9", {"namespace": "rules", "key": "é", "proof": False}),
    ("/events", {"from_height": None, "limit": 100}),
    ("/events?from_height=5&limit=2", {"from_height": 5, "limit": 2}),
    ("/validators", {"epoch": 4}),
    (f"/receipts/{HASH}", {"action_id": HASH, "wait_ms": 0}),
    (f"/receipts/{HASH}?wait_ms={WAIT_MS_MAX}", {"action_id": HASH, "wait_ms": WAIT_MS_MAX}),
]


@pytest.mark.parametrize(("path", "answer"), ROUTES)
async def test_every_route_answers_json(http: httpx.AsyncClient, path: str, answer: dict[str, Any]) -> None:
    response = await http.get(path)
    assert (response.status_code, response.json()) == (200, answer)


async def test_blobs_are_bytes(http: httpx.AsyncClient) -> None:
    response = await http.get(f"/blobs/{HASH}")
    assert (response.status_code, response.content) == (200, b"blob \xab")
    assert response.headers["content-type"] == "application/octet-stream"


async def test_an_action_is_handed_in(http: httpx.AsyncClient, view: FakeView) -> None:
    response = await http.post("/actions", content=b"an action")
    assert response.json() == {"action_id": hash32(b"an action").hex()}
    assert view.submitted == [b"an action"]


async def test_of_a_bundle_each_action_is_judged_by_itself(http: httpx.AsyncClient, view: FakeView) -> None:
    view.unwanted = b"two"
    bundle = ActionBundle(actions=(b"one", b"two", b"three"))
    response = await http.post("/actions/bundle", content=record.to_bytes(bundle))
    one, two, three = response.json()["actions"]
    assert (one, three) == ({"action_id": hash32(b"one").hex()}, {"action_id": hash32(b"three").hex()})
    assert (two["error"]["code"], two["error"]["rule"]) == ("ERR_BUSY", "A12")
    assert view.submitted == [b"one", b"three"]


async def test_a_bundle_that_is_none_or_too_long_is_refused_whole(http: httpx.AsyncClient, view: FakeView) -> None:
    long = record.to_bytes(ActionBundle(actions=(b"",) * (GOSSIP_ACTIONS_MAX + 1)))
    for body in (b"", b"no bundle", long):
        assert (await http.post("/actions/bundle", content=body)).status_code == 400
    assert view.submitted == []


@half_read
@pytest.mark.parametrize("size", [ENVELOPE_BYTES_MAX, ENVELOPE_BYTES_MAX + 1, 10 * ENVELOPE_BYTES_MAX])
async def test_of_an_oversized_action_the_pool_sees_enough_to_refuse_it(
    http: httpx.AsyncClient, view: FakeView, size: int
) -> None:
    await http.post("/actions", content=bytes(size))
    assert [len(data) for data in view.submitted] == [min(size, ENVELOPE_BYTES_MAX + 1)]


async def test_a_blob_is_put(http: httpx.AsyncClient, view: FakeView) -> None:
    data = bytes(BLOB_BYTES_MAX)
    response = await http.post("/blobs", content=data)
    assert response.json() == {
        "content_hash": content_hash(data).hex(), "cid": str(cid_of(data, Codec.RAW)), "size_bytes": BLOB_BYTES_MAX,
    }  # fmt: skip


@half_read
async def test_a_blob_above_the_limit_is_refused(http: httpx.AsyncClient, view: FakeView) -> None:
    response = await http.post("/blobs", content=bytes(BLOB_BYTES_MAX + 1))
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["rule"], error["retryable"]) == ("ERR_BAD_REQUEST", "", False)
    assert view.put == []


CODES = {
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


@pytest.mark.parametrize("code", ErrorCode)
async def test_every_code_has_its_http_status(http: httpx.AsyncClient, view: FakeView, code: ErrorCode) -> None:
    view.error = Refused(code, "why", rule="X1", retryable=not code.retryable)
    response = await http.get("/status")
    assert response.status_code == CODES[code]
    assert response.json() == {
        "error": {"code": code.value, "message": "why", "retryable": not code.retryable, "rule": "X1"}
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ChainError(5, "block", "damaged"), ErrorCode.STATE_MISMATCH),
        (BlobHashMismatch("damaged"), ErrorCode.INVALID_HASH),
        (HomeError("disk full"), ErrorCode.NOT_AVAILABLE),
    ],
)
async def test_the_nodes_own_errors_are_typed_too(
    http: httpx.AsyncClient, view: FakeView, error: Exception, code: ErrorCode
) -> None:
    view.error = error
    response = await http.get("/head")
    assert response.status_code == CODES[code]
    assert response.json()["error"]["code"] == code.value
    assert response.json()["error"]["message"] == str(error)


@pytest.mark.parametrize(
    "path",
    [
        "/blocks/-1", "/blocks/x", f"/blocks/{2**64}", f"/blocks/{'9' * 5000}", "/blocks/%D9%A1",
        "/actors/nobody", "/receipts/abc", "/blobs/abc", f"/blobs/{'AB' * 32}",
        "/events?limit=-1", "/events?limit=x", f"/events?limit={ROWS_MAX + 1}", "/events?from_height=1.5",
        f"/receipts/{HASH}?wait_ms={WAIT_MS_MAX + 1}", "/state/rules?limit=%C2%B2",
    ],
)  # fmt: skip
async def test_what_is_malformed_is_a_bad_request(http: httpx.AsyncClient, path: str) -> None:
    response = await http.get(path)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == ErrorCode.BAD_REQUEST.value


@pytest.mark.parametrize(("verb", "path", "status"), [("GET", "/nothing", 404), ("DELETE", "/status", 405)])
async def test_what_is_no_route_is_unsupported(http: httpx.AsyncClient, verb: str, path: str, status: int) -> None:
    response = await http.request(verb, path)
    assert response.status_code == status
    assert response.json()["error"]["code"] == ErrorCode.UNSUPPORTED.value


@pytest.fixture
def socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a node that was killed has left something."""
    monkeypatch.chdir(tmp_path)
    Path("control.sock").write_text("left over")
    return Path("control.sock")


def mode_of(path: Path) -> int | None:
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


async def test_over_the_socket_of_a_home(socket: Path, view: FakeView) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve_control(view, view, socket, task_status=task_status))  # type: ignore[arg-type]
        assert mode_of(socket) == 0o600
        transport = httpx.AsyncHTTPTransport(uds=str(socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
            assert (await client.get("/head")).json() == {"height": 3}
            oversized = await client.post("/actions", content=bytes(3 * ENVELOPE_BYTES_MAX))
            assert oversized.status_code == 200  # the fake takes everything; what matters is that it was answered
            assert (await client.get("/head")).json() == {"height": 3}
        nursery.cancel_scope.cancel()
    assert mode_of(socket) is None


async def test_an_idle_connection_outlives_what_a_client_keeps_one_for(
    socket: Path, view: FakeView, mock_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve_control(view, view, socket, task_status=task_status))  # type: ignore[arg-type]
        async with await trio.open_unix_socket(socket) as connection:
            for _ in range(3):
                await connection.send_all(b"GET /head HTTP/1.1\r\nhost: node\r\n\r\n")
                answer = b""
                while not answer.endswith(b'{"height":3}'):
                    answer += await connection.receive_some()
                    assert answer.startswith(b"HTTP/1.1 200")
                await trio.testing.wait_all_tasks_blocked(0.02)
                mock_clock.jump(5 * KEEP_S)
                await trio.testing.wait_all_tasks_blocked(0.02)
        nursery.cancel_scope.cancel()


PEER = peer_id_of(make_key("peer").public_key)


async def test_peers_are_listed_banned_and_unbanned(http: httpx.AsyncClient) -> None:
    assert (await http.get("/peers")).json() == {"peers": [{"peer_id": "p", "score": -1.5}]}
    banned = await http.post(f"/peers/{PEER}/ban", json={"ban_ms": 5, "reason": "noise"})
    assert banned.json() == {"peer": PEER, "ban_ms": 5, "reason": "noise"}
    assert (await http.post(f"/peers/{PEER}/unban", json={})).json() == {"peer": PEER}


@pytest.mark.parametrize(
    ("peer", "body"),
    [
        ("nobody", b'{"ban_ms": 5, "reason": "noise"}'),
        (PEER, b""),
        (PEER, b"[]"),
        (PEER, b'{"ban_ms": 5}'),
        (PEER, b'{"ban_ms": true, "reason": "noise"}'),
        (PEER, b'{"ban_ms": 5, "reason": ""}'),
        pytest.param(PEER, b'{"ban_ms": 5, "reason": "' + b"x" * BAN_BYTES_MAX + b'"}', marks=half_read),
    ],
)
async def test_bans_that_are_malformed(http: httpx.AsyncClient, peer: str, body: bytes) -> None:
    response = await http.post(f"/peers/{peer}/ban", content=body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, ErrorCode.BAD_REQUEST.value)

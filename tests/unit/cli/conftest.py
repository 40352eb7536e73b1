from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
import pytest

from agent_world.cli.main import main
from agent_world.crypto.hashing import hash32

Answer = tuple[int, Any]


@attrs.define
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run ``agent-world`` in this process."""

    def call(*arguments: object) -> Ran:
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        assert isinstance(caught.value.code, int)
        return Ran(caught.value.code, out, err)

    return call


@pytest.fixture(autouse=True)
def _logging_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set-up of logging is for a process of its own: it would bind every logger to this test's captured stderr."""
    for module in ("node_run", "node_triad", "world_light"):
        monkeypatch.setattr(f"agent_world.cli.{module}.set_up_logging", lambda **_options: None)


@attrs.define
class FakeNode:
    """A control socket that answers as told, and notes what it was asked."""

    home: Path
    answers: dict[str, Answer | Callable[[bytes], Answer]] = attrs.Factory(dict)
    asked: list[tuple[str, dict[str, list[str]]]] = attrs.Factory(list)
    actions: list[bytes] = attrs.Factory(list)

    def answer(self, verb: str, target: str, body: bytes) -> Answer:
        parts = urlsplit(target)
        self.asked.append((f"{verb} {parts.path}", parse_qs(parts.query)))
        found = self.answers.get(f"{verb} {parts.path}")
        if found is None:
            return error(404, "ERR_NOT_FOUND", f"no {parts.path} here")
        return found(body) if callable(found) else found


def error(status: int, code: str, message: str, *, rule: str = "", retryable: bool = False) -> Answer:
    return status, {"error": {"code": code, "message": message, "rule": rule, "retryable": retryable}}


def _handler(node: FakeNode) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            body = self.body()
            status, value = node.answer(self.command, self.path, body)
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def body(self) -> bytes:
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("content-length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        do_GET = do_POST = do  # noqa: N815 - the names BaseHTTPRequestHandler looks for

        def address_string(self) -> str:
            return "unix"

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - overridden
            pass

    return Handler


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    """A node at ``home`` below the working directory."""
    monkeypatch.chdir(tmp_path)
    home = Path("home")
    home.mkdir()
    made = FakeNode(home)

    def take(body: bytes) -> Answer:
        made.actions.append(body)
        return 200, {"action_id": hash32(body).hex()}

    made.answers["POST /actions"] = take
    made.answers["GET /status"] = 200, {"world_id": "w", "genesis_hash": "00" * 32}
    with socketserver.ThreadingUnixStreamServer(str(home / "control.sock"), _handler(made)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture(name="error")
def error_fixture() -> Callable[..., Answer]:
    return error

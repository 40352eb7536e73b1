"""Talks to a running node over the Unix socket in its home directory."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import click
import httpcore
import httpx
from httpcore._backends.sync import SyncStream

from agent_world.errors import ErrorCode, Refused, Unavailable, UsageError
from agent_world.store.socket_path import answering_socket, socket_address

F = TypeVar("F", bound=Callable[..., Any])
CONTROL_SOCKET: Final = "control.sock"
_TIMEOUT_S: Final = 60.0
"""Above the longest wait a command asks the node for."""
KEEP_S: Final = 5.0
"""An idle connection is kept for this (httpx's own default): the node keeps it much longer (``KEPT_IDLE_S``)."""


def home_option(function: F) -> F:
    """``--home``: which node a command talks to."""
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="AGENT_WORLD_HOME",
        required=True,
        help="Home directory of the node (or AGENT_WORLD_HOME).",
    )(function)


class _Sockets(httpcore.SyncBackend):
    """Fault: httpcore leaves the socket open when nobody is behind its path; the collector finds it and warns."""

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.NetworkStream:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(timeout)
        try:
            made.connect(path)
        except OSError as error:
            made.close()
            raise httpcore.ConnectError(str(error)) from None
        return SyncStream(made)


class _SocketTransport(httpx.HTTPTransport):
    """HTTP on a Unix socket; httpx takes no backend, so its pool is replaced."""

    def __init__(self, path: str) -> None:
        super().__init__(uds=path)
        self._pool = httpcore.ConnectionPool(uds=path, keepalive_expiry=KEEP_S, network_backend=_Sockets())


class NodeClient:
    """One node's control API. Use as a context manager."""

    def __init__(self, home: Path) -> None:
        if not home.is_dir():
            raise UsageError(f"{home} is not a directory; make homes with: agent-world testnet init DIR")
        self._home = home
        self._socket = answering_socket(home / CONTROL_SOCKET)
        self._http = httpx.Client(
            transport=_SocketTransport(socket_address(self._socket)),
            base_url="http://node",
            timeout=_TIMEOUT_S,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def get(self, path: str, /, **query: Any) -> Any:
        """GET a JSON value."""
        return self._send("GET", path, params={k: v for k, v in query.items() if v is not None}).json()

    def get_bytes(self, path: str) -> bytes:
        """GET raw bytes."""
        return self._send("GET", path).content

    @contextmanager
    def get_stream(self, path: str, /, **query: Any) -> Iterator[tuple[Iterator[bytes], int | None]]:
        """GET raw bytes of any size: the parts, and how many bytes they will be if the node has said so."""
        with self._explained(), self._http.stream("GET", path, params=query) as response:
            if not response.is_success:
                response.read()
                raise _refused(response)
            size = response.headers.get("content-length", "")
            yield response.iter_bytes(), int(size) if size.isdigit() else None

    def post_stream(self, path: str, parts: Iterator[bytes], /, **query: Any) -> Any:
        """POST raw bytes of any size, get a JSON value."""
        given = {key: value for key, value in query.items() if value is not None}
        return self._send("POST", path, content=parts, params=given).json()

    def post_json(self, path: str, value: Any) -> Any:
        """POST a JSON value, get a JSON value."""
        return self._send("POST", path, json=value).json()

    def post_long(self, path: str, value: Any, told: Callable[[dict[str, int]], None]) -> Any:
        """POST a JSON value whose answer may take any time; ``told`` of every count on the way. Get a JSON value."""
        with self._explained(), self._http.stream("POST", path, params={"progress": 1}, json=value) as response:
            if not response.is_success:
                response.read()
                raise _refused(response)
            for line in response.iter_lines():
                found = json.loads(line)
                if "result" in found:
                    return found["result"]
                if "error" in found:
                    raise _refusal(found["error"])
                told(found["progress"])
        raise Unavailable(f"the node at {self._home} broke off its answer; see its log")

    def post_bytes(self, path: str, data: bytes) -> Any:
        """POST raw bytes, get a JSON value."""
        return self._send("POST", path, content=data).json()

    def _send(self, verb: str, path: str, **arguments: Any) -> httpx.Response:
        with self._explained():
            response = self._http.request(verb, path, **arguments)
        if response.is_success:
            return response
        raise _refused(response)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            if not self._socket.exists():
                raise httpx.ConnectError("there is no control socket")
            yield
        except httpx.RemoteProtocolError as error:
            raise Unavailable(f"the node at {self._home} broke off its answer ({error}); see its log") from None
        except httpx.TimeoutException:
            raise Unavailable(f"the node at {self._home} did not answer within {_TIMEOUT_S:.0f} s") from None
        except httpx.TransportError as error:
            raise Unavailable(
                f"no node is running at {self._home} ({error}); start it with: agent-world node run --home {self._home}"
                f", or look at it as it is: agent-world node inspect --home {self._home}"
            ) from None


def _refused(response: httpx.Response) -> Refused:
    try:
        return _refusal(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return Refused(ErrorCode.NOT_AVAILABLE, f"the node answered HTTP {response.status_code}: {response.text[:200]}")


def _refusal(error: dict[str, Any]) -> Refused:
    return Refused(ErrorCode(error["code"]), error["message"], rule=error["rule"], retryable=bool(error["retryable"]))

"""Routes of the control API for files by their paths."""

from __future__ import annotations

import itertools
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from agent_world.errors import ErrorCode, Refused
from agent_world.node.answers import answer
from agent_world.node.files import NodeFiles
from agent_world.node.request_body import read_object
from agent_world.node.unixfs_views import UnixfsViews
from agent_world.store.file_index import Expect, Expected
from agent_world.wire.cid import ContentHash, parse_content_hash
from agent_world.wire.file_index import FileIndexManifestRef, FileMetadata
from agent_world.wire.ids import U64
from agent_world.wire.limits import MIB, U64_MAX

ROWS_MAX: Final = 1_000
"""Files in one answer."""
IMPORT_S_MAX: Final = 20.0
"""An import answers after this, and goes on when it is asked again."""


class FsRoutes:
    """Requests -> files."""

    def __init__(self, files: NodeFiles, unixfs: UnixfsViews) -> None:
        self._files = files
        self._unixfs = unixfs

    def routes(self) -> list[Route]:
        """For the application of the control API."""
        return [
            Route("/fs/files", self._list, methods=["GET"]),
            Route("/fs/file", self._read, methods=["GET"]),
            Route("/fs/file", self._write, methods=["POST"]),
            Route("/fs/stat", self._stat, methods=["GET"]),
            Route("/fs/remove", self._remove, methods=["POST"]),
            Route("/fs/copy", self._copy, methods=["POST"]),
            Route("/fs/audit", self._audit, methods=["POST"]),
            Route("/fs/export", self._export, methods=["POST"]),
            Route("/fs/import", self._import, methods=["POST"]),
        ]

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        files = self._files.index.list_files(query.get("prefix", ""), after=query.get("after", ""))
        rows = list(itertools.islice(files, ROWS_MAX + 1))
        return JSONResponse({"files": [shown(file) for file in rows[:ROWS_MAX]], "more": len(rows) > ROWS_MAX})

    async def _read(self, request: Request) -> Response:
        start = _number(request.query_params.get("offset", "0"), "offset")
        length = request.query_params.get("length")
        end = U64_MAX if length is None else start + _number(length, "length")
        file, parts = self._files.read(_path(request), start, end)
        size = max(0, min(end, file.size_bytes) - start)
        headers = {"content-length": str(size), "x-content-size": str(file.size_bytes), "x-cid": str(file.content)}
        return StreamingResponse(parts, media_type="application/octet-stream", headers=headers)

    async def _write(self, request: Request) -> Response:
        query = request.query_params
        expected = _expected(query.get("if_match"), query.get("if_absent") == "1")
        return JSONResponse(self._changed(await self._files.write(_path(request), expected, request.stream())))

    async def _stat(self, request: Request) -> Response:
        file = self._files.index.need(_path(request))
        return JSONResponse(await self._unixfs.with_name(self._changed(file), file.content))

    def _changed(self, file: FileMetadata) -> dict[str, Any]:
        """``is_local``: the record log does not have it, so no other node gets it."""
        return {**shown(file), "is_local": not self._files.index.is_logged(file.path)}

    async def _remove(self, request: Request) -> Response:
        asked = await read_object(request, MIB)
        path, if_match = _text(asked, "path"), asked.get("if_match")
        expected = None if if_match is None else parse_content_hash(_text(asked, "if_match"))
        return JSONResponse({"path": path, "removed": self._files.index.delete_file_if_match(path, expected)})

    async def _copy(self, request: Request) -> Response:
        asked = await read_object(request, MIB)
        if_match = None if asked.get("if_match") is None else _text(asked, "if_match")
        expected = _expected(if_match, asked.get("if_absent") is True)
        return JSONResponse(self._changed(self._files.copy(_text(asked, "source"), _text(asked, "path"), expected)))

    async def _audit(self, request: Request) -> Response:
        reads = (await read_object(request, MIB)).get("read", False)
        if type(reads) is not bool:
            raise Refused(ErrorCode.BAD_REQUEST, "read must be true or false")
        return await answer(request, lambda tell: self._files.audit(reads=reads, tell=tell))

    async def _export(self, request: Request) -> Response:
        asked = await read_object(request, MIB)
        ref = self._files.export(None if asked.get("pin") is None else _text(asked, "pin"))
        return JSONResponse({"content_hash": ref.content_hash.hex(), "size_bytes": ref.size_bytes})

    async def _import(self, request: Request) -> Response:
        asked = await read_object(request, MIB)
        size, timeout_ms = asked.get("size_bytes"), asked.get("timeout_ms", 0)
        if type(size) is not int or not 0 <= size <= U64_MAX or type(timeout_ms) is not int or timeout_ms < 0:
            raise Refused(ErrorCode.BAD_REQUEST, "size_bytes and timeout_ms must be integers that are not negative")
        digest = ContentHash(parse_content_hash(_text(asked, "content_hash")))
        ref = FileIndexManifestRef(content_hash=digest, size_bytes=U64(size))
        return JSONResponse(await self._files.take_in(ref, min(timeout_ms / 1000, IMPORT_S_MAX)))


def shown(file: FileMetadata) -> dict[str, Any]:
    """A file as JSON."""
    return {
        "path": file.path,
        "cid": str(file.content),
        "content_hash": file.content_hash.hex(),
        "size_bytes": file.size_bytes,
        "updated_at_ms": file.updated_at_ms,
    }


def _path(request: Request) -> str:
    path = request.query_params.get("path")
    if path is None:
        raise Refused(ErrorCode.BAD_REQUEST, "which file? say path=")
    return path


def _expected(if_match: str | None, if_absent: bool) -> Expected:
    if if_absent:
        if if_match is not None:
            raise Refused(ErrorCode.BAD_REQUEST, "if_match and if_absent exclude each other")
        return Expect.NOTHING_THERE
    return None if if_match is None else parse_content_hash(if_match)


def _text(asked: dict[str, Any], name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str):
        raise Refused(ErrorCode.BAD_REQUEST, f"{name} must be a text")
    return value


def _number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > U64_MAX:
        raise Refused(ErrorCode.BAD_REQUEST, f"{name} must be an integer that is not negative")
    return int(text)

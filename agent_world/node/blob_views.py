"""What an operator sees of a node's stored blobs, and how they are checked on request."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, Final

import attrs
import trio

from agent_world.distfs.links import links_in
from agent_world.distfs.manifest import open_manifest
from agent_world.errors import DecodeError
from agent_world.node.blob_control import CHECKED_MAX
from agent_world.node.node import Node
from agent_world.node.scrub import Verdict
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.limits import MIB

TURN_S: Final = 5.0
"""After so long a request is answered with what was done, so that whoever asks can show it."""
TURN_BYTES: Final = 64 * MIB
"""Read for one answer."""


class BlobControl:
    """Satisfies ``blob_control.BlobControlView``."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def listed(self, prefix: str, after: ContentHash | None, limit: int) -> list[dict[str, Any]]:
        """Stored blobs by their hashes, ascending; raises UsageError for a prefix that is none."""
        page = self._node.scrub.listing.page(after, limit, prefix=prefix)
        return [attrs.asdict(blob) for blob in page]

    async def stat(self, cid: Cid) -> dict[str, Any]:
        """Size and place of a blob, of a file manifest how large the file is, and its name for IPFS tools.

        Raises BlobNotFound, DataError.
        """
        stat = self._node.blobs.stat(cid.digest)
        shown: dict[str, Any] = {"cid": cid, **attrs.asdict(stat)}
        if cid.codec is Codec.DAG_CBOR:
            data = self._node.blobs.get(cid.digest)
            with contextlib.suppress(DecodeError):  # not a manifest, or not even DAG-CBOR: then it is a blob like any
                shown["links"] = len(links_in(cid, data))
                shown["file_size_bytes"] = open_manifest(cid, data).size_bytes
        return await self._node.unixfs.with_name(shown, cid)

    async def verify(self, contents: list[Cid], *, heal: bool) -> dict[str, Any]:
        """Read these in order; ``links`` are those of whole blobs, ``done`` is how many there was time for."""
        return await self._checked(contents, heal=heal)

    async def verify_stored(self, prefix: str, after: ContentHash | None, *, heal: bool) -> dict[str, Any]:
        """Read stored blobs above ``after``; ``next`` is where to go on, None at the end. Raises UsageError."""
        page = self._node.scrub.listing.page(after, CHECKED_MAX, prefix=prefix)
        raw = [Cid(Codec.RAW, blob.content_hash) for blob in page]
        answer = await self._checked(raw, heal=heal)
        is_end = answer["done"] == len(page) < CHECKED_MAX
        return {
            **answer,
            "next": None if is_end else raw[answer["done"] - 1].digest,
            "total": self._node.blobs.usage().blobs,
        }

    async def _checked(self, contents: Iterable[Cid], *, heal: bool) -> dict[str, Any]:
        links: dict[Cid, None] = {}
        found: list[dict[str, Any]] = []
        done = size_bytes = 0
        end = trio.current_time() + TURN_S
        for cid in contents:
            checked = await self._node.scrub.check(cid.digest, heal=heal)
            done += 1
            size_bytes += len(checked.data)
            if checked.verdict is not Verdict.WHOLE:
                found.append({"content_hash": cid.digest, "verdict": checked.verdict.value})
            with contextlib.suppress(DecodeError):  # anybody may call any bytes dag-cbor; they reach nothing
                links.update(dict.fromkeys(links_in(cid, checked.data) if checked.data else ()))
            if trio.current_time() >= end or size_bytes >= TURN_BYTES:
                break
        return {"done": done, "size_bytes": size_bytes, "found": found, "links": list(links)}

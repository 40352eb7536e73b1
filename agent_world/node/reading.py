"""Reads content that may be anywhere: from here, from neighbours, and what they lack from those whom the DHT names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from agent_world.errors import ErrorCode, Refused
from agent_world.node.counters import Counters
from agent_world.node.distributed_client import DistributedClient
from agent_world.node.large import LargeContent
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId


class ContentReader:
    """Of one node; ``neighbours`` are whom to ask first, in order."""

    def __init__(
        self, large: LargeContent, client: DistributedClient, neighbours: Callable[[], Sequence[PeerId]]
    ) -> None:
        self._large = large
        self._client = client
        self._neighbours = neighbours
        self.counters = Counters()

    async def size(self, cid: Cid) -> int:
        """Bytes of a blob or file; raises Refused (ERR_NOT_AVAILABLE) if nobody who can be found has it."""
        try:
            return await self._large.size(cid, self._neighbours())
        except Refused as error:
            if error.code is not ErrorCode.NOT_AVAILABLE:
                raise
        async with self._client.providers([cid.digest]) as named:
            self.counters.add("reading.elsewhere")
            return await self._large.size(cid, named)

    async def read(self, cid: Cid, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes ``start`` to ``end`` (exclusive, cut at the content's end), verified, while they are fetched.

        Raises Refused and DecodeError as ``LargeContent.read`` once neither neighbours nor providers have a part.
        """
        try:
            async for part in self._large.read(cid, start, end, self._neighbours()):
                start += len(part)
                yield part
            return
        except Refused as error:
            if error.code is not ErrorCode.NOT_AVAILABLE:
                raise
        # Parts of a file are not provided, the file is.
        async with self._client.providers([cid.digest]) as named:
            self.counters.add("reading.elsewhere")
            async for part in self._large.read(cid, start, end, named):
                yield part

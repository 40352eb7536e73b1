"""Reading goes on at providers where neighbours have no more to give, and with nothing read twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from agent_world.crypto.hashing import cid_of
from agent_world.errors import ErrorCode, Refused
from agent_world.node.reading import ContentReader
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import PeerId

DATA = bytes(range(100))
CID = cid_of(DATA)
NEIGHBOUR, PROVIDER = PeerId("neighbour"), PeerId("provider")


class Peers:
    """Who gives how much of DATA, ten bytes at a time; also the DHT."""

    def __init__(self, *, neighbour: int, provider: int, code: ErrorCode = ErrorCode.NOT_AVAILABLE) -> None:
        self.gives = {NEIGHBOUR: neighbour, PROVIDER: provider}
        self.code = code
        self.asked: list[tuple[int, tuple[PeerId, ...]]] = []
        self.open = 0

    async def read(self, _cid: Cid, start: int, end: int, peers: Sequence[PeerId]) -> AsyncIterator[bytes]:
        self.asked.append((start, tuple(peers)))
        most = max((self.gives[peer] for peer in peers), default=0)
        while start < end:
            if start >= most:
                raise Refused(self.code, "no more")
            yield DATA[start : start + 10]
            start += 10

    async def size(self, _cid: Cid, peers: Sequence[PeerId]) -> int:
        if not any(self.gives[peer] for peer in peers):
            raise Refused(self.code, "nobody has it")
        return len(DATA)

    @asynccontextmanager
    async def providers(self, contents: Sequence[ContentHash]) -> AsyncIterator[list[PeerId]]:
        assert list(contents) == [CID.digest], "the file is provided, its parts are not"
        self.open += 1
        yield [PROVIDER]
        self.open -= 1

    def reader(self) -> ContentReader:
        return ContentReader(cast(Any, self), cast(Any, self), lambda: [NEIGHBOUR])


async def read(peers: Peers) -> bytes:
    return b"".join([part async for part in peers.reader().read(CID, 0, len(DATA))])


async def test_neighbours_that_have_it_are_enough() -> None:
    peers = Peers(neighbour=100, provider=0)
    assert await read(peers) == DATA
    assert peers.asked == [(0, (NEIGHBOUR,))]
    assert await peers.reader().size(CID) == len(DATA)


async def test_what_neighbours_lack_comes_from_providers_from_there_on() -> None:
    peers = Peers(neighbour=30, provider=100)
    assert await read(peers) == DATA
    assert peers.asked == [(0, (NEIGHBOUR,)), (30, (PROVIDER,))]
    assert peers.open == 0


async def test_the_size_of_what_no_neighbour_has_is_asked_of_providers() -> None:
    peers = Peers(neighbour=0, provider=100)
    assert await peers.reader().size(CID) == len(DATA)


async def test_what_nobody_has_is_refused() -> None:
    peers = Peers(neighbour=30, provider=20)
    with pytest.raises(Refused, match="no more"):
        await read(peers)


async def test_another_refusal_is_no_reason_to_ask_further() -> None:
    peers = Peers(neighbour=30, provider=100, code=ErrorCode.BUSY)
    with pytest.raises(Refused):
        await read(peers)
    with pytest.raises(Refused):
        await Peers(neighbour=0, provider=100, code=ErrorCode.BUSY).reader().size(CID)
    assert len(peers.asked) == 1

"""Gets content from peers by its hash: verified, from one peer after the other (K-3.1: nothing is trusted)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog

from agent_world.errors import Refused, RemoteError
from agent_world.handlers.blob import open_blobs
from agent_world.net.interface import DistributedNetwork
from agent_world.node.counters import Counters
from agent_world.wire import record, rpc
from agent_world.wire.blob import FetchBlobsRequest
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import BLOBS_PER_REQUEST_MAX

_log = structlog.get_logger("agent_world.fetch")


class BlobFetcher:
    """Asks peers in the order given until everything is there or all were asked once."""

    def __init__(self, network: DistributedNetwork, counters: Counters) -> None:
        self._network = network
        self._counters = counters

    def peers(self, preferred: Sequence[PeerId] = ()) -> list[PeerId]:
        """Connected peers, the preferred ones first."""
        connected = [info.peer for info in self._network.peers()]
        first = [peer for peer in preferred if peer in connected]
        return first + [peer for peer in connected if peer not in first]

    async def fetch(
        self, wanted: Iterable[ContentHash], peers: Sequence[PeerId], *, timeout_s: float | None = None
    ) -> dict[ContentHash, bytes]:
        """What could be had of ``wanted``; never raises for what peers do or fail to do."""
        missing = list(dict.fromkeys(wanted))
        found: dict[ContentHash, bytes] = {}
        for peer in peers:
            if not missing:
                break
            found.update(await self._ask(peer, missing, timeout_s))
            missing = [content for content in missing if content not in found]
        return found

    async def _ask(
        self, peer: PeerId, missing: Sequence[ContentHash], timeout_s: float | None
    ) -> dict[ContentHash, bytes]:
        got: dict[ContentHash, bytes] = {}
        for start in range(0, len(missing), BLOBS_PER_REQUEST_MAX):
            asked = list(missing[start : start + BLOBS_PER_REQUEST_MAX])
            while asked:
                part = await self._ask_once(peer, asked, timeout_s)
                got.update(part)
                rest = [content for content in asked if content not in part]
                # An answer has a byte bound: ask again while it gives something and leaves something.
                asked = rest if part else []
        return got

    async def _ask_once(
        self, peer: PeerId, asked: list[ContentHash], timeout_s: float | None
    ) -> dict[ContentHash, bytes]:
        request = record.to_bytes(FetchBlobsRequest(content_hashes=tuple(asked)))
        try:
            answer = await self._network.request(peer, rpc.FETCH_BLOBS, request, timeout_s=timeout_s)
            return open_blobs(answer, asked)
        except Refused as error:
            self._counters.add(f"fetch.refused.{error.code}")
        except RemoteError as error:
            self._counters.add(f"fetch.wrong_bytes.{error.rule}")
            _log.warning("peer sent wrong bytes", peer=peer, rule=error.rule, detail=error.detail)
        return {}

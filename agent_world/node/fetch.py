"""Gets content from peers by its hash: verified, from one peer after the other (K-3.1: nothing is trusted)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs
import structlog
import trio

from agent_world.errors import ErrorCode, Refused, RemoteError
from agent_world.handlers.blob import open_blobs
from agent_world.net.interface import DistributedNetwork
from agent_world.net.reputation import Offence
from agent_world.node.counters import Counters
from agent_world.wire import record, rpc
from agent_world.wire.blob import FetchBlobsRequest
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import BLOBS_PER_REQUEST_MAX

_log = structlog.get_logger("agent_world.fetch")

PATIENCE_S: Final = 0.5
"""After this the next peer is asked too; the slow one may still answer."""


@attrs.define(slots=True)
class _Hunt:
    """What is still looked for, and what was found; once that is all, ``scope`` ends whatever is still asked."""

    missing: dict[ContentHash, None]
    scope: trio.CancelScope
    found: dict[ContentHash, bytes] = attrs.Factory(dict)

    def take(self, got: dict[ContentHash, bytes]) -> None:
        for content, data in got.items():
            if content in self.missing:
                del self.missing[content]
                self.found[content] = data
        if not self.missing:
            self.scope.cancel()


class BlobFetcher:
    """Asks peers in the order given until everything is there or all were asked once."""

    def __init__(self, network: DistributedNetwork, counters: Counters) -> None:
        self._network = network
        self._counters = counters
        self.order: Callable[[Sequence[PeerId]], list[PeerId]] = list
        """Connected peers -> those to ask, in order."""

    def peers(self, preferred: Sequence[PeerId] = ()) -> list[PeerId]:
        """Whom to ask for content: of the connected peers the preferred ones first, then the most promising."""
        ordered = self.order([info.peer for info in self._network.peers()])
        first = [peer for peer in preferred if peer in ordered]
        return first + [peer for peer in ordered if peer not in first]

    async def fetch(
        self,
        wanted: Iterable[ContentHash],
        peers: Sequence[PeerId],
        *,
        timeout_s: float | None = None,
        patience_s: float = PATIENCE_S,
    ) -> dict[ContentHash, bytes]:
        """What could be had of ``wanted``; never raises for what peers do or fail to do.

        One peer is asked after the other, the next one also when the last has not answered for ``patience_s``;
        ``timeout_s`` bounds each request.
        """
        async with trio.open_nursery() as nursery:
            hunt = _Hunt(dict.fromkeys(wanted), nursery.cancel_scope)
            for peer in peers if hunt.missing else ():
                answered = trio.Event()
                nursery.start_soon(self._ask, peer, hunt, timeout_s, answered)
                with trio.move_on_after(patience_s):
                    await answered.wait()
        return hunt.found

    async def fetch_from(
        self, providers: Sequence[PeerId], wanted: Iterable[ContentHash], *, timeout_s: float | None = None
    ) -> dict[ContentHash, bytes]:
        """All of ``wanted`` from these providers and from nobody else (K-1.2).

        Raises Refused, ERR_NOT_AVAILABLE, if they do not give all of it, whoever else may have it.
        """
        asked = tuple(dict.fromkeys(wanted))
        found = await self.fetch(asked, providers, timeout_s=timeout_s)
        if len(found) < len(asked):
            lacking = next(content for content in asked if content not in found)
            raise Refused(
                ErrorCode.NOT_AVAILABLE,
                f"the {len(providers)} named providers gave {len(found)} of {len(asked)} blobs, not {lacking.hex()}",
            )
        return found

    async def _ask(self, peer: PeerId, hunt: _Hunt, timeout_s: float | None, answered: trio.Event) -> None:
        missing = list(hunt.missing)
        for start in range(0, len(missing), BLOBS_PER_REQUEST_MAX):
            asked = missing[start : start + BLOBS_PER_REQUEST_MAX]
            # An answer has a byte bound: ask again while it gives something and leaves something.
            while asked:
                part = await self._ask_once(peer, asked, timeout_s)
                hunt.take(part)
                asked = [content for content in asked if content in hunt.missing] if part else []
        answered.set()

    async def _ask_once(
        self, peer: PeerId, asked: Sequence[ContentHash], timeout_s: float | None
    ) -> dict[ContentHash, bytes]:
        request = record.to_bytes(FetchBlobsRequest(content_hashes=tuple(asked)))
        try:
            answer = await self._network.request(peer, rpc.FETCH_BLOBS, request, timeout_s=timeout_s)
            found, wrong = open_blobs(answer, asked)
        except Refused as error:
            self._counters.add(f"fetch.refused.{error.code}")
            return {}
        except RemoteError as error:
            self._counters.add(f"fetch.wrong_bytes.{error.rule}")
            self._network.gate.blame(peer, Offence.WRONG_BYTES)
            _log.warning("peer sent no answer to what was asked", peer=peer, rule=error.rule, detail=error.detail)
            return {}
        if wrong:
            self._counters.add("fetch.wrong_bytes.L4", wrong)
            self._network.gate.blame(peer, Offence.WRONG_BYTES)
            _log.warning("peer sent wrong bytes", peer=peer, wrong=wrong, asked=len(asked))
        return found

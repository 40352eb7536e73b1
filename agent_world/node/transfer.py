"""Brings many blobs from several peers at once over streamed bodies, each verified when it arrives (K-3.1).

Every peer works off its own share of what is missing: a fast one takes more, one that fails or lacks something gives
it back to the others. Only the peers that are named are ever asked (K-1.2).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

import attrs
import structlog
import trio

from agent_world.errors import ErrorCode, Refused, RemoteError
from agent_world.handlers.blob import open_part
from agent_world.net.interface import DistributedNetwork
from agent_world.net.reputation import Offence
from agent_world.node.counters import Counters
from agent_world.wire import record, rpc
from agent_world.wire.blob import FetchBlobsRequest
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import BLOBS_PER_REQUEST_MAX

_log = structlog.get_logger("agent_world.transfer")

Sink = Callable[[Mapping[ContentHash, bytes]], Awaitable[None]]
"""Takes verified blobs, as they come."""

SHARE_MIN: Final = 16
"""Blobs asked for in one body at least, if there are as many."""
SHARE_MAX: Final = BLOBS_PER_REQUEST_MAX // 4
"""Blobs asked for in one body at most: 64 MiB of chunks, which a slow link carries within the time of a body."""
PROVIDERS_MAX: Final = 4
"""Peers asked at the same time; one is enough to fill a link, several take over from each other."""
BODIES_PER_PEER: Final = 2
"""Bodies asked of one peer at the same time: while one ends and the next begins, the other keeps the link busy."""
FAILURES_MAX: Final = 3
"""Bodies in a row that brought nothing; after them the peer is asked no more in this transfer."""
BODY_TIME_S: Final = 300.0
"""For one share."""
_FINAL: Final = (ErrorCode.UNSUPPORTED, ErrorCode.NOT_AVAILABLE)
"""Refusals that are the same the next time."""


@attrs.define(slots=True)
class _Provider:
    """What this transfer knows of a peer."""

    lacking: set[ContentHash] = attrs.Factory(set)
    failures: int = 0
    """Bodies in a row that brought nothing."""
    is_useless: bool = False


@attrs.define(slots=True)
class _Transfer:
    """What is still looked for, and by whom it is being fetched."""

    todo: dict[ContentHash, None]
    sink: Sink
    in_flight: int = 0
    changed: trio.Event = attrs.Factory(trio.Event)

    def take(self, provider: _Provider, sharers: int) -> list[ContentHash]:
        """A share of what this peer may have."""
        size = min(SHARE_MAX, max(SHARE_MIN, len(self.todo) // (2 * sharers)))
        share: list[ContentHash] = []
        for content in self.todo:
            if content not in provider.lacking:
                share.append(content)
                if len(share) == size:
                    break
        for content in share:
            del self.todo[content]
        self.in_flight += len(share)
        return share

    def give_back(self, contents: Iterable[ContentHash]) -> None:
        """Not brought: somebody else may."""
        for content in contents:
            self.todo[content] = None
            self.in_flight -= 1
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class BlobTransfer:
    """Fetches over the network of one node."""

    def __init__(self, network: DistributedNetwork, counters: Counters) -> None:
        self._network = network
        self._counters = counters

    async def fetch(
        self, wanted: Iterable[ContentHash], peers: Sequence[PeerId], sink: Sink
    ) -> tuple[ContentHash, ...]:
        """Hand what can be had of ``wanted`` to ``sink``; returns what could not, in the order asked.

        Never raises for what peers do or fail to do; errors of ``sink`` end it.
        """
        asked = dict.fromkeys(wanted)
        if not asked or not peers:
            return tuple(asked)
        transfer = _Transfer(asked, sink)
        waiting = iter(peers)
        workers = min(PROVIDERS_MAX, len(peers))
        async with trio.open_nursery() as nursery:
            for _ in range(workers):
                nursery.start_soon(self._ask_in_turn, waiting, transfer, workers * BODIES_PER_PEER)
        return tuple(transfer.todo)

    async def _ask_in_turn(self, waiting: Iterable[PeerId], transfer: _Transfer, sharers: int) -> None:
        """One worker: a peer until it is of no more use, then the next that nobody has asked."""
        for peer in waiting:
            provider = _Provider()
            async with trio.open_nursery() as nursery:
                for _ in range(BODIES_PER_PEER):
                    nursery.start_soon(self._drain, peer, provider, transfer, sharers)

    async def _drain(self, peer: PeerId, provider: _Provider, transfer: _Transfer, sharers: int) -> None:
        while not provider.is_useless:
            share = transfer.take(provider, sharers)
            if not share:
                if not transfer.in_flight:
                    return
                await transfer.changed.wait()  # somebody else may yet give something back
                continue
            try:
                brought, code = await self._bring(peer, provider, share, transfer)
            finally:
                transfer.give_back(share)  # what is left in it
            provider.failures = 0 if brought else provider.failures + 1
            if brought or provider.is_useless:
                continue
            provider.is_useless = provider.failures >= FAILURES_MAX or code in _FINAL
            if code is not None and not provider.is_useless:
                await trio.sleep(0.1 * provider.failures)  # busy or slow: others go on meanwhile

    async def _bring(
        self, peer: PeerId, provider: _Provider, share: list[ContentHash], transfer: _Transfer
    ) -> tuple[int, ErrorCode | None]:
        """Ask for a share and remove from it what is settled; how many blobs came, and why no more did."""
        brought = 0
        request = record.to_bytes(FetchBlobsRequest(content_hashes=tuple(share)))
        left = list(share)
        try:
            async with self._network.open_body(peer, rpc.STREAM_BLOBS, request, timeout_s=BODY_TIME_S) as parts:
                async for part in parts:
                    found, wrong, answered = open_part(part, left)
                    if wrong:
                        self._counters.add("transfer.wrong_bytes", wrong)
                        self._network.gate.blame(peer, Offence.WRONG_BYTES)
                        _log.warning("peer sent wrong bytes", peer=peer, wrong=wrong)
                    self._settle(provider, left[:answered], found, share, transfer)
                    del left[:answered]
                    brought += len(found)
                    if found:
                        await transfer.sink(found)
        except Refused as error:
            self._counters.add(f"transfer.refused.{error.code}")
            return brought, error.code
        except RemoteError as error:
            self._counters.add(f"transfer.broken.{error.rule}")
            self._network.gate.blame(peer, Offence.WRONG_BYTES)
            _log.warning("peer sent no answer to what was asked", peer=peer, rule=error.rule, detail=error.detail)
            return brought, ErrorCode.NOT_AVAILABLE
        # A body that ends early without a word leaves the rest unanswered: this peer has been asked for it.
        provider.lacking.update(left)
        return brought, None

    def _settle(
        self,
        provider: _Provider,
        answered: Sequence[ContentHash],
        found: Mapping[ContentHash, bytes],
        share: list[ContentHash],
        transfer: _Transfer,
    ) -> None:
        """Take the answered ones out of the share; what was not among the found goes to other peers."""
        missing = [content for content in answered if content not in found]
        provider.lacking.update(missing)
        del share[: len(answered)]
        transfer.in_flight -= len(found)
        transfer.give_back(missing)
        self._counters.add("transfer.blobs", len(found))

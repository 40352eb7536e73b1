"""Content from those whom the DHT names, and from nobody else: directed, verified, one provider after the other (3.8).

``Sources`` asks neighbours first and is what a node uses for itself; this is for who wants to know that the providers
of a content serve it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import trio

from agent_world.distfs.distribution import DistributionPolicy, audit_distribution
from agent_world.distfs.providers import DEFAULT_POLICY, ProviderRecord, ProviderSelectionPolicy, rank_providers
from agent_world.errors import ErrorCode, Refused, RemoteError
from agent_world.handlers.blob import open_blob
from agent_world.net.interface import DistributedDht, DistributedNetwork
from agent_world.net.reputation import Offence
from agent_world.node.counters import Counters
from agent_world.wire import record, rpc
from agent_world.wire.blob import FetchBlobRequest
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import PeerId

LOOKUP_S: Final = 15.0
"""Longest look-up in the DHT."""
CONNECT_S: Final = 5.0
POLL_S: Final = 0.05
Describe = Callable[[PeerId], ProviderRecord]
"""What is known of a peer."""


class DistributedClient:
    """Of one node. ``describe`` is for the order in which providers are asked."""

    def __init__(
        self,
        network: DistributedNetwork,
        dht: DistributedDht,
        describe: Describe,
        policy: ProviderSelectionPolicy = DEFAULT_POLICY,
    ) -> None:
        self._network = network
        self._dht = dht
        self._describe = describe
        self._policy = policy
        self.counters = Counters()

    async def fetch_blob_from_dht(self, content: ContentHash, now_ms: int) -> bytes:
        """Verified bytes from the best provider that gives them.

        Raises Refused: ERR_NOT_AVAILABLE without a provider, and then nobody was asked; else the error of the last
        provider. A provider that gives other bytes is reported, and the next one is asked (K-3.1). Raises Unavailable
        if nobody in the DHT answers.
        """
        providers = await self.providers(content, now_ms)
        if not providers:
            raise Refused(ErrorCode.NOT_AVAILABLE, f"the DHT names no provider of {content.hex()}")
        last: Exception | None = None
        for peer in providers:
            try:
                return await self._fetch(peer, content)
            except (Refused, RemoteError) as error:
                self.counters.add("client.provider_failed")
                last = error
        if isinstance(last, Refused):
            raise last
        raise Refused(ErrorCode.INVALID_HASH, f"no provider gave {content.hex()}: {last}")

    async def fetch_blobs_from_dht(
        self, contents: Iterable[ContentHash], now_ms: int, distribution: DistributionPolicy | None = None
    ) -> dict[ContentHash, bytes]:
        """All of ``contents``; raises as for one. With ``distribution`` nobody is asked unless they are spread so."""
        wanted = list(dict.fromkeys(contents))
        if distribution is not None:
            named = {content: await self.providers(content, now_ms) for content in wanted}
            audit_distribution(wanted, named, distribution)
        return {content: await self.fetch_blob_from_dht(content, now_ms) for content in wanted}

    async def providers(self, content: ContentHash, now_ms: int) -> Sequence[PeerId]:
        """Others whom the DHT names, the best first; raises Unavailable if nobody in it answers."""
        # The codec is no part of the key: providers are those of the hash.
        found = await self._dht.find_providers(Cid(Codec.RAW, content), timeout_s=LOOKUP_S)
        others = [self._describe(peer) for peer in found if peer != self._network.peer_id]
        return [ranked.provider_id for ranked in rank_providers(others, now_ms, self._policy)]

    async def _connect(self, peer: PeerId) -> None:
        """Have a connection, or find none in time: then the request says so."""
        for address in self._dht.addresses(peer):
            self._network.dial(peer, address)
        with trio.move_on_after(CONNECT_S):
            # The network's events have other readers.
            while not any(info.peer == peer for info in self._network.peers()):  # noqa: ASYNC110
                await trio.sleep(POLL_S)

    async def _fetch(self, peer: PeerId, content: ContentHash) -> bytes:
        await self._connect(peer)
        request = record.to_bytes(FetchBlobRequest(content_hash=content))
        try:
            return open_blob(await self._network.request(peer, rpc.FETCH_BLOB, request), content)
        except RemoteError:
            self._network.gate.blame(peer, Offence.WRONG_BYTES)
            raise

"""The one way a node gets content by its hash: verified, from peers that are named one by one (3.8).

Neighbours come first, in the order of ``sources``; then those whom the DHT names, the best first. The functions called
``..._from_dht`` ask the latter and nobody else, so a caller learns whether the providers of a content serve it. No
request goes to whoever may answer: the network has no such request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from agent_world.distfs.distribution import DistributionPolicy, audit_distribution
from agent_world.distfs.providers import DEFAULT_POLICY, ProviderRecord, ProviderSelectionPolicy, rank_providers
from agent_world.errors import ErrorCode, Refused, RemoteError
from agent_world.handlers.blob import open_blob
from agent_world.handlers.module import check_artifact_answer, check_manifest_answer
from agent_world.net.interface import DistributedNetwork
from agent_world.net.reputation import Offence
from agent_world.node.counters import Counters
from agent_world.node.fetch import BlobFetcher
from agent_world.node.provider_search import CONTENTS_MAX, ProviderSearch
from agent_world.wire import record, rpc
from agent_world.wire.blob import FetchBlobRequest
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import Label, PeerId
from agent_world.wire.module import GetModuleArtifactRequest, GetModuleManifestRequest

Describe = Callable[[PeerId], ProviderRecord]
"""What is known of a peer."""


class DistributedClient:
    """Of one node. ``describe`` is for the order in which providers are asked."""

    def __init__(
        self,
        network: DistributedNetwork,
        search: ProviderSearch,
        fetcher: BlobFetcher,
        describe: Describe,
        policy: ProviderSelectionPolicy = DEFAULT_POLICY,
    ) -> None:
        self._network = network
        self._search = search
        self._fetcher = fetcher
        self._describe = describe
        self._policy = policy
        self.counters = Counters()

    async def fetch(self, wanted: Iterable[ContentHash]) -> dict[ContentHash, bytes]:
        """What could be had of ``wanted``: from neighbours, then from providers; never raises for what peers do."""
        asked = tuple(dict.fromkeys(wanted))
        found = await self.fetch_near(asked)
        missing = [content for content in asked if content not in found]
        if missing:
            found.update(await self.fetch_far(missing))
        return found

    async def fetch_near(
        self, wanted: Iterable[ContentHash], preferred: Sequence[PeerId] = ()
    ) -> dict[ContentHash, bytes]:
        """What neighbours have of ``wanted``, the preferred ones asked first; never raises for what peers do."""
        return await self._fetcher.fetch(wanted, self._fetcher.peers(preferred))

    async def fetch_far(self, wanted: Sequence[ContentHash]) -> dict[ContentHash, bytes]:
        """What those have of ``wanted`` whom the DHT names for some of it; never raises for what peers do."""
        async with self.providers(wanted) as providers:
            found = await self._fetcher.fetch(wanted, providers) if providers else {}
        self.counters.add("sources.from_providers", len(found))
        return found

    @asynccontextmanager
    async def providers(self, contents: Sequence[ContentHash]) -> AsyncIterator[list[PeerId]]:
        """Connected peers that the DHT names for any of ``contents``, the best first, as long as the block lasts."""
        async with self._search.providers(contents) as found:
            yield self._rank(found, 0)

    async def named(self, content: ContentHash, now_ms: int) -> Sequence[PeerId]:
        """Whom the DHT names for ``content``, connected or not, the best first; raises as ``fetch_blob_from_dht``."""
        return self._rank((await self._search.named([content])).get(content, ()), now_ms)

    async def fetch_blob_from_dht(self, content: ContentHash, now_ms: int) -> bytes:
        """Verified bytes from the best provider that gives them.

        Raises Refused: ERR_NOT_AVAILABLE without a provider, and then nobody was asked, ERR_UNSUPPORTED of a node that
        has joined no DHT, ERR_BUSY if too many searches wait; else the error of the last provider. A provider that
        gives other bytes is reported, and the next one is asked (K-3.1). Raises Unavailable if nobody in the DHT
        answers.
        """
        return (await self.fetch_blobs_from_dht([content], now_ms))[content]

    async def fetch_blobs_from_dht(
        self, contents: Iterable[ContentHash], now_ms: int, distribution: DistributionPolicy | None = None
    ) -> dict[ContentHash, bytes]:
        """All of ``contents``; raises as for one. With ``distribution`` nobody is asked unless they are spread so."""
        wanted = list(dict.fromkeys(contents))
        named: dict[ContentHash, Sequence[PeerId]] = {}
        for start in range(0, len(wanted), CONTENTS_MAX):
            found = await self._search.named(wanted[start : start + CONTENTS_MAX])
            named.update({content: self._rank(peers, now_ms) for content, peers in found.items()})
        if distribution is not None:
            audit_distribution(wanted, named, distribution)
        return {content: await self._first(named.get(content, ()), content, self._blob) for content in wanted}

    async def fetch_module_manifest_from_dht(self, module_id: Label, manifest_hash: ContentHash, now_ms: int) -> bytes:
        """The manifest of a module from a provider that has it registered; raises as ``fetch_blob_from_dht``.

        A module's hashes are those of the blobs (D2), so a reference to another blob is a wrong answer.
        """

        async def ask(peer: PeerId, content: ContentHash) -> bytes:
            request = GetModuleManifestRequest(module_id=module_id, manifest_hash=content)
            check_manifest_answer(
                await self._network.request(peer, rpc.GET_MODULE_MANIFEST, record.to_bytes(request)), content
            )
            return await self._blob(peer, content)

        return await self._first(await self.named(manifest_hash, now_ms), manifest_hash, ask)

    async def fetch_module_artifact_from_dht(self, wasm_hash: ContentHash, now_ms: int) -> bytes:
        """The program of a module, as its manifest."""

        async def ask(peer: PeerId, content: ContentHash) -> bytes:
            request = record.to_bytes(GetModuleArtifactRequest(wasm_hash=content))
            check_artifact_answer(await self._network.request(peer, rpc.GET_MODULE_ARTIFACT, request), content)
            return await self._blob(peer, content)

        return await self._first(await self.named(wasm_hash, now_ms), wasm_hash, ask)

    async def _first(
        self,
        providers: Sequence[PeerId],
        content: ContentHash,
        ask: Callable[[PeerId, ContentHash], Awaitable[bytes]],
    ) -> bytes:
        """What the first provider gives that gives what was asked for; raises the error of the last."""
        if not providers:
            raise Refused(ErrorCode.NOT_AVAILABLE, f"the DHT names no provider of {content.hex()}")
        last: Refused | RemoteError | None = None
        for peer in providers:
            try:
                async with self._search.linked([peer]):
                    return await ask(peer, content)
            except Refused as error:
                last = error
            except RemoteError as error:
                self._network.gate.blame(peer, Offence.WRONG_BYTES)
                last = error
            self.counters.add("sources.provider_failed")
        if isinstance(last, Refused):
            raise last
        raise Refused(ErrorCode.INVALID_HASH, f"no provider gave {content.hex()}: {last}")

    async def _blob(self, peer: PeerId, content: ContentHash) -> bytes:
        request = record.to_bytes(FetchBlobRequest(content_hash=content))
        return open_blob(await self._network.request(peer, rpc.FETCH_BLOB, request), content)

    def _rank(self, peers: Iterable[PeerId], now_ms: int) -> list[PeerId]:
        ranked = rank_providers(map(self._describe, peers), now_ms, self._policy)
        return [each.provider_id for each in ranked]

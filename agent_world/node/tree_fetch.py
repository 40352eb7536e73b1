"""Brings content with all that it links to here: for pins, and for an index that is imported from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs
import trio

from agent_world.distfs.links import links_in
from agent_world.distfs.manifest import manifest_size
from agent_world.errors import BlobHashMismatch, BlobNotFound, DecodeError, ErrorCode, Refused
from agent_world.node.clock import Clock
from agent_world.node.distributed_client import DistributedClient
from agent_world.node.large import LargeContent
from agent_world.store.blobs import LocalCasStore
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.ids import PeerId

BATCH: Final = 32
"""Missing blobs asked for at a time; at most 32 MiB in memory."""
RETRY_S: Final = 0.5
"""Pause before what nobody gave is asked for again: a peer that has it may be about to come."""


@attrs.define(slots=True)
class Brought:
    """How far it came."""

    fetched: int = 0
    """Blobs that were not here."""
    is_whole: bool = False
    """False: the time was over first; what was fetched is kept, and another call goes on."""


class TreeFetcher:
    """Of one node."""

    def __init__(
        self,
        blobs: LocalCasStore,
        client: DistributedClient,
        large: LargeContent,
        peers: Callable[[], Sequence[PeerId]],
        clock: Clock,
    ) -> None:
        self._blobs = blobs
        self._client = client
        self._large = large
        self._peers = peers
        self._clock = clock

    async def bring(self, cid: Cid, timeout_s: float, *, recursive: bool = True) -> Brought:
        """Fetch what is missing below ``cid``; for a file's chunks several peers at once.

        What is here already is looked at without a limit of time, and stays like what is fetched while the caller has a
        hold. Raises Refused (ERR_NOT_AVAILABLE) once the time is over and nothing came in it, naming a blob that nobody
        gave; DecodeError for a file that is none; StoreFull.
        """
        until_ms = self._clock.now_ms() + int(timeout_s * 1000)
        brought = Brought()
        seen, stack = {cid}, [cid]
        while stack:
            group, stack = stack[-BATCH:], stack[:-BATCH]
            if not await self._bring(group, until_ms, brought):
                return brought
            for item in group if recursive else ():
                new = [link for link in await self._below(item, brought) if link not in seen]
                seen.update(new)
                stack += new
            await trio.lowlevel.checkpoint()
        brought.is_whole = True
        return brought

    async def _bring(self, group: Sequence[Cid], until_ms: int, brought: Brought) -> bool:
        here = self._blobs.rely_on([item.digest for item in group])
        missing = [item.digest for item in group if item.digest not in here]
        while missing:
            found = await self._client.fetch(missing)
            self._blobs.put_many(found.values())
            brought.fetched += len(found)
            missing = [digest for digest in missing if digest not in found]
            if self._clock.now_ms() >= until_ms:
                if missing and not brought.fetched:
                    raise Refused(ErrorCode.NOT_AVAILABLE, f"{missing[0].hex()} is not here and no peer gave it")
                return not missing
            await trio.sleep(RETRY_S if missing else 0)
        return True

    async def _below(self, cid: Cid, brought: Brought) -> list[Cid]:
        if cid.codec is Codec.RAW:
            return []
        try:
            data = self._blobs.get(cid.digest)
            links = links_in(cid, data)
        except (BlobNotFound, BlobHashMismatch) as error:
            raise Refused(ErrorCode.NOT_AVAILABLE, f"{cid} is damaged here: {error}") from None
        except DecodeError:
            return []  # anybody may call any bytes dag-cbor: those that are not link to nothing
        if manifest_size(cid, data) is not None:
            here = self._blobs.has_many([link.digest for link in links])
            if len(here) < len(set(links)):
                pulled = await self._large.pull(cid, self._peers())
                brought.fetched += len(set(links)) - len(here) - pulled.missing
        return links

"""The storage role: holds everything that committed blocks link to, or its share of what the world names (D9).

It walks the links of every committed block. What this node executed is here already; what lies outside the state
(content of objects) is fetched from peers, several times if need be, and marked unavailable after that: nothing
ever waits for it. Of a file the manifest is fetched here and the chunks by ``pull_files``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs
import structlog
import trio

from agent_world.distfs.links import links_in, reachable
from agent_world.distfs.manifest import manifest_size
from agent_world.errors import BlobHashMismatch, BlobNotFound, ChainError, DecodeError, StoreFull
from agent_world.node.clock import Clock
from agent_world.node.content_seeking import ContentSeeker
from agent_world.node.counters import Counters
from agent_world.node.distributed_client import DistributedClient
from agent_world.node.large import LargeContent
from agent_world.node.ledger import Ledger
from agent_world.node.pull_files import FilePuller
from agent_world.store.blob_store import BlobStore
from agent_world.store.content import Content, ContentState, ContentTable
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.ids import PeerId

if TYPE_CHECKING:
    from agent_world.node.node import Node

_log = structlog.get_logger("agent_world.storage")

COMPLETE_MAX: Final = 262_144
"""Links remembered as wholly here, so that each block's walk is as short as what it changed; about 30 MiB."""
BATCH_ITEMS: Final = 64
"""Content asked for in one go; as much is in memory, at most 1 MiB each."""
JOURNAL_ATTEMPTS_MAX: Final = 3
"""Tries to read a journal: its index, then its segments may have to be fetched again."""
IDLE_S: Final = 1.0
"""Longest pause of the loop; a commit ends it at once."""
REOPEN_MS: Final = 600_000
"""Unavailable content is looked for again this often, and soon after a peer has come that was not here before."""
REOPEN_PAUSE_MS: Final = 10_000
"""However many peers come, they bring it about no more often than this."""


PREFERRED_MAX: Final = 1_024
"""Contents of which it is remembered who has them; the oldest is forgotten, and everybody is asked for it."""


class Assignment(Protocol):
    """Which of the content that the world names is pulled; satisfied by ``holdings.Holdings``."""

    def named(self, contents: dict[Cid, int], at_ms: int) -> None:
        """A block of this time names these, with their sizes in bytes."""
        ...

    def undecided(self, limit: int) -> tuple[Content, ...]:
        """Content that is neither wanted nor left to others yet."""
        ...

    def decide(self, item: Content, *, is_here: bool) -> None:
        """Want it or leave it."""
        ...


@attrs.frozen(slots=True)
class PullParts:
    """What a puller works with."""

    ledger: Ledger
    blobs: BlobStore
    table: ContentTable
    client: DistributedClient
    large: LargeContent
    neighbours: Callable[[], Sequence[PeerId]]
    """Whom to ask for the parts of files, in order."""
    clock: Clock


class Puller:
    """Keeps the storage role's promise for one node."""

    def __init__(self, parts: PullParts) -> None:
        self._ledger = parts.ledger
        self._blobs = parts.blobs
        self._table = parts.table
        self._client = parts.client
        self._seeker = ContentSeeker(parts.client, self._found_elsewhere)
        self._clock = clock = parts.clock
        self._files = FilePuller(parts.table, parts.large, parts.neighbours, parts.client.providers, clock)
        self._complete: set[Cid] = set()
        self._walked_height = 0
        self._reopened_ms = clock.now_ms()
        self._peer_came = False
        self._assignment: Assignment | None = None
        self._preferred: OrderedDict[Cid, PeerId] = OrderedDict()
        self._kept: Callable[[Cid], None] = lambda _cid: None
        self.counters = Counters()
        for part in (self._seeker, self._files):
            part.counters = self.counters

    def assign(self, assignment: Assignment, kept: Callable[[Cid], None]) -> None:
        """Leave content to others as ``assignment`` says; ``kept`` is told of what is here as a whole."""
        self._assignment = assignment
        self._kept = self._files.kept = kept

    def prefer(self, cid: Cid, source: PeerId) -> None:
        """Somebody has said who has this content; asked first, if connected."""
        self._preferred[cid] = source
        while len(self._preferred) > PREFERRED_MAX:
            self._preferred.popitem(last=False)

    def peer_came(self) -> None:
        """A peer that was not connected before may have what nobody had."""
        self._peer_came = True

    def status(self) -> dict[str, Any]:
        """For ``node status``."""
        counts = self._table.counts()
        return {
            "walked_height": self._walked_height,
            **{state.value: counts[state].items for state in ContentState if state in counts},
            "files": self._files.status(),
            "unavailable_content": [
                {"cid": str(item.cid), "last_error": item.last_error}
                for item in self._table.list(ContentState.UNAVAILABLE, 20)
            ],
        }

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._seeker.run)
            nursery.start_soon(self._files.run)
            nursery.start_soon(self._follow)

    async def _follow(self) -> None:
        while True:
            for height in range(self._walked_height + 1, self._ledger.height + 1):
                await self._walk(height)
                self._walked_height = height  # not before: a fault of the disk in between must not skip it
                await trio.lowlevel.checkpoint()
            self._reopen()
            await self._decide()
            due = self._table.due(self._clock.wall_ms(), BATCH_ITEMS)
            if due:
                await self._pull(due)
            else:
                await self._rest()

    async def _decide(self) -> None:
        if self._assignment is None:
            return
        for item in self._assignment.undecided(BATCH_ITEMS):
            data = self._get(item.cid)
            is_here = data is not None and await self._is_whole(item.cid, data)
            self._assignment.decide(item, is_here=is_here)

    async def _is_whole(self, cid: Cid, data: bytes) -> bool:
        size = manifest_size(cid, data)
        return size is None or await self._files.is_whole(cid, size)

    async def _rest(self) -> None:
        due_ms = self._table.next_due_ms()
        pause = IDLE_S if due_ms is None else min(IDLE_S, max(0.01, (due_ms - self._clock.wall_ms()) / 1000))
        with trio.move_on_after(pause):
            await self._ledger.wait_above(self._walked_height)

    def _reopen(self) -> None:
        pause_ms = REOPEN_PAUSE_MS if self._peer_came else REOPEN_MS
        if self._clock.now_ms() - self._reopened_ms >= pause_ms:
            self._reopened_ms, self._peer_came = self._clock.now_ms(), False
            self.counters.add("storage.reopened", self._table.reopen(self._clock.wall_ms(), BATCH_ITEMS))

    async def _walk(self, height: int) -> None:
        """Note what the block at ``height`` links to and is not here."""
        try:
            links = self._ledger.links(height)
        except ChainError as error:
            # The row is the home's to repair; what it links to is reached from the next state as well.
            self.counters.add("storage.block_damaged")
            _log.error("a stored block is damaged", height=height, error=str(error))
            return
        stated = await self._stated_sizes(height)
        if self._assignment is not None:
            self._assignment.named(stated, self._ledger.time_ms(height))
        wanted: list[tuple[Cid, int]] = []
        for cid, data in self._below(links):
            if data is None or not await self._is_complete(cid, data):
                wanted.append((cid, stated.get(cid, 0)))
            elif cid not in self._complete and len(self._complete) < COMPLETE_MAX:
                self._complete.add(cid)
        if wanted:
            self._want(wanted)
        if len(self._complete) >= COMPLETE_MAX:
            self._complete.clear()

    async def _is_complete(self, cid: Cid, data: bytes) -> bool:
        """Whether content of which these bytes are here is here as a whole: files are more than their manifest."""
        if cid in self._complete or (size := manifest_size(cid, data)) is None:
            return True
        known = self._table.get(cid)
        return known is not None and known.state is ContentState.HAVE and await self._files.is_whole(cid, size)

    def _want(self, wanted: list[tuple[Cid, int]]) -> None:
        now_ms = self._clock.wall_ms()
        self._table.want(wanted, now_ms)
        for cid, _size in wanted:
            if self._table.mark_lost(cid, now_ms):
                self.counters.add("storage.lost")

    async def _stated_sizes(self, height: int) -> dict[Cid, int]:
        """The sizes stated at ``height``; its journal is fetched again first if it is damaged here."""
        for _attempt in range(JOURNAL_ATTEMPTS_MAX):
            try:
                return self._ledger.stated_sizes(height)
            except (BlobNotFound, BlobHashMismatch) as error:
                self.counters.add("storage.damaged")
                _log.warning("a damaged journal is fetched again", height=height, error=str(error))
            missing = [cid.digest for cid, data in reachable(self._ledger.journal(height), self._get) if data is None]
            found = await self._client.fetch_near(missing)
            self._blobs.put_many(found.values())
        return {}

    def _below(self, roots: Sequence[Cid]) -> list[tuple[Cid, bytes | None]]:
        return list(reachable(roots, self._get, skip=self._complete.__contains__, below=_links_below))

    def _get(self, cid: Cid) -> bytes | None:
        # A raw blob has no links: knowing that it is here is enough.
        if cid.codec is Codec.RAW:
            return b"" if self._blobs.has(cid.digest) else None
        try:
            return self._blobs.get(cid.digest)
        except BlobNotFound:
            return None
        except BlobHashMismatch as error:
            self.counters.add("storage.damaged")
            _log.warning("a stored blob was damaged; it is fetched again", cid=str(cid), error=str(error))
            return None

    async def _pull(self, due: tuple[Content, ...]) -> None:
        # Handed in at this node, or brought by the walk of another block since it was noted.
        found = self._blobs.get_many(item.cid.digest for item in due)
        missing = [item.cid.digest for item in due if item.cid.digest not in found]
        preferred = [source for item in due if (source := self._preferred.pop(item.cid, None)) is not None]
        found.update(await self._client.fetch_near(missing, tuple(dict.fromkeys(preferred))))
        # Only what the world names with a size is provided; parts are found through it.
        named = [item.cid for item in due if item.size_bytes and item.cid.digest not in found]
        self._seeker.want(filter(self._is_wanted, named))
        for item in due:
            data = found.get(item.cid.digest)
            problem = self._refuse(item, data)
            if problem is None:
                assert data is not None, "what was not found is refused"
                problem = self._keep(item.cid, data)
            if problem is not None and self._is_wanted(item.cid):
                state = self._table.mark_failed(item.cid, problem, self._clock.wall_ms())
                self.counters.add(f"storage.{state.value}")

    def _is_wanted(self, cid: Cid) -> bool:
        """False if it was found elsewhere while the neighbours were asked."""
        item = self._table.get(cid)
        return item is not None and item.state is ContentState.WANTED

    async def _found_elsewhere(self, cid: Cid, data: bytes) -> None:
        """A provider that is no neighbour has given it, perhaps after the last try over the neighbours."""
        item = self._table.get(cid)
        problem = None if item is None else self._refuse(item, data)
        if problem is None:
            self._keep(cid, data)  # without room for it, it stays wanted
        else:
            self.counters.add("storage.provided_wrong")
            _log.warning("a provider has other content than was stated", cid=str(cid), problem=problem)

    def _refuse(self, item: Content, data: bytes | None) -> str | None:
        """Why the content cannot be kept; None if it can."""
        if data is None:
            return "no connected peer has it"
        # The content of a manifest is the file: its size is what counts, in quotas as well.
        file_size = manifest_size(item.cid, data)
        size = len(data) if file_size is None else file_size
        if item.size_bytes and size != item.size_bytes:
            return f"its creator stated {item.size_bytes} bytes, it has {size}"
        return None

    def _keep(self, cid: Cid, data: bytes) -> str | None:
        """Store it and note what it links to; why it could not be stored, or None."""
        try:
            self._blobs.put(data)
        except StoreFull as error:
            self.counters.add("storage.no_room")
            return str(error)
        self.counters.add("storage.pulled")
        self.counters.add("storage.pulled_bytes", len(data))
        self._note(cid, data)
        return None

    def _note(self, cid: Cid, data: bytes) -> None:
        file_size = manifest_size(cid, data)
        if file_size:
            self._table.mark_fetching(cid, file_size, self._clock.wall_ms())
            self._files.wake()
            return
        self._table.mark_have([cid])
        self._kept(cid)
        try:
            links = links_in(cid, data)
        except DecodeError:
            self.counters.add("storage.unparsable")
            return
        missing = [(link, 0) for link in links if not self._blobs.has(link.digest)]
        if missing:
            self._table.want(missing, self._clock.wall_ms())


def _links_below(cid: Cid, data: bytes) -> list[Cid]:
    """A file is one thing here; its chunks are not content of their own."""
    return [] if manifest_size(cid, data) is not None else links_in(cid, data)


def puller_of(node: Node) -> Puller:
    """The puller of a storage node whose content client is built."""
    neighbours = node.fetcher.peers
    parts = PullParts(node.ledger, node.blobs, node.content, node.client, node.large, neighbours, node.clock)
    return Puller(parts)

"""Gives up copies that others hold as well: proved by challenge, promised by their holders, then withdrawn (K-3.7).

The content is given up only after as many others as copies are wanted have promised to keep theirs and have shown
that they hold it. Who is about to give it up promises nothing, so of two that want to go at once none can rely on the
other, whoever asked them to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import structlog
import trio

from agent_world.distfs.links import links_in, reachable
from agent_world.distfs.manifest import manifest_size
from agent_world.errors import BlobHashMismatch, BlobNotFound, DecodeError, ErrorCode, Refused
from agent_world.handlers.replica import check_promise
from agent_world.node.counters import Counters
from agent_world.node.holdings import PLEDGE_MS, Holdings
from agent_world.node.replica_ask import ReplicaAsker
from agent_world.node.replica_outside import Challenge
from agent_world.store.blob_store import BlobStore
from agent_world.store.content import ContentState, ContentTable
from agent_world.store.own_content import OwnContent
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import PeerId
from agent_world.wire.replica import Holding, ReplicaAsk

_log = structlog.get_logger("agent_world.replicas")

RELEASE_MAX_S: Final = PLEDGE_MS / 1_000 / 2
"""For one content, from the first promise on: half of what a promise lasts."""
FREE_PAUSE_S: Final = 10.0
"""At least so long between two collections for what was given up; its bytes count as free before they are freed."""
FREE_SHARE: Final = 20
"""And so many times as long as the last one took, as each follows every root of the home."""


class Releases:
    """Of one storage node."""

    def __init__(
        self, holdings: Holdings, asker: ReplicaAsker, table: ContentTable, blobs: BlobStore, own: OwnContent
    ) -> None:
        self._holdings = holdings
        self._asker = asker
        self._table = table
        self._blobs = blobs
        self._own = own
        self._news = trio.Event()
        self._given_up = trio.Event()
        holdings.leave_soon = self._wake
        self.challenge: Challenge | None = None
        """Set before ``run``."""
        self.withdraw: Callable[[Cid], None] = lambda _content: None
        """Says in the DHT that this node does not serve it any more."""
        self.collect: Callable[[], Awaitable[Any]] = trio.lowlevel.checkpoint
        """Frees what was given up."""
        self.last_error: str | None = None
        """Why the last content could not be given up; kept until one was."""
        self.counters = Counters()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        if self._own.discarded_bytes():
            self._given_up.set()  # the process has ended before it was freed
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._give_up_all)
            nursery.start_soon(self._free_now_and_then)

    async def _give_up_all(self) -> None:
        leaving = self._holdings.leaving
        while True:
            if not leaving:
                await self._news.wait()
            while leaving:
                content = next(iter(leaving))
                try:
                    if await self._try(content):
                        self._given_up.set()
                finally:
                    leaving.pop(content, None)

    async def _free_now_and_then(self) -> None:
        while True:
            await self._given_up.wait()
            self._given_up = trio.Event()
            started_ms = self._holdings.now_ms()
            try:
                await self.collect()
            except Refused as error:  # another process collects
                self.counters.add("replicas.not_freed")
                _log.info("what was given up is freed later", error=str(error))
            if self._own.discarded_bytes():  # an import is under way, and may have found it here
                self._given_up.set()
            took_s = (self._holdings.now_ms() - started_ms) / 1_000
            await trio.sleep(max(FREE_PAUSE_S, FREE_SHARE * took_s))

    async def _try(self, content: Cid) -> bool:
        started_ms = self._holdings.now_ms()
        try:
            with trio.fail_after(RELEASE_MAX_S):
                await self._make_sure(content)
            if self._holdings.now_ms() - started_ms > 1_000 * RELEASE_MAX_S:
                raise trio.TooSlowError  # the process was stopped meanwhile: the promises may be over
        except trio.TooSlowError:
            self._failed(content, f"others have not shown it within {RELEASE_MAX_S:.0f} s")
        except Refused as error:
            self._failed(content, str(error))
        else:
            self._drop(content)
            return True
        return False

    def _failed(self, content: Cid, reason: str) -> None:
        self.counters.add("replicas.release_failed")
        self.last_error = f"{content}: {reason}"
        _log.info("a copy is not given up", content=str(content), reason=reason)

    async def _make_sure(self, content: Cid) -> None:
        """Return once enough others have promised and shown it; raises Refused."""
        self._check_own(content)
        others = [peer for peer in self._holdings.members() if peer != self._holdings.own_id]
        said = await self._asker.status_of_all(others, [content])
        claims = [
            peer
            for peer, answer in said.items()
            if answer is not None and answer.holdings[0] in (Holding.HELD, Holding.BOUND)
        ]
        wanted, sure = self._holdings.target, 0
        for peer in claims:
            if sure < wanted and await self._promises(peer, content) and await self._shows(peer, content):
                sure += 1
        if sure < wanted:
            raise Refused(
                ErrorCode.NOT_AVAILABLE,
                f"{wanted} others must hold it; {len(claims)} say so, {sure} have promised and shown it",
            )
        self._check_own(content)  # a pin may have come while the others were asked

    def _check_own(self, content: Cid) -> None:
        """Whether this node can give it up; raises Refused."""
        row = self._table.get(content)
        if row is None or row.state is not ContentState.HAVE or not self._is_of_one_piece(content):
            raise Refused(ErrorCode.NOT_AVAILABLE, "it is not here as a whole, or links to other content")
        if self._own.bound([content], self._holdings.wall_ms()):
            raise Refused(ErrorCode.NOT_AVAILABLE, "a pin or a file of this node wants it", rule="R9")

    async def _promises(self, peer: PeerId, content: Cid) -> bool:
        try:
            check_promise(await self._asker.ask(peer, ReplicaAsk.KEEP, [content]))
        except Refused as error:
            self.counters.add(f"replicas.no_promise.{error.rule or error.code.value}")
            return False
        return True

    async def _shows(self, peer: PeerId, content: Cid) -> bool:
        assert self.challenge is not None, "set before run()"
        try:
            outcome = (await self.challenge(peer, content))["outcome"]
        except Refused as error:
            outcome = f"not_asked.{error.code.value}"
        if outcome != "passed":
            self.counters.add(f"replicas.not_shown.{outcome}")
        return bool(outcome == "passed")

    def _is_of_one_piece(self, content: Cid) -> bool:
        """A blob or a file; a tree of other contents is kept by whoever has it, as its parts are contents too."""
        if content.codec is Codec.RAW:
            return True
        try:
            data = self._blobs.get(content.digest)
            return manifest_size(content, data) is not None or not links_in(content, data)
        except (BlobNotFound, BlobHashMismatch):
            return False
        except DecodeError:
            return True

    def _drop(self, content: Cid) -> None:
        """Not interrupted: the withdrawal comes before the bytes can go."""
        self.withdraw(content)
        if self._table.give_up(content):
            self._own.discard(self._blobs_of(content))
            self.counters.add("replicas.given_up")
        self.last_error = None

    def _blobs_of(self, content: Cid) -> Iterable[ContentHash]:
        def get(cid: Cid) -> bytes | None:
            if cid.codec is Codec.RAW:
                return b"" if self._blobs.has(cid.digest) else None
            try:
                return self._blobs.get(cid.digest)
            except (BlobNotFound, BlobHashMismatch):
                return None

        return [cid.digest for cid, data in reachable([content], get) if data is not None]

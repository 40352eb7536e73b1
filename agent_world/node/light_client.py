"""A light verifier over the network: rounds of questions to several peers, none of them believed (D4).

A peer that shows anything which is not certified by the right set is named and not asked again; who cannot be reached,
is of another world or is behind is passed over. What two peers prove against each other is a fork, and ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

import attrs
import trio

from agent_world.consensus.light import OtherSet, TrustedHead
from agent_world.errors import AgentWorldError, Ignored, Refused, RemoteError, Unavailable, UsageError
from agent_world.node.asked_peers import AskedPeers
from agent_world.sync.light_follow import Fork, LightFollower, ProvedBlock
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.ids import Label, PeerId
from agent_world.world.state import WorldState
from agent_world.world.trie import NodeMissing
from agent_world.world.trie_proof import PROOF_BLOBS_MAX

PEER_S: Final = 120.0
"""Longest time for one peer in a round; what it has proved stays, and the next round goes on from there."""


class Fault(StrEnum):
    """Why a peer was passed over."""

    LIED = "lied"
    """It has shown what is not certified by the right set, or broke the protocol; it is not asked again."""
    FOREIGN = "another world"
    """Its genesis is another one."""
    UNREACHABLE = "unreachable"
    """It did not answer, or would not."""
    BEHIND = "behind"
    """Its head is lower than what is trusted, or than it has shown before."""


@attrs.frozen(slots=True)
class PassedOver:
    """Whose word did not count, and why."""

    fault: Fault
    detail: str
    rule: str = ""

    def __str__(self) -> str:
        return f"{self.fault}: {self.detail}"


@attrs.frozen(slots=True, kw_only=True)
class Round:
    """What one round of questions came to."""

    head: ProvedBlock | None
    """None while nobody has proved more than the trusted head."""
    is_new: bool
    agreeing: tuple[PeerId, ...]
    """Peers whose heads are proved and do not contradict each other, ascending."""


class LightClient:
    """Follows the chain above ``start`` by asking ``peers``."""

    def __init__(self, peers: AskedPeers, start: TrustedHead) -> None:
        self.follower = LightFollower(start)
        self.passed_over: dict[PeerId, PassedOver] = {}
        """As of the last round; liars stay."""
        self._peers = peers
        self._fork: Fork | None = None

    @property
    def may_recover(self) -> bool:
        """Whether a peer was passed over in the last round for what may be over in the next."""
        return any(why.fault in (Fault.UNREACHABLE, Fault.BEHIND) for why in self.passed_over.values())

    async def round(self) -> Round:
        """Ask every peer for its head and compare them.

        Raises Fork; and if nobody's head counts RemoteError, UsageError or Unavailable by whose fault it is.
        """
        self._forgive()
        heads: dict[PeerId, ProvedBlock | None] = {}
        async with trio.open_nursery() as nursery:
            for peer in self._peers.known:
                nursery.start_soon(self._look, peer, heads)
        self._raise_fork()
        await self._compare(heads)
        self._raise_fork()
        if not heads:
            raise blame(self.passed_over)
        proved = [head for head in heads.values() if head is not None]
        best = max(proved, key=lambda head: head.block.height, default=None)
        is_new = best is not None and self.follower.accept(best)
        return Round(head=self.follower.head, is_new=is_new, agreeing=tuple(sorted(heads)))

    async def prove_height(self, peer: PeerId, height: int) -> ProvedBlock:
        """The block of a height, shown by one peer and proved by what it has shown before.

        Raises RemoteError for what is not proved, Refused, Ignored as ``round`` judges them, and Fork.
        """
        if self.follower.head is None or self.follower.tip(peer).height < height:
            await self._head_of(peer)
        return await self._shown(peer, height)

    async def state_value(self, state_root: Cid, namespace: Label, key: bytes) -> cbor.Value | None:
        """What the state under a verified root holds under ``key``, None if it is proved to hold nothing.

        The nodes on the way are fetched by their hashes, which the root names: whoever gives them proves the value.
        Raises Unavailable if nobody has one.
        """
        nodes: dict[ContentHash, bytes] = {}

        def source(content: ContentHash) -> bytes:
            if content not in nodes:
                raise NodeMissing(content)
            return nodes[content]

        # One more than the path has nodes, for the record that names the namespaces' roots.
        for _node in range(PROOF_BLOBS_MAX + 2):
            try:
                return WorldState(state_root, source).value(namespace, key)
            except NodeMissing as missing:
                nodes[missing.content_hash] = await self._fetch(missing.content_hash)
        raise Unavailable(f"the path to {key!r} is longer than any state's")

    async def _fetch(self, content: ContentHash) -> bytes:
        for peer in self._peers.known:
            with self._judging(peer):
                await self._peers.greet(peer)
                return await self._peers.blob(peer, content)
        raise Unavailable(f"nobody has the state node {content.hex()}: {told(self.passed_over)}")

    def _forgive(self) -> None:
        self.passed_over = {peer: why for peer, why in self.passed_over.items() if why.fault is Fault.LIED}

    def _raise_fork(self) -> None:
        if self._fork is not None:
            raise self._fork

    async def _look(self, peer: PeerId, heads: dict[PeerId, ProvedBlock | None]) -> None:
        with self._judging(peer):
            with trio.move_on_after(PEER_S) as patience:
                await self._peers.greet(peer)
                heads[peer] = await self._head_of(peer)
            if patience.cancelled_caught:
                raise Unavailable(f"has not proved a head in {PEER_S:.0f} s")

    async def _head_of(self, peer: PeerId) -> ProvedBlock | None:
        certified, follower = await self._peers.head(peer), self.follower
        # After the head, so that none that leads to it is missing; all of them, also where a set that was there before
        # has come back and would prove the head without them.
        while await self._cross(peer):
            pass
        proved = follower.prove_head(peer, certified)
        if proved is None and certified.head.height < follower.start.height:
            raise Ignored("H4", f"is at height {certified.head.height}, below the trusted one")
        if proved is not None and follower.successor(proved) is None:
            raise RemoteError("G5", f"does not show the set that takes over after height {proved.block.height}")
        return proved

    async def _cross(self, peer: PeerId) -> int:
        boundaries = await self._peers.boundaries(peer, self.follower.tip(peer).height + 1)
        return self.follower.cross(peer, boundaries)

    async def _compare(self, heads: dict[PeerId, ProvedBlock | None]) -> None:
        """Have everybody show the lowest of the heads: chains that share a block share all below it."""
        heights = {peer: head.block.height for peer, head in heads.items() if head is not None}
        lowest = min(heights.values(), default=0)
        async with trio.open_nursery() as nursery:
            for peer, height in heights.items():
                if height > lowest and self.follower.can_judge(peer, lowest):
                    nursery.start_soon(self._show_again, peer, lowest, heads)

    async def _show_again(self, peer: PeerId, height: int, heads: dict[PeerId, ProvedBlock | None]) -> None:
        head = heads.pop(peer)
        with self._judging(peer):
            await self._shown(peer, height)
            heads[peer] = head

    async def _shown(self, peer: PeerId, height: int) -> ProvedBlock:
        bundle = await self._peers.block(peer, height)
        shown = self.follower.prove(peer, bundle.block, bundle.certificate)
        if shown.block.height != height:
            raise RemoteError("B5", f"shows height {shown.block.height} when asked for {height}")
        return shown

    def _judging(self, peer: PeerId) -> _Judging:
        return _Judging(lambda error: self._judge(peer, error))

    def _judge(self, peer: PeerId, error: AgentWorldError) -> None:
        if isinstance(error, Fork):
            self._fork = error
            return
        self.passed_over[peer] = why = reason_of(error)
        if why.fault is Fault.LIED:
            self._peers.forget(peer)


@attrs.frozen
class _Judging:
    """Takes our errors out of the block; any other goes on."""

    judge: Callable[[AgentWorldError], None]

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, AgentWorldError):
            return False
        self.judge(error)
        return True


def reason_of(error: AgentWorldError) -> PassedOver:
    """What an error of asking a peer says about the peer."""
    match error:
        # Of Ignored only this one is a fault: the peer's own boundaries do not lead to the set.
        case OtherSet() | RemoteError():
            return PassedOver(Fault.LIED, str(error), error.rule)
        case Refused(rule="N1" | "N2"):
            return PassedOver(Fault.FOREIGN, error.message)
        case Ignored() | Refused(rule="B5"):
            return PassedOver(Fault.BEHIND, str(error))
        case _:
            return PassedOver(Fault.UNREACHABLE, str(error))


def told(passed_over: Mapping[PeerId, PassedOver]) -> str:
    """Who was passed over and why, for people."""
    return "; ".join(f"{peer} {why}" for peer, why in sorted(passed_over.items())) or "no peer was asked"


def blame(passed_over: Mapping[PeerId, PassedOver]) -> AgentWorldError:
    """The error when nobody's word counts: a liar's fault first, then the asker's, then nobody's."""
    text = told(passed_over)
    lies = [why for why in passed_over.values() if why.fault is Fault.LIED]
    if lies:
        return RemoteError(lies[0].rule, f"no peer shows a head that is proved: {text}")
    if any(why.fault is Fault.FOREIGN for why in passed_over.values()):
        return UsageError(f"the genesis is not that of these peers' world: {text}")
    return Unavailable(f"no peer to verify with: {text}")

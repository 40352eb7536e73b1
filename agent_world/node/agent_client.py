"""What an agent without a node asks of a swarm: its next nonce, to take an action, and proof of what became of it.

Questions go to the peers that were named and to nobody else (K-1.2). A nonce is believed, since a wrong one only costs
a refusal; a receipt is not: its block has to be certified, and the receipt and its events to be linked from that block.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, TypeVar

import attrs
import trio

from agent_world.crypto.hashing import hash32
from agent_world.errors import ErrorCode, Refused, RemoteError, Unavailable
from agent_world.net.retry import DEFAULT_RETRY, RetryPolicy, retry
from agent_world.node.asked_peers import AskedPeers
from agent_world.node.light_client import LightClient
from agent_world.sync.light_follow import ProvedBlock
from agent_world.wire import record
from agent_world.wire.block import Event, JournalIndex, JournalSegment, JournalSegmentRef, Receipt, ReceiptList
from agent_world.wire.ids import ActorId, Hash32, PeerId
from agent_world.wire.limits import BLOB_BYTES_MAX

T = TypeVar("T")

POLL_S: Final = 0.25
"""Between two looks for a receipt; a fourth of the default pause between blocks."""


@attrs.frozen(slots=True, kw_only=True)
class ProvedOutcome:
    """What an action did, by a certified block."""

    height: int
    block_hash: Hash32
    receipt: Receipt
    events: tuple[Event, ...]
    """Those that the action caused, in order."""
    shown_by: PeerId


class AgentClient:
    """Questions of one agent; ``light`` verifies what ``peers`` show."""

    def __init__(self, peers: AskedPeers, light: LightClient, rng: Random, policy: RetryPolicy = DEFAULT_RETRY) -> None:
        self._peers = peers
        self._light = light
        self._rng = rng
        self._policy = policy
        self.passed_over: dict[PeerId, str] = {}
        """Who broke the protocol or showed what is not so, and what it was; they are not asked again."""

    async def next_nonce(self, actor_id: ActorId) -> int:
        """The nonce of the actor's next action, after those that wait; the highest that any peer says.

        Raises Refused (ERR_NOT_FOUND) if nobody knows the actor, Unavailable if nobody answers.
        """

        async def ask(peer: PeerId) -> int:
            told = await self._peers.actor(peer, actor_id)
            return told.next_nonce + told.pending

        return max(await self._ask_all(ask))

    async def submit(self, data: bytes) -> Hash32:
        """Hand an encoded signed action to every peer; its id once one of them has taken it.

        All are asked, since one could take it and keep it to itself. A refusal that may not last, such as a full
        pool, is tried again as ``retry`` says. Raises Refused if everybody refuses, Unavailable if nobody answers.
        """
        action_id = hash32(data)

        async def ask(peer: PeerId) -> Hash32:
            told = await self._peers.submit(peer, data)
            if told != action_id:
                raise RemoteError("S1", f"answers for action {told.hex()} instead of {action_id.hex()}")
            return told

        await self._ask_all(ask)
        return action_id

    async def outcome(self, action_id: Hash32, *, timeout_s: float) -> ProvedOutcome:
        """Wait until the action is in a certified block; raises Refused (ERR_TIMEOUT) if that takes too long.

        Raises Fork if two certified blocks contradict each other.
        """
        deadline = trio.current_time() + timeout_s
        while trio.current_time() < deadline:
            for peer in self._known():
                found = None
                with trio.move_on_at(deadline):
                    found = await self._outcome_at(peer, action_id)
                if found is not None:
                    return found
            await trio.sleep(POLL_S)
        told = "".join(f"; {peer} {why}" for peer, why in self.passed_over.items())
        raise Refused(ErrorCode.TIMEOUT, f"action {action_id.hex()} is not committed after {timeout_s:.0f} s{told}")

    async def _outcome_at(self, peer: PeerId, action_id: Hash32) -> ProvedOutcome | None:
        try:
            await self._peers.greet(peer)
            told = await self._peers.receipt(peer, action_id)
            proved = await self._light.prove_height(peer, told.height)
            receipt = await self._receipt_in(peer, proved, action_id)
            events = await self._events_in(peer, proved, receipt)
        except RemoteError as error:
            self._pass_over(peer, error)
            return None
        except (Refused, Unavailable):
            return None  # not committed there yet, or not to be had there
        return ProvedOutcome(
            height=proved.block.height, block_hash=proved.block_hash, receipt=receipt, events=events, shown_by=peer
        )

    async def _receipt_in(self, peer: PeerId, proved: ProvedBlock, action_id: Hash32) -> Receipt:
        segment = await self._peers.receipt_segment(peer, proved.block.height)
        if segment.segment.content != proved.block.receipts_root:
            raise RemoteError("J4", f"shows other receipts of height {proved.block.height} than its block links")
        data = await self._peers.blob(peer, proved.block.receipts_root.digest)
        for receipt in record.from_bytes(ReceiptList, data, size_max=BLOB_BYTES_MAX).receipts:
            if receipt.action_id == action_id:
                return receipt
        raise RemoteError("S2", f"says that action {action_id.hex()} is in block {proved.block.height}; it is not")

    async def _events_in(self, peer: PeerId, proved: ProvedBlock, receipt: Receipt) -> tuple[Event, ...]:
        if not receipt.event_count:
            return ()
        told = await self._peers.journal_segment(peer, receipt.from_event_id)
        if told.journal_ref != proved.block.journal_ref:
            raise RemoteError("J4", f"shows another journal of height {proved.block.height} than its block links")
        data = await self._peers.blob(peer, told.journal_ref.digest)
        linked = record.from_bytes(JournalIndex, data, size_max=BLOB_BYTES_MAX).segments
        last = receipt.from_event_id + receipt.event_count - 1
        found = [
            event
            for ref in linked
            if ref.to_event_id >= receipt.from_event_id and ref.from_event_id <= last
            for event in await self._segment(peer, ref)
            if receipt.from_event_id <= event.event_id <= last
        ]
        if len(found) != receipt.event_count:
            raise RemoteError("J4", f"the journal of height {proved.block.height} lacks events of its receipts")
        return tuple(found)

    async def _segment(self, peer: PeerId, ref: JournalSegmentRef) -> tuple[Event, ...]:
        data = await self._peers.blob(peer, ref.content.digest)
        return record.from_bytes(JournalSegment, data, size_max=BLOB_BYTES_MAX).events

    async def _ask_all(self, ask: Callable[[PeerId], Awaitable[T]]) -> list[T]:
        return await retry(lambda: self._ask_once(ask), self._policy, self._rng)

    async def _ask_once(self, ask: Callable[[PeerId], Awaitable[T]]) -> list[T]:
        """The answers of those who answer; the most hopeful refusal if nobody does."""
        answers: list[T] = []
        refusals: list[Refused] = []

        async def ask_one(peer: PeerId) -> None:
            try:
                await self._peers.greet(peer)
                answers.append(await ask(peer))
            except RemoteError as error:
                self._pass_over(peer, error)
            except Refused as error:
                refusals.append(error)

        async with trio.open_nursery() as nursery:
            for peer in self._known():
                nursery.start_soon(ask_one, peer)
        if answers:
            return answers
        if not refusals:
            raise Unavailable("no peer is left to ask" + "".join(f"; {p} {why}" for p, why in self.passed_over.items()))
        # A peer that cannot be reached says nothing of the action; a reason does, and one that passes is tried again.
        raise min(refusals, key=lambda error: (error.code is ErrorCode.NOT_AVAILABLE, not error.retryable))

    def _known(self) -> list[PeerId]:
        return list(self._peers.known)

    def _pass_over(self, peer: PeerId, error: RemoteError) -> None:
        self.passed_over[peer] = str(error)
        self._peers.forget(peer)

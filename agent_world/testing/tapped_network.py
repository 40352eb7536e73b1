"""A node's network with taps: what it sends can be watched, and what it answers can be made a lie."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from agent_world.handlers.consensus import CHANNEL
from agent_world.net.interface import DistributedNetwork, RequestHandler
from agent_world.wire.ids import PeerId

Lie = Callable[[RequestHandler, PeerId, bytes], Awaitable[bytes]]
"""(honest handler, asker, request) -> what is answered instead."""


class TappedNetwork:
    """Satisfies ``DistributedNetwork`` by passing everything on to ``inner``."""

    def __init__(self, inner: DistributedNetwork, sent: Callable[[bytes], None]) -> None:
        self._inner = inner
        self._sent = sent
        self._lies: dict[str, Lie] = {}

    def lie(self, method: str, lie: Lie | None) -> None:
        """From now on answer requests of ``method`` so; None: honestly again."""
        if lie is None:
            self._lies.pop(method, None)
        else:
            self._lies[method] = lie

    def serve(self, method: str, handler: RequestHandler) -> None:
        """Register the honest handler behind whatever lie is told at the time."""

        async def answer(peer: PeerId, data: bytes) -> bytes:
            lie = self._lies.get(method)
            return await (handler(peer, data) if lie is None else lie(handler, peer, data))

        self._inner.serve(method, answer)

    async def publish(self, topic: str, data: bytes) -> None:
        """Gossip; proposals and votes are shown to the tap first."""
        if topic.endswith((".consensus.proposal", ".consensus.attestation")):
            self._sent(data)
        await self._inner.publish(topic, data)

    def send(self, peer: PeerId, channel: str, payload: bytes) -> bool:
        """Send; consensus messages are shown to the tap first."""
        if channel == CHANNEL:
            self._sent(payload)
        return self._inner.send(peer, channel, payload)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

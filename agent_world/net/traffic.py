"""Messages, bytes, drops and latency of every peer, method, channel and topic; bounded, for status pages."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import attrs

PEERS_MAX: Final = 1_024
"""Peers with figures; the one heard of longest ago is forgotten."""
NAMES_MAX: Final = 256
"""Methods, channels or topics with figures; what comes above is counted under ``other``."""
OTHER: Final = "other"
LATENCY_SHARE: Final = 0.2
"""Weight of the newest answer in the mean latency."""


@attrs.define(slots=True)
class Flow:
    """What went between this node and one peer, or by one name."""

    received: int = 0
    received_bytes: int = 0
    sent: int = 0
    sent_bytes: int = 0
    dropped: Counter[str] = attrs.Factory(Counter)
    """By reason; reasons are words of the code."""
    latency_ms: float | None = None
    """Of answered requests, the newer ones counting more; None before the first."""

    def answered(self, latency_ms: float) -> None:
        """A request was answered after so long."""
        old = latency_ms if self.latency_ms is None else self.latency_ms
        self.latency_ms = old + (latency_ms - old) * LATENCY_SHARE

    def shown(self) -> dict[str, Any]:
        """As a status page has it."""
        latency_ms = None if self.latency_ms is None else round(self.latency_ms, 2)
        return {
            "received": self.received,
            "received_bytes": self.received_bytes,
            "sent": self.sent,
            "sent_bytes": self.sent_bytes,
            "dropped": dict(sorted(self.dropped.items())),
            "latency_ms": latency_ms,
        }


class Traffic:
    """The flows of one network; a ``kind`` is method, channel or topic."""

    def __init__(self) -> None:
        self._peers: OrderedDict[str, Flow] = OrderedDict()
        self._named: dict[str, dict[str, Flow]] = {"method": {}, "channel": {}, "topic": {}}

    def peer(self, peer: str) -> Flow:
        """The flow of a peer."""
        flow = self._peers.get(peer)
        if flow is None:
            flow = self._peers[peer] = Flow()
            while len(self._peers) > PEERS_MAX:
                self._peers.popitem(last=False)
        self._peers.move_to_end(peer)
        return flow

    def named(self, kind: str, name: str) -> Flow:
        """The flow of a method, channel or topic."""
        flows = self._named[kind]
        flow = flows.get(name)
        if flow is None:
            if len(flows) >= NAMES_MAX:
                name = OTHER
            flow = flows.setdefault(name, Flow())
        return flow

    def received(self, peer: str, kind: str, name: str, size: int) -> None:
        """A message of ``size`` bytes has come and was let in."""
        for flow in (self.peer(peer), self.named(kind, name)):
            flow.received += 1
            flow.received_bytes += size

    def sent(self, peer: str | None, kind: str, name: str, size: int) -> None:
        """A message was sent to a peer, or to nobody in particular."""
        flows = [self.named(kind, name)] if peer is None else [self.peer(peer), self.named(kind, name)]
        for flow in flows:
            flow.sent += 1
            flow.sent_bytes += size

    def dropped(self, peer: str, kind: str, name: str, reason: str) -> None:
        """A message was not let in."""
        self.peer(peer).dropped[reason] += 1
        self.named(kind, name).dropped[reason] += 1

    def peer_shown(self, peer: str) -> dict[str, Any]:
        """One peer's flow; an empty one if nothing is known of it."""
        return self._peers.get(peer, Flow()).shown()

    def shown(self) -> Mapping[str, Any]:
        """All flows, for a status page."""
        peers = {peer: flow.shown() for peer, flow in sorted(self._peers.items())}
        named = {
            f"{kind}s": {name: flow.shown() for name, flow in sorted(flows.items())}
            for kind, flows in self._named.items()
        }
        return {"peers": peers, **named}

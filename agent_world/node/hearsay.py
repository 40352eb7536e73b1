"""Peers that others told of: whom to dial, and when to let go. Bookkeeping only; anybody can name any address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agent_world.net.interface import DistributedNetwork
from agent_world.node.clock import Clock
from agent_world.wire.hello import PeerAddress
from agent_world.wire.ids import PeerId

HEARSAY_MAX: Final = 1_024
"""Peers waited for or dialled at a time; further ones are not looked at."""
HEARSAY_PATIENCE_MS: Final = 60_000
"""A peer that cannot be reached for so long is let go."""


class Hearsay:
    """Dials what others name through ``network``; ``count`` is told the name of what is counted."""

    def __init__(self, network: DistributedNetwork, clock: Clock, count: Callable[[str], None]) -> None:
        self._network = network
        self._clock = clock
        self._count = count
        self._waiting: dict[PeerId, int] = {}
        self._dialled: dict[PeerId, int] = {}
        self._chosen: set[PeerId] = set()

    def choose(self, peer: PeerId, address: str) -> None:
        """Dial a peer that this node's operator or its own book names; it is never let go."""
        self._chosen.add(peer)
        self._network.dial(peer, address)

    def learn(self, friend: PeerAddress) -> None:
        """Dial a peer that another one names."""
        peer = friend.peer_id
        is_known = peer in self._waiting or peer in self._dialled
        if not is_known and len(self._waiting) + len(self._dialled) >= HEARSAY_MAX:
            self._count("hello.hearsay_dropped")
            return
        # Both ends hear of each other at about the same time: the lower id dials at once, the other only if
        # no link has come about by the next hello, so that pairs do not end up with two connections.
        if self._network.peer_id < peer or is_known:
            self._waiting.pop(peer, None)
            if peer not in self._chosen:
                self._dialled.setdefault(peer, self._clock.now_ms())
            self._network.dial(peer, friend.address)
        else:
            self._waiting[peer] = self._clock.now_ms()

    def came(self, peer: PeerId) -> None:
        """The peer is here and has said hello: its address is no hearsay any more."""
        self._waiting.pop(peer, None)
        self._dialled.pop(peer, None)

    def let_go(self) -> None:
        """Give up on what has come to nothing; to be called now and then."""
        limit = self._clock.now_ms() - HEARSAY_PATIENCE_MS
        for peer in [peer for peer, since in self._dialled.items() if since <= limit]:
            del self._dialled[peer]
            self._network.forget(peer)
            self._count("hello.hearsay_forgotten")
        for peer in [peer for peer, since in self._waiting.items() if since <= limit]:
            del self._waiting[peer]

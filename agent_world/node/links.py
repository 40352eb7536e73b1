"""Whom a node dials: a few links of its own to peers that others named. Bookkeeping; anybody can name any address.

Every node keeps a few dials of its own, and as many others dial it: a random graph of mean degree two times
``OWN_DIALS`` stays connected when a third of it is gone. Validators dial each other too, as far as they can be found,
so that votes go directly; so do storage nodes that share content, so that each knows where its copies are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

import attrs
from blake3 import blake3

from agent_world.net.interface import DistributedNetwork
from agent_world.node.clock import Clock
from agent_world.wire.ids import PeerId

OWN_DIALS: Final = 4
"""Links that a node keeps by itself; gossip costs 0.5-1 ms a link and message."""
LINKS_ENOUGH: Final = 8
"""With so many links, whoever made them, no further one is looked for."""
VALIDATOR_DIALS_MAX: Final = 32
"""Dials of a validator to others, beyond its own few."""
KEEPER_DIALS_MAX: Final = 32
"""Dials of a storage node to others with which it shares content, beyond its own few."""
HEARD_MAX: Final = 1_024
"""Peers heard of and not dialled; the one heard of longest ago is forgotten."""
SETTLE_MS: Final = 5_000
"""A dial counts as a link for so long; then another peer is tried beside it."""
PATIENCE_MS: Final = 20_000
"""A peer that has not been reached for so long is let go; who comes back dials by itself."""


@attrs.define(slots=True)
class _Heard:
    addresses: tuple[str, ...]
    is_validator: bool
    ready_ms: int
    """When it may be dialled."""


class Links:
    """Dials through ``network``; ``count`` is told the name of what is counted."""

    def __init__(
        self, network: DistributedNetwork, clock: Clock, hello_interval_s: float, count: Callable[[str], None]
    ) -> None:
        self._network = network
        self._clock = clock
        self._wait_ms = int(hello_interval_s * 1000)
        self._count = count
        self._heard: OrderedDict[PeerId, _Heard] = OrderedDict()
        self._chosen: set[PeerId] = set()
        self._keepers: set[PeerId] = set()
        """Of the own dials: storage nodes that this one shares content with."""
        self._own: dict[PeerId, int] = {}
        """Peers dialled and kept, with the last time that they were linked, or the time of the first dial."""

    def choose(self, peer: PeerId, address: str) -> None:
        """Keep a link to a peer that this node's operator names; it is never let go."""
        self._chosen.add(peer)
        self._own.setdefault(peer, self._clock.now_ms())
        self._network.dial(peer, address)

    def is_chosen(self, peer: PeerId) -> bool:
        """Whether this node's operator has named the peer."""
        return peer in self._chosen

    def is_own(self, peer: PeerId) -> bool:
        """Whether this node dials the peer and keeps the link."""
        return peer in self._own

    def heard(self) -> tuple[PeerId, ...]:
        """Peers heard of and not dialled."""
        return tuple(self._heard)

    def keep(self, peer: PeerId) -> None:
        """A peer heard of stores for the world, as this node does: dial it, however many links there are."""
        if peer not in self._heard or len(self._keepers) >= KEEPER_DIALS_MAX:
            return
        self._keepers.add(peer)
        self._dial([peer], 1, self._clock.now_ms())

    def drop(self, peer: PeerId) -> None:
        """The peer is banned: neither dial nor remember it."""
        self._heard.pop(peer, None)
        self._keepers.discard(peer)
        if self._own.pop(peer, None) is not None:
            self._network.forget(peer)

    def remember(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        """A peer from this node's own book: it may be dialled at once."""
        if addresses:
            self._note(peer, _Heard(addresses, is_validator=False, ready_ms=self._clock.now_ms()))

    def learn(self, peer: PeerId, address: str, *, is_validator: bool) -> None:
        """A neighbour has named this peer."""
        if peer == self._network.peer_id:
            return
        if peer in self._own:
            self._network.dial(peer, address)
            return
        known = self._heard.get(peer)
        if known is None:
            # Both ends hear of each other at about the same time: the lower id dials at once, the other only if no
            # link has come about by the next hello, so that pairs do not end up with two connections.
            wait_ms = 0 if self._network.peer_id < peer else self._wait_ms
            self._note(peer, _Heard((address,), is_validator, self._clock.now_ms() + wait_ms))
        else:
            known.addresses = (address,)
            known.is_validator = is_validator
            self._heard.move_to_end(peer)

    def _note(self, peer: PeerId, heard: _Heard) -> None:
        self._heard[peer] = heard
        while len(self._heard) > HEARD_MAX:
            self._heard.popitem(last=False)
            self._count("links.heard_dropped")

    def tend(self, linked: Mapping[PeerId, bool], *, is_validator: bool) -> None:
        """Dial what is missing, let go what came to nothing; ``linked``: greeted peers, and whether each votes."""
        now_ms = self._clock.now_ms()
        for peer in linked:
            self._heard.pop(peer, None)
            if peer in self._own:
                self._own[peer] = now_ms
        self._let_go(now_ms)
        self._drop_surplus(linked)
        ready = [peer for peer, heard in self._heard.items() if heard.ready_ms <= now_ms]
        if is_validator:
            voters = [peer for peer in ready if self._heard[peer].is_validator]
            self._dial(voters, VALIDATOR_DIALS_MAX - len(self._own), now_ms)
            ready = [peer for peer in ready if peer in self._heard]
        plain = {peer: since_ms for peer, since_ms in self._own.items() if peer not in self._keepers}
        alive = sum(peer in linked or now_ms - since_ms < SETTLE_MS for peer, since_ms in plain.items())
        if len(linked) < LINKS_ENOUGH:
            self._dial(ready, OWN_DIALS - alive, now_ms)

    def _dial(self, peers: list[PeerId], wanted: int, now_ms: int) -> None:
        """At most ``wanted`` of them, in order of preference."""
        for peer in sorted(peers, key=self._rank)[:wanted] if wanted > 0 else ():
            self._own[peer] = now_ms
            for address in self._heard.pop(peer).addresses:
                self._network.dial(peer, address)
            self._count("links.dialled")

    def _let_go(self, now_ms: int) -> None:
        for peer in [peer for peer, since_ms in self._own.items() if now_ms - since_ms >= PATIENCE_MS]:
            if peer not in self._chosen:
                del self._own[peer]
                self._keepers.discard(peer)
                self._network.forget(peer)
                self._count("links.let_go")

    def _drop_surplus(self, linked: Mapping[PeerId, bool]) -> None:
        """After churn there may be more dials than wanted; the surplus is not dialled again once its link ends."""
        wanted = self._chosen | self._keepers
        plain = [peer for peer in self._own if linked.get(peer) is False and peer not in wanted]
        for peer in sorted(plain, key=self._rank)[OWN_DIALS:]:
            del self._own[peer]
            self._network.forget(peer)
            self._count("links.surplus")

    def _rank(self, peer: PeerId) -> bytes:
        """Order of preference: another one at every node, the same after a restart."""
        return blake3(f"{self._network.peer_id} {peer}".encode()).digest()

"""What must be in a store whatever a collection does: what roots reach, and what was stored or found under a hold.

A second statement of the rules in docs/storage.md, in sets and dictionaries; it knows nothing of marks and sweeps.
"""

from __future__ import annotations

from collections.abc import Callable

from agent_world.crypto.hashing import cid_of
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, Codec, ContentHash

LARGE_BYTES = 20_000
"""Of a blob that is a file."""


class Universe:
    """The blobs there are, small and large, and the ways to name them: a few trees with parts in common."""

    def __init__(self) -> None:
        self.data: dict[ContentHash, bytes] = {}
        self.links: dict[ContentHash, list[Cid]] = {}
        self.leaves = [self._raw(b"leaf %d" % number) for number in range(3)]
        self.leaves.append(self._raw(b"L" * LARGE_BYTES))
        pair = self._node(self.leaves[0], self.leaves[3])
        over = self._node(pair, self.leaves[1])
        alias = self._node(Cid(Codec.RAW, pair.digest), self.leaves[2])
        self.nodes = [pair, over, alias]
        self.named = [*self.leaves, *self.nodes, Cid(Codec.RAW, pair.digest)]
        """What people and the world name."""
        part = self._node(self.leaves[1], alias, salt=1)
        self.states = [self._node(part, over, salt=2), self._node(pair, salt=3), self._node(part, salt=4)]
        self.state_parts = {self.states[0]: [part], self.states[1]: [], self.states[2]: [part]}
        """The chain's blobs below each state."""
        self.parts = [part]

    def _raw(self, data: bytes) -> Cid:
        cid = cid_of(data, Codec.RAW)
        self.data[cid.digest], self.links[cid.digest] = data, []
        return cid

    def _node(self, *links: Cid, salt: int = 0) -> Cid:
        data = cbor.encode({"links": list(links), "salt": salt})
        cid = cid_of(data)
        self.data[cid.digest], self.links[cid.digest] = data, list(links)
        return cid


class Model:
    """Roots, holds and the chain of one home."""

    def __init__(self, universe: Universe, present: Callable[[ContentHash], bool]) -> None:
        """``present`` tells whether a blob is stored and whole, by a look that changes nothing."""
        self._links = universe.links
        self._present = present
        self.pins: dict[str, tuple[Cid, bool, int | None]] = {}
        """CID, whether with all below, and when it ends."""
        self.index: dict[str, Cid] = {}
        self.outbox: list[Cid] = []
        self.content: dict[Cid, str] = {}
        self.live: Cid | None = None
        self.kept: set[ContentHash] = set()
        self.held: dict[int, set[ContentHash]] = {}
        self.safe: set[ContentHash] = set()
        """Must be here: it was when a root first reached it, or it came under a hold, and that has not ended since."""

    def reached(self) -> set[ContentHash]:
        """By the links of what is present."""
        stack = [(cid, "links" if deep else "alone") for cid, deep, _ in self.pins.values()]
        stack += [(cid, "links") for cid in (*self.index.values(), *self.outbox)]
        stack += [(cid, "links") for cid, state in self.content.items() if state != "named"]
        if self.live is not None:
            stack.append((self.live, "state"))
        seen: set[tuple[Cid, str]] = set()
        while stack:
            cid, how = stack.pop()
            if (cid, how) in seen:
                continue
            seen.add((cid, how))
            is_chain = cid.digest in self.kept
            if cid.codec is Codec.RAW or how == "alone" or not self._present(cid.digest):
                continue
            if how == "links" and is_chain:
                continue
            left = {link for link, state in self.content.items() if state == "named"} if is_chain else set()
            stack += [(link, how) for link in self._links[cid.digest] if link not in left]
        return {cid.digest for cid, _ in seen}

    def look(self) -> None:
        """After each step: what must be here from now on."""
        needed = self.reached().union(self.kept, *self.held.values())
        self.safe = {digest for digest in needed if digest in self.safe or self._present(digest)}

    def end_pins(self, now_ms: int) -> None:
        """A pin that has ended stays so, wherever the clock goes."""
        self.pins = {name: pin for name, pin in self.pins.items() if pin[2] is None or pin[2] > now_ms}

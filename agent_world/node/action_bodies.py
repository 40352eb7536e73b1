"""The actions of blocks that are being decided: from the pool, or fetched from the validators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import structlog
import trio

from agent_world.errors import Refused
from agent_world.node.counters import Counters
from agent_world.node.fetch import BlobFetcher
from agent_world.node.ledger import Ledger
from agent_world.node.peering import Peering
from agent_world.node.pool import ActionPool
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import PeerId
from agent_world.world.admission import SignedAction, open_action

_log = structlog.get_logger("agent_world.consensus")

BODIES_TIMEOUT_S: Final = 3.0
"""How long a proposal's missing action bodies are looked for before the block is judged invalid."""
BODIES_PATIENCE_S: Final = 0.1
"""A peer that has not sent them after this is not waited for alone: a round's proposal has a second or less."""


class ActionBodies:
    """Those of the height being decided are kept until ``clear``, whatever the pool does with them."""

    def __init__(
        self, ledger: Ledger, pool: ActionPool, peering: Peering, fetcher: BlobFetcher, own: PeerId, counters: Counters
    ) -> None:
        self._ledger = ledger
        self._pool = pool
        self._peering = peering
        self._fetcher = fetcher
        self._own = own
        self._kept: dict[ContentHash, SignedAction] = {}
        self._counters = counters

    def clear(self) -> None:
        """Another height is being decided."""
        self._kept.clear()

    def keep(self, actions: Iterable[SignedAction]) -> None:
        """They are of a block of this height."""
        for action in actions:
            self._kept[ContentHash(action.action_id)] = action

    def kept(self, content: ContentHash) -> bytes | None:
        """The encoded action, if it is of a block being decided; None if not."""
        action = self._kept.get(content)
        return None if action is None else action.data

    def missing(self, wanted: Sequence[ContentHash]) -> list[ContentHash]:
        """Those whose bodies are not here."""
        return [item for item in wanted if self._find(item) is None]

    def here(self, wanted: Sequence[ContentHash]) -> list[SignedAction] | None:
        """All of them in this order; None if one is not here."""
        found = [action for item in wanted if (action := self._find(item)) is not None]
        return found if len(found) == len(wanted) else None

    async def get(self, wanted: Sequence[ContentHash]) -> list[SignedAction] | None:
        """As ``here``, after what is missing was asked for; raises as ``open_action`` if a body is no action."""
        if missing := self.missing(wanted):
            self._counters.add("consensus.bodies_fetched", len(missing))
            with trio.move_on_after(BODIES_TIMEOUT_S):
                peers = self._fetcher.peers(self._peering.validators())
                found = await self._fetcher.fetch(
                    missing, peers, timeout_s=BODIES_TIMEOUT_S / 2, patience_s=BODIES_PATIENCE_S
                )
                self._take_in(found.values())
        self.keep(action for item in wanted if (action := self._find(item)) is not None)
        return self.here(wanted)

    def _find(self, content: ContentHash) -> SignedAction | None:
        return self._kept.get(content) or self._pool.get(content)

    def _take_in(self, bodies: Iterable[bytes]) -> None:
        """Bodies that only the proposer had: for this block, and for a later one if this comes too late."""
        for data in bodies:
            self.keep([open_action(data, self._ledger.world_id, self._ledger.genesis_hash)])
            try:
                self._pool.admit(data, source=self._own)
            except Refused as error:
                _log.debug("a fetched body does not go into the pool", error=str(error))  # counted by the pool

"""Holds the world's lease for this validator, if it is told to, and says whether it may write (D4, 6.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import structlog
import trio

from agent_world.config import LeaseConfig
from agent_world.errors import ErrorCode, Refused
from agent_world.node.chain_views import Committed
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.filing import Filing
from agent_world.node.ledger import Ledger
from agent_world.wire.block import Receipt
from agent_world.wire.ids import U64, ValidatorId
from agent_world.wire.lease import AcquireLease, LeaseState, ReleaseLease, RenewLease
from agent_world.world import queries
from agent_world.world.reasons import OK

_log = structlog.get_logger("agent_world.lease")

LOOK_S: Final = 1.0
"""How often the keeper looks at the lease; a commit makes it look at once."""
FILE_S: Final = 30.0
"""Longest wait for the block that grants."""


class LeaseKeeper:
    """One validator's relation to the lease. The clock is block time; wall time only says when to ask for more."""

    def __init__(self, ledger: Ledger, filing: Filing, clock: Clock, config: LeaseConfig) -> None:
        self._ledger = ledger
        self._filing = filing
        self._clock = clock
        self._config = config
        self._held: LeaseState | None = None
        """The lease that was this validator's when it last looked."""
        self.keep = config.keep
        """Whether to take the lease when it is free, and to keep it."""
        self.superseded: Callable[[U64], None] = lambda _term: None
        """Told the term that this validator must write under no more."""
        self.counters = Counters()

    @property
    def own(self) -> ValidatorId | None:
        """This validator's id; None while its key is in no set."""
        return queries.key_owner(self._ledger.state, self._filing.key.public_key)

    def current(self) -> LeaseState | None:
        """The lease that somebody holds at the head's time."""
        return queries.held_lease(self._ledger.state, self._ledger.timestamp_ms)

    def fencing_term(self) -> U64:
        """The term to write under; raises Refused, ERR_UNAUTHORIZED, unless this validator holds the lease."""
        held = self.current()
        if held is None or held.holder_id != self.own:
            holder = "nobody" if held is None else held.holder_id
            raise Refused(ErrorCode.UNAUTHORIZED, f"{holder} holds the lease, not this validator")
        return held.term

    async def acquire(
        self, ttl_ms: int | None = None, *, keep: bool = False, timeout_s: float = FILE_S
    ) -> Receipt | None:
        """Ask for the lease by a block; the receipt says whether it was granted. Raises Refused as ``Filing.file``.

        With ``keep`` it is renewed from then on, if it is this validator's; None if it was already, and no block was
        asked. A lease that was not granted is not waited for.
        """
        if keep and self._is_held_here():
            self.keep = True
            return None
        receipt = await self._file(
            AcquireLease(ttl_ms=U64(self._config.ttl_ms if ttl_ms is None else ttl_ms)), timeout_s
        )
        self.keep = self.keep or (keep and self._is_held_here())
        return receipt

    async def release(self, *, timeout_s: float = FILE_S) -> Receipt:
        """Give the own lease up, and in any case no longer try to hold it.

        Raises Refused, ERR_UNAUTHORIZED, if it is not this validator's.
        """
        self.keep = False
        self.fencing_term()
        held = self.current()
        assert held is not None, "a term is of a lease"
        return await self._file(ReleaseLease(lease_id=held.lease_id), timeout_s)

    async def _file(self, payload: object, timeout_s: float) -> Receipt:
        _action_id, _height, receipt = await self._filing.file(payload, timeout_s=timeout_s)
        self._look()
        return receipt

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._look()
            payload = self._wanted() if self.keep else None
            if payload is not None:
                try:
                    receipt = await self._file(payload, FILE_S)
                    self.counters.add("lease.asked" if receipt.code == OK else f"lease.refused.{receipt.code}")
                except Refused as error:
                    self.counters.add(f"lease.not_filed.{error.code}")
            with trio.move_on_after(LOOK_S):
                await self._ledger.wait_above(self._ledger.height)

    def _look(self) -> None:
        """Notice what blocks have made of the lease."""
        held, before = self.current(), self._held
        self._held = held if held is not None and held.holder_id == self.own else None
        if self._held is not None and (before is None or before.term != self._held.term):
            self.counters.add("lease.held")
            _log.info("this validator is the writer now", term=self._held.term)
        if before is not None and (self._held is None or self._held.term != before.term):
            self.counters.add("lease.lost")
            _log.warning("this validator is no longer the writer", term=before.term)
            self.superseded(before.term)

    def _wanted(self) -> object | None:
        """What to ask for now: more time when half of it is over, or the lease when nobody has it."""
        held, ttl_ms = self.current(), self._config.ttl_ms
        if held is None:
            return AcquireLease(ttl_ms=U64(ttl_ms)) if self._may_vote() else None
        # Between blocks the wall clock says how much of it is over; one that is wrong must not say that less is.
        now_ms = max(self._clock.wall_ms(), self._ledger.timestamp_ms)
        if held.holder_id != self.own or held.expires_at_ms - now_ms > ttl_ms // 2:
            return None
        return RenewLease(lease_id=held.lease_id, ttl_ms=U64(ttl_ms))

    def _is_held_here(self) -> bool:
        held = self.current()
        return held is not None and held.holder_id == self.own

    def _may_vote(self) -> bool:
        return self._ledger.validators.by_key(self._filing.key.public_key) is not None

    def status(self) -> dict[str, Any]:
        """How this validator stands to the lease, for status pages."""
        return {"held_here": self._is_held_here(), "keeps_it": self.keep}


def lease_of(ledger: Committed) -> dict[str, Any]:
    """The lease as of the head, for status pages of any node."""
    held = queries.held_lease(ledger.state, ledger.timestamp_ms)
    return {
        "term": queries.lease(ledger.state).term,
        "holder_id": None if held is None else held.holder_id,
        "lease_id": None if held is None else held.lease_id,
        "expires_at_ms": None if held is None else held.expires_at_ms,
        "block_time_ms": ledger.timestamp_ms,
    }

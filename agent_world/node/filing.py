"""Actions that this node signs with its validator key, seen into a block: evidence, the lease, changes of the set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import structlog
import trio

from agent_world.crypto.hashing import actor_id_of
from agent_world.crypto.keys import KeyPair
from agent_world.errors import ErrorCode, Refused
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.ledger import Ledger
from agent_world.node.pool import ActionPool
from agent_world.wire.block import Receipt
from agent_world.wire.ids import U64, Hash32
from agent_world.world.admission import build_action

_log = structlog.get_logger("agent_world.validator")

SIGNINGS_MAX: Final = 3
"""Times an action is signed anew because another action of this key took its nonce."""
WAITING_MAX: Final = 16
"""Actions that wait for their turn; one is under way at a time, since each needs the nonce after the last."""


class Filing:
    """One validator's own actions."""

    def __init__(self, ledger: Ledger, pool: ActionPool, clock: Clock, key: KeyPair) -> None:
        self._ledger = ledger
        self._pool = pool
        self._clock = clock
        self.key = key
        self._turn = trio.Lock()
        self.admitted: Callable[[Hash32], None] = lambda _action_id: None
        """Told the id of every action, to gossip it."""
        self.counters = Counters()

    def use(self, key: KeyPair) -> None:
        """Sign with another key from now on: the validator's was exchanged."""
        self.key = key

    async def file(self, payload: object, *, timeout_s: float) -> tuple[Hash32, U64, Receipt]:
        """Sign, hand in and wait for the block; action id, height and receipt, whatever that says.

        Raises Refused: ERR_TIMEOUT if no block took it in time (it may still come), ERR_BUSY with too many waiting,
        ERR_UNAUTHORIZED while the key is no actor's, and ERR_STATE_MISMATCH if another process uses the key.
        """
        if self._turn.statistics().tasks_waiting >= WAITING_MAX:
            raise Refused(ErrorCode.BUSY, f"{WAITING_MAX} actions of this validator wait already")
        try:
            with trio.fail_after(timeout_s):
                async with self._turn:
                    return await self._see_through(payload)
        except trio.TooSlowError:
            self.counters.add("filing.timeout")
            raise Refused(
                ErrorCode.TIMEOUT, f"no block took the {type(payload).__name__} within {timeout_s:g} s"
            ) from None

    async def _see_through(self, payload: object) -> tuple[Hash32, U64, Receipt]:
        for _signing in range(SIGNINGS_MAX):
            actor_id = actor_id_of(self.key.public_key)
            nonce = self._ledger.next_nonce(actor_id)
            if nonce is None:
                raise Refused(ErrorCode.UNAUTHORIZED, "this validator's key is not known to the world yet", rule="A7")
            data = build_action(
                self.key,
                self._ledger.genesis_hash,
                self._ledger.world_id,
                payload,
                nonce=nonce,
                timestamp_ms=self._clock.wall_ms(),
            )
            found = await self._wait_for(data, nonce)
            if found is not None:
                return found
            self.counters.add("filing.nonce_taken")
        raise Refused(ErrorCode.STATE_MISMATCH, "another process signs actions with this validator's key", rule="A9")

    async def _wait_for(self, data: bytes, nonce: int) -> tuple[Hash32, U64, Receipt] | None:
        """Until a block has the action; None once its nonce is used by another."""
        action_id: Hash32 | None = None
        actor_id = actor_id_of(self.key.public_key)
        while True:
            if action_id is not None and (found := self._ledger.receipt(action_id)) is not None:
                self.counters.add("filing.committed")
                return action_id, *found
            if (self._ledger.next_nonce(actor_id) or 1) > nonce:
                return None
            # Handed in at every height: a full pool may have let go of it.
            action_id = self._admit(data) or action_id
            await self._ledger.wait_above(self._ledger.height)

    def _admit(self, data: bytes) -> Hash32 | None:
        try:
            admitted = self._pool.admit(data, source=None)
        except Refused as error:
            self.counters.add(f"filing.refused.{error.rule or error.code}")
            _log.debug("an own action is not admitted yet", error=str(error))
            return None
        if admitted.is_new:
            self.admitted(admitted.action_id)
        return admitted.action_id

    def status(self) -> dict[str, Any]:
        """For ``node status``."""
        return {"actor_id": actor_id_of(self.key.public_key), "waiting": self._turn.statistics().tasks_waiting}

"""This node's seat among the validators: its key, the guard of that key, and the key that takes over (D4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import structlog

from agent_world.consensus.guard import GuardState
from agent_world.consensus.guard_records import SignRequest
from agent_world.crypto.keys import KeyPair
from agent_world.errors import DataError, NotSafe, UsageError
from agent_world.node.clock import Clock
from agent_world.node.counters import Counters
from agent_world.node.ledger import Ledger
from agent_world.store.guard import GuardStore
from agent_world.store.home import Home
from agent_world.store.key_rotation import take_over
from agent_world.wire.consensus import ValidatorEntry
from agent_world.world import queries

_log = structlog.get_logger("agent_world.validator")

_NO_VOTE: Final = GuardState(watching=True)
"""What the engine is told while there is no guard: follow, and sign nothing."""


class Seat:
    """One validator's key with its guard, over heights and key rotations. ``close`` it."""

    def __init__(self, home: Home, key: KeyPair, ledger: Ledger, clock: Clock, *, drift_max_ms: int) -> None:
        """Raises HomeError and GuardLost as ``GuardStore.open``: without its guard a validator does not start.

        UsageError for the authority's key.
        """
        if key.public_key == ledger.genesis.authority:
            raise UsageError(
                f"{home.files.validator_key} holds the genesis authority's key, which never votes: it is not in this"
                " world's validator set; remove the file to run without a vote, or put the right key there"
            )
        self._home = home
        self._ledger = ledger
        self._clock = clock
        self._drift_max_ms = drift_max_ms
        self._started_ms = clock.now_ms()
        self._decided_height = 0
        self._met_height = 0
        """Committed height when a message by this key came that was not signed here; 0 for never."""
        self._is_elsewhere = False
        """Whether another process signs with this key: then this one does not, until it is started again."""
        self._guard: GuardStore | None = None
        self._trouble = ""
        """Why there is no guard; empty while there is one."""
        self.key = key
        self.counters = Counters()
        self.rotated: Callable[[KeyPair], None] = lambda _key: None
        """Called with the new key once it has taken over."""
        if not self._take_over_if_due():
            self._guard = self._open()
            if self._guard.disagreement:
                _log.warning(
                    "the vote guard was damaged; nothing is signed before a height begins after this start",
                    found=self._guard.disagreement,
                )
        if self.entry is None:
            _log.warning("this node's validator key is in no validator set yet", key=self.key.public_key.hex())

    def _open(self) -> GuardStore:
        was_seated = queries.key_owner(self._ledger.state, self.key.public_key) is not None
        return GuardStore.open(self._home, self.key, committed_height=self._ledger.height, was_seated=was_seated)

    @property
    def entry(self) -> ValidatorEntry | None:
        """This validator in the set of the next height; None while that does not name its key."""
        return self._ledger.validators.by_key(self.key.public_key)

    @property
    def needs_mending(self) -> bool:
        """Whether the guard could not be written and is to be opened again."""
        return self._guard is None

    def begin(self) -> GuardState:
        """Get ready to decide the height after the committed one: the guard's state to restore the engine from.

        The key may be another one afterwards.
        """
        try:
            self._take_over_if_due()
            if self._guard is None:
                return _NO_VOTE
            if self.entry is not None:
                self._tell_heights(self._guard)
            return _NO_VOTE if self._is_elsewhere else self._guard.load()
        except (DataError, NotSafe, UsageError) as error:
            self._give_up(error)
            return _NO_VOTE

    def _tell_heights(self, guard: GuardStore) -> None:
        """What others have decided is not signed any more; what begins now cannot have been signed before."""
        height = self._ledger.height
        if not guard.load().watching:
            if guard.raise_floor(height):
                self.counters.add("guard.floor_raised")
        elif self._begins_now():
            guard.settle(height)
            self.counters.add("guard.settled")
            _log.info("the vote guard is whole again", signs_above=height)

    def _begins_now(self) -> bool:
        """Whether the next height begins after this node was started.

        The block before it was decided while this node took part, and proposed after the start by its own time. A
        wall clock that was put right meanwhile counts as if it had been right at the start. Twice the drift: a proposer
        may be ahead of the clocks of those who accept its block, and these may be ahead of this node's.
        """
        passed_ms = self._clock.now_ms() - self._started_ms
        started_wall_ms = self._clock.wall_ms() - passed_ms
        is_new = self._ledger.timestamp_ms > started_wall_ms + 2 * self._drift_max_ms
        return is_new and 0 < self._ledger.height == self._decided_height

    def decided(self, height: int) -> None:
        """The engine has decided this height here, by votes of the moment, and it is committed."""
        self._decided_height = height

    def met_itself(self) -> None:
        """A message by this key has come that was not signed here.

        Once it may be what this validator signed before its guard was set back. At a height that began while this node
        took part, or at a second height, another process is at work. The two would contradict each other sooner or
        later: the guard of neither knows of the other's.
        """
        height = self._ledger.height
        is_certain = 0 < height == self._decided_height or 0 < self._met_height < height
        self._met_height = height
        if is_certain and not self._is_elsewhere:
            self._is_elsewhere = True
            self.counters.add("guard.key_elsewhere")
            _log.error("another process signs with this validator's key; this one signs no more until it is restarted")

    def permit(self, request: SignRequest) -> bytes | None:
        """The signed message, durable in the guard; None if it must not be signed or could not be made durable."""
        try:
            if self._guard is None:
                raise NotSafe(f"the vote guard is out of order: {self._trouble}")
            return self._guard.permit(request)
        except NotSafe as error:
            self.counters.add("consensus.not_safe")
            _log.error("the vote guard refuses a signature", error=str(error))
        except DataError as error:
            self._give_up(error)
        return None

    def mend(self) -> bool:
        """Open a guard again that could not be written, as a start does; whether it is in order now."""
        if self._guard is None:
            try:
                if not self._take_over_if_due():
                    self._guard = self._open()
                self.counters.add("guard.mended")
                _log.info("the vote guard is open again")
            except (DataError, UsageError) as error:
                self._trouble = str(error)
        return self._guard is not None

    def _give_up(self, error: Exception) -> None:
        """No signature from now on, until ``mend`` has read again what the files hold."""
        self.counters.add("guard.out_of_order")
        _log.error("the vote guard is out of order; this node follows without a vote", error=str(error))
        self.close()
        self._trouble = str(error)

    def _take_over_if_due(self) -> bool:
        """Exchange the key if the set names the next one and no longer this one."""
        if self.entry is not None:
            return False
        successor = self._home.validator_next_key()
        if successor is None or self._ledger.validators.by_key(successor.public_key) is None:
            return False
        self.close()
        self._guard = take_over(self._home, successor, self._ledger.height)
        self.key, self._is_elsewhere, self._met_height = successor, False, 0
        self.counters.add("guard.key_rotated")
        _log.info("the next validator key has taken over", key=successor.public_key.hex(), above=self._ledger.height)
        self.rotated(successor)
        return True

    def status(self) -> dict[str, Any]:
        """For ``node status``: who this validator is, and whether it votes or what it waits for."""
        entry = self.entry
        return {"validator_id": None if entry is None else entry.validator_id, "voting": self._voting()}

    def _voting(self) -> str:
        if self._guard is None:
            return f"waiting: the vote guard is out of order: {self._trouble}"
        if self.entry is None:
            return "waiting: not in the validator set"
        if self._is_elsewhere:
            return "waiting: another process signs with this validator's key; stop one of them, then restart this one"
        state = self._guard.load()
        if state.watching:
            return "waiting: the vote guard was damaged or lost; for a height that begins after this start"
        if state.sign_floor > self._ledger.height:
            return f"waiting: nothing is signed up to height {state.sign_floor}"
        return "yes"

    def close(self) -> None:
        """Close the guard; may be called twice."""
        if self._guard is not None:
            self._guard.close()
            self._guard = None

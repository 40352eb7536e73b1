"""The vote guard on disk: its own SQLite file and an append-only twin (D4 "Guard").

What was signed is in both files, fsynced, before the signature is handed out. A start takes the stricter of the two.
Where they do not tell the same story, nothing is ever signed again at the heights they name.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

import attrs

from agent_world.consensus import guard
from agent_world.consensus.guard import GuardState
from agent_world.consensus.guard_records import SignRequest
from agent_world.crypto.keys import KeyPair
from agent_world.errors import DatabaseDamaged, DataError, HomeError, LocalError, NotSafe
from agent_world.store import guard_log
from agent_world.store.durable import FaultHook, no_fault, set_aside
from agent_world.store.guard_database import GuardDatabase
from agent_world.store.guard_log import GuardLog
from agent_world.store.home import Home

GUARD_STEPS: Final = ("guard_log_appended", "guard_database_begun", "guard_database_committed")
"""What the fault hook is called with during ``permit``, in order."""


@attrs.frozen(slots=True)
class _Copy:
    """What one of the two files knows."""

    state: GuardState
    damage: str = ""
    touched_height: int = 0


class GuardStore:
    """The guard of one validator in one world, for the process that holds the home's lock."""

    def __init__(self, home: Home, key: KeyPair, database: GuardDatabase, log: GuardLog, state: GuardState) -> None:
        """Use ``open``."""
        self._home = home
        self._key = key
        self._database = database
        self._log = log
        self._state = state
        self._fault: FaultHook = no_fault
        self._failed = ""
        self.disagreement = ""
        """What was wrong with the two files at this start; empty if nothing was. For logs and the status page."""

    @classmethod
    def open(
        cls, home: Home, key: KeyPair, *, committed_height: int, create: bool = False, fault: FaultHook = no_fault
    ) -> GuardStore:
        """Open the guard of ``key``, or make one for a validator that cannot have signed anything yet.

        Raises HomeError if the guard belongs to another world or key, if both files are damaged, or if there is none
        although blocks are committed: it was lost, and with it what was signed. ``create`` is the operator's word to
        go on even so: nothing is then signed up to the height after ``committed_height``. A guard that is sound is
        opened as it is, whatever ``create`` says.
        """
        if not home.writable:
            raise LocalError("the vote guard needs the home's lock; open the home for writing")
        files = home.files
        try:
            if not files.guard_db.exists() and not files.guard_log.exists():
                store = _create(home, key, committed_height, create)
            else:
                store = _recover(home, key, committed_height, create)
        except OSError as error:
            raise HomeError(f"the vote guard in {files.path} cannot be opened: {error}") from error
        store._fault = fault
        return store

    def load(self) -> GuardState:
        """What was signed, with lock and valid value: what the engine is restored from."""
        return self._state

    def permit(self, request: SignRequest) -> bytes:
        """Sign ``request`` if it contradicts nothing: the encoded Signed, durable in both files.

        The same body again gives the same bytes. Raises NotSafe if it must not be signed, HomeError if it could not
        be made durable; after that every call is NotSafe until the guard is opened again.
        """
        if self._failed:
            raise NotSafe(f"the vote guard could not be written at {self._failed}; restart the node")
        permit = guard.check(self._state, request)
        if permit.stored is not None:
            return permit.stored
        signed = guard.sign_with_permit(permit, self._home.genesis_hash, self._key)
        made = guard.record_for(self._state, request, signed)
        state = guard.apply(self._state, made)
        # Whatever stops between here and the last line, memory and files may no longer agree: then sign nothing.
        self._failed = f"{request.step} of height {request.height} round {request.round}"
        data = made.to_bytes()
        with self._log.appending(data):
            self._fault("guard_log_appended")
            self._database.append(made, _fallen_out(self._state, state), self._fault, data)
        self._fault("guard_database_committed")
        self._state = state
        if self._log.is_long:
            self._log.close()
            self._log = _write_log(self._home, self._key, state)
        self._failed = ""
        return signed

    def close(self) -> None:
        """Close both files."""
        self._database.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _fallen_out(before: GuardState, after: GuardState) -> int | None:
    """The lowest height that is still kept, if a lower one was kept before."""
    lowest = after.entries[0].height
    return lowest if before.entries and before.entries[0].height < lowest else None


def _create(home: Home, key: KeyPair, committed_height: int, create: bool) -> GuardStore:
    if committed_height and not create:
        raise HomeError(
            f"the vote guard of {home.files.path} is missing, but {committed_height} blocks are committed: it is not "
            "known what this validator signed. Restore guard.db and guard.log, or make a new guard explicitly, which "
            "gives up voting at the next height"
        )
    floor = committed_height + 1 if committed_height else 0
    state = GuardState(sequence=1, sign_floor=floor) if floor else GuardState()
    # The log first, since it comes to be at once: a crash before the database is whole leaves a guard that is
    # recovered from the log, not one that is missing.
    log = _write_log(home, key, state)
    database = _write_database(home, key, state)
    return GuardStore(home, key, database, log, state)


def _recover(home: Home, key: KeyPair, committed_height: int, create: bool) -> GuardStore:
    """Open what is there, take the stricter of both, and make both say so before anything is signed."""
    files = home.files
    log_content = (
        guard_log.read(files.guard_log, home.genesis_hash, key.public_key) if files.guard_log.exists() else None
    )
    from_log = _copy_of_log(log_content)
    database, from_database = _open_database(home, key)
    try:
        state = _merged(from_database, from_log, committed_height, create)
        if database is None:
            for suffix in ("", "-wal", "-shm"):
                set_aside(files.guard_db.with_name(files.guard_db.name + suffix))
            database = _write_database(home, key, state)
        elif from_database.damage or from_database.state != state:
            database.replace(guard.records_of(state))
        if log_content is not None and not from_log.damage and from_log.state == state:
            log = GuardLog.resume(files.guard_log, log_content.end)
        else:
            if from_log.damage or state.sign_floor != from_log.state.sign_floor:
                set_aside(files.guard_log)
            log = _write_log(home, key, state)
    except BaseException:
        if database is not None:
            database.close()
        raise
    store = GuardStore(home, key, database, log, state)
    store.disagreement = _disagreement(from_database, from_log, state)
    return store


def _merged(from_database: _Copy, from_log: _Copy, committed_height: int, create: bool) -> GuardState:
    """The stricter of both; damage to one forbids every height that either names, also behind the damage."""
    state = guard.merge_stricter(from_database.state, from_log.state)
    floor = state.sign_floor
    if from_database.damage or from_log.damage:
        floor = max(floor, state.height, from_database.touched_height, from_log.touched_height)
    if from_database.damage and from_log.damage:
        if not create:
            raise HomeError(
                f"both files of the vote guard are damaged (guard.db: {from_database.damage}; guard.log: "
                f"{from_log.damage}): restore one of them, or make a new guard explicitly, which gives up voting at "
                "the heights they name and at the next one"
            )
        floor = max(floor, committed_height + 1)
    if floor > state.sign_floor:
        state = attrs.evolve(state, sign_floor=floor, sequence=state.sequence + 1)
    return state


def _disagreement(from_database: _Copy, from_log: _Copy, state: GuardState) -> str:
    """For people: what was found, if it forbids anything that was allowed before."""
    if state.sign_floor <= max(from_database.state.sign_floor, from_log.state.sign_floor):
        return ""
    found = [f"{name}: {copy.damage}" for name, copy in (("guard.db", from_database), ("guard.log", from_log))
             if copy.damage]  # fmt: skip
    what = "; ".join(found) or "guard.db and guard.log do not hold the same records"
    return f"{what}; nothing is signed up to height {state.sign_floor}"


def _copy_of_log(content: guard_log.LogContent | None) -> _Copy:
    if content is None:
        return _Copy(GuardState(), "it is missing")
    state, damage = GuardState(), content.damage
    for made in content.records:
        try:
            state = guard.apply(state, made)
        except DataError as error:
            damage = damage or str(error)
            break
    return _Copy(state, damage, content.touched_height)


def _open_database(home: Home, key: KeyPair) -> tuple[GuardDatabase | None, _Copy]:
    """None for a file that is missing or broken as a whole."""
    if not home.files.guard_db.exists():
        return None, _Copy(GuardState(), "it is missing")
    try:
        database = GuardDatabase.open(home.files.guard_db, home.genesis_hash, key.public_key)
    except DatabaseDamaged as error:
        return None, _Copy(GuardState(), str(error))
    try:
        content = database.read()
    except DatabaseDamaged as error:
        database.close()
        return None, _Copy(GuardState(), str(error))
    return database, _Copy(content.state, content.damage, content.touched_height)


def _write_log(home: Home, key: KeyPair, state: GuardState) -> GuardLog:
    return GuardLog.rewrite(home.files.guard_log, home.genesis_hash, key.public_key, guard.records_of(state))


def _write_database(home: Home, key: KeyPair, state: GuardState) -> GuardDatabase:
    return GuardDatabase.create(home.files.guard_db, home.genesis_hash, key.public_key, guard.records_of(state))

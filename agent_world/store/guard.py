"""The vote guard on disk: its own SQLite file and an append-only twin (D4 "Guard").

What was signed is in both files, fsynced, before the signature is handed out. A start takes the stricter of the two.
Where they do not tell the same story, nothing is ever signed again at the heights they name, and nothing at all before
a height begins of which it is certain that it was not signed at.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

import attrs

from agent_world.consensus import guard
from agent_world.consensus.guard import GuardState
from agent_world.consensus.guard_interchange import GuardIdentity, Interchange, TakenIn, export_of, take_in
from agent_world.consensus.guard_records import GuardRecord, SignRequest
from agent_world.crypto.keys import KeyPair
from agent_world.errors import DatabaseDamaged, DataError, GuardLost, HomeError, LocalError, NotSafe
from agent_world.store import guard_files, guard_log
from agent_world.store.durable import FaultHook, no_fault, set_aside
from agent_world.store.guard_database import GuardDatabase
from agent_world.store.guard_log import GuardLog
from agent_world.store.home import Home
from agent_world.wire.ids import WorldId

GUARD_STEPS: Final = ("guard_log_appended", "guard_database_begun", "guard_database_committed")
"""What the fault hook is called with for every record, in order."""


@attrs.frozen(slots=True)
class _Copy:
    """What one of the two files knows."""

    state: GuardState
    damage: str = ""
    touched_height: int = 0
    torn: str = ""
    """What is wrong with its end: something was written that neither file holds as a whole."""


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
        """What could not be written; empty if all could."""
        self.disagreement = ""
        """What was wrong with the two files at this start; empty if nothing was. For logs and the status page."""

    @classmethod
    def open(
        cls,
        home: Home,
        key: KeyPair,
        *,
        committed_height: int,
        was_seated: bool = True,
        lost: bool = False,
        fault: FaultHook = no_fault,
    ) -> GuardStore:
        """Open the guard of ``key``, or make one for a validator that cannot have signed anything yet.

        Nothing is signed up to ``committed_height``. Raises HomeError if the guard belongs to another world or key,
        and GuardLost if both files are damaged, or missing although this home has had them, or although blocks are
        committed and the key ``was_seated`` in a validator set. ``lost`` is the operator's word to go on even so:
        the guard then watches. A guard that is sound is opened as it is, whatever ``lost`` says.
        """
        if not home.writable:
            raise LocalError("the vote guard needs the home's lock; open the home for writing")
        files = home.files
        try:
            if not files.guard_db.exists() and not files.guard_log.exists():
                is_new = guard_files.made_for(home) != key.public_key and not (committed_height and was_seated)
                if not is_new and not lost:
                    raise GuardLost(_missing(home, committed_height))
                store = _create(home, key, committed_height, is_lost=not is_new)
            else:
                store = _recover(home, key, committed_height, lost)
        except OSError as error:
            raise HomeError(f"the vote guard in {files.path} cannot be opened: {error}") from error
        try:
            guard_files.note_made(home, key.public_key)
            store.raise_floor(committed_height)
        except BaseException:
            store.close()
            raise
        store._fault = fault
        return store

    def load(self) -> GuardState:
        """What was signed, with lock and valid value: what the engine is restored from."""
        return self._state

    def permit(self, request: SignRequest) -> bytes:
        """Sign ``request`` if it contradicts nothing: the encoded Signed, durable in both files.

        The same body again gives the same bytes. Raises NotSafe if it must not be signed, HomeError if it could not
        be made durable; after that every call is NotSafe until the guard is closed and opened again.
        """
        if self._failed:
            raise NotSafe(f"the vote guard could not be written at {self._failed}; it must be opened again")
        permit = guard.check(self._state, request)
        if permit.stored is not None:
            return permit.stored
        signed = guard.sign_with_permit(permit, self._home.genesis_hash, self._key)
        self._store(guard.record_for(self._state, request, signed))
        return signed

    def raise_floor(self, committed_height: int) -> bool:
        """Forbid the heights that others have decided; whether anything new was to be forbidden.

        Raises as ``permit``.
        """
        if committed_height <= max(self._state.sign_floor, self._state.height):
            return False
        self._forbid(committed_height, watching=self._state.watching)
        return True

    def settle(self, height: int) -> None:
        """End watching: the height after ``height`` begins only now, so nothing was signed there before.

        Raises as ``permit``.
        """
        self._forbid(height, watching=False)

    def resume(self, committed_height: int) -> None:
        """End watching by the operator's word, and sign at the height after ``committed_height`` at once.

        More may have been signed there than is known here. A crash on the way leaves a guard that watches. Raises as
        ``permit``, and LocalError unless the guard watches.
        """
        state = guard.resumed(self._state, committed_height)
        self._failed = f"record {state.sequence}, height {committed_height}"
        self._database.replace(guard.records_of(state), self._fault)
        self._fault("guard_database_committed")
        old, self._log = self._log, _write_log(self._home, self._key, state)
        old.close()
        self._state = state
        self._failed = ""

    def export(self, world_id: WorldId) -> Interchange:
        """What this guard knows, for another copy of it; raises GuardLost while it does not know all."""
        if self._state.watching:
            raise GuardLost(
                f"the vote guard in {self._home.files.path} was damaged or lost and does not know all that this "
                "validator signed; run the node until it votes again, then export"
            )
        return export_of(self._state, self._identity(world_id))

    def take_in(self, file: Interchange, world_id: WorldId) -> TakenIn:
        """Forbid what another copy of this guard has signed.

        Raises InterchangeError for another world or key, else as ``permit``.
        """
        taken = take_in(self._state, file, self._identity(world_id))
        if taken.sign_floor > self._state.sign_floor:
            self._forbid(taken.sign_floor, watching=self._state.watching)
        return taken

    def _identity(self, world_id: WorldId) -> GuardIdentity:
        return GuardIdentity(
            world_id=world_id, genesis_hash=self._home.genesis_hash, validator_key=self._key.public_key
        )

    def _forbid(self, floor: int, *, watching: bool) -> None:
        if self._failed:
            raise NotSafe(f"the vote guard could not be written at {self._failed}; it must be opened again")
        self._store(guard.floor_record(self._state, floor, watching=watching))

    def _store(self, made: GuardRecord) -> None:
        """Make a record durable in both files."""
        state = guard.apply(self._state, made)
        # Whatever stops between here and the last line, memory and files may no longer agree: then sign nothing.
        self._failed = f"record {made.sequence}, height {made.height}"
        data = made.to_bytes()
        with self._log.appending(data):
            self._fault("guard_log_appended")
            if made.entry is None:
                # Written anew without the records of earlier floors: only entries in a row can be cut by number.
                self._database.replace(guard.records_of(state), self._fault)
            else:
                self._database.append(made, _fallen_out(self._state, state), self._fault, data)
        self._fault("guard_database_committed")
        self._state = state
        if self._log.is_long:
            # The database is whole, and the log is the old one or the new one: never are both without a record.
            old, self._log = self._log, _write_log(self._home, self._key, state)
            old.close()
        self._failed = ""

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
    """The first record that is still kept, if earlier ones were kept before."""
    return after.sequence - len(after.entries) + 1 if len(after.entries) <= len(before.entries) else None


def _missing(home: Home, committed_height: int) -> str:
    files = home.files
    return (
        f"guard.db and guard.log are missing in {files.path}, where {committed_height} blocks are committed and this "
        "validator may have voted: it is not known what it signed. Restore both files from this home's own "
        f"newest copy; if they are lost for good: agent-world validator guard init --home {files.path} --lost"
    )


def _create(home: Home, key: KeyPair, committed_height: int, *, is_lost: bool) -> GuardStore:
    state = GuardState(sequence=1, sign_floor=committed_height) if committed_height else GuardState()
    if is_lost:
        # The next height may have been signed at, and if the chain here is an old copy, later ones as well.
        state = GuardState(sequence=1, sign_floor=committed_height + 1, watching=True)
    # The log first, since it comes to be at once: a crash before the database is whole leaves a guard that is
    # recovered from the log, not one that is missing.
    log = _write_log(home, key, state)
    database = _write_database(home, key, state)
    return GuardStore(home, key, database, log, state)


def _recover(home: Home, key: KeyPair, committed_height: int, lost: bool) -> GuardStore:
    """Open what is there, take the stricter of both, and make both say so before anything is signed."""
    files = home.files
    log_content = (
        guard_log.read(files.guard_log, home.genesis_hash, key.public_key) if files.guard_log.exists() else None
    )
    from_log = _copy_of_log(log_content)
    database, from_database = _open_database(home, key)
    try:
        if log_content is not None:
            from_log = attrs.evolve(from_log, torn=torn_end(log_content, from_log.state, from_database.state))
        state = _merged(from_database, from_log)
        if from_database.damage and from_log.damage:
            if not lost:
                raise GuardLost(_both_damaged(home, from_database, from_log))
            state = attrs.evolve(state, sign_floor=max(state.sign_floor, committed_height + 1))
        if guard_files.made_for(home) != key.public_key and not state.entries and not from_log.damage:
            # A crash while it was made: the log came first, so it says all there is to say.
            state = from_log.state
        if database is None:
            for suffix in ("", "-wal", "-shm"):
                set_aside(files.guard_db.with_name(files.guard_db.name + suffix))
            database = _write_database(home, key, state)
        elif from_database.damage or from_database.state != state:
            database.replace(guard.records_of(state))
        if log_content is not None and not from_log.damage and from_log.state == state:
            log = GuardLog.resume(files.guard_log, log_content.end)
        else:
            if from_log.damage or state.watching != from_log.state.watching:
                set_aside(files.guard_log)
            log = _write_log(home, key, state)
    except BaseException:
        if database is not None:
            database.close()
        raise
    store = GuardStore(home, key, database, log, state)
    store.disagreement = _disagreement(from_database, from_log, state)
    return store


def _merged(from_database: _Copy, from_log: _Copy) -> GuardState:
    """The stricter of both; damage to one forbids every height that either names, also behind the damage."""
    state = guard.merge_stricter(from_database.state, from_log.state)
    if from_database.damage or from_log.damage or from_log.torn:
        floor = max(state.sign_floor, state.height, from_database.touched_height, from_log.touched_height)
        state = attrs.evolve(state, sign_floor=floor, watching=True, sequence=state.sequence + 1)
    return state


def torn_end(content: guard_log.LogContent, in_log: GuardState, in_database: GuardState) -> str:
    """What a torn end of the log means: nothing if the database holds that record, so that it is the log's alone.

    If it does not, the record was never sent; or else the database has lost it too, and nothing tells which it was.
    """
    if not content.tail or any(map(content.is_part_of, guard.steps_between(in_log, in_database))):
        return ""
    return "its last record is torn and not in guard.db"


def _both_damaged(home: Home, from_database: _Copy, from_log: _Copy) -> str:
    return (
        f"both files of the vote guard in {home.files.path} are damaged (guard.db: {from_database.damage}; guard.log: "
        f"{from_log.damage}): it is not known what this validator signed. Restore one of them from this home's own "
        f"newest copy; if they are lost for good: agent-world validator guard init --home {home.files.path} --lost"
    )


def _disagreement(from_database: _Copy, from_log: _Copy, state: GuardState) -> str:
    """For people: what was found, if the guard watches because of it."""
    if not state.watching or (from_database.state.watching and from_log.state.watching):
        return ""
    found = [f"{name}: {copy.damage}" for name, copy in (("guard.db", from_database), ("guard.log", from_log))
             if copy.damage] + ([f"guard.log: {from_log.torn}"] if from_log.torn else [])  # fmt: skip
    return "; ".join(found) or "guard.db and guard.log do not hold the same records"


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

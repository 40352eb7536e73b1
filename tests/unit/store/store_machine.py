"""Two processes with one store, as steps of a state machine: they put, find, hold, pin, index, give up and damage."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
from collection_model import Model, Universe
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent_world.config import StorageConfig
from agent_world.errors import BlobHashMismatch, BlobNotFound, FileConflict, FileMissing, Unavailable
from agent_world.store import schema
from agent_world.store.blob_hold import HOLD_S, BlobHold
from agent_world.store.blobs import LocalCasStore
from agent_world.store.content import ContentTable
from agent_world.store.database import Database
from agent_world.store.file_index import Expect, FileIndex
from agent_world.store.home import Home, HomeLayout
from agent_world.store.own_content import OwnContent
from agent_world.store.pins import Pin, PinTable
from agent_world.store.staged_blobs import StagedBlobs
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.file_index import FileMetadata
from agent_world.wire.ids import U64, TimeMs

UNIVERSE = Universe()
HOLD_MS = int(HOLD_S * 1000)
CIDS = st.sampled_from(UNIVERSE.named)
SOME = st.lists(st.sampled_from([*UNIVERSE.leaves, *UNIVERSE.nodes]), min_size=1, max_size=3, unique=True)
NAMES = st.sampled_from(["a", "b", "c"])
WHO = st.integers(0, 1)
EXPECTED = st.sampled_from([None, None, Expect.NOTHING_THERE, *(cid.digest for cid in UNIVERSE.named[:4])])


class Process:
    """What one process has open."""

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        database = Database.open(path / "world.db", schema.WORLD)
        database.execute("PRAGMA synchronous = OFF")  # no power cut here: only processes end
        self.home = Home(HomeLayout(path), database, 0)
        self.home.is_shared = True
        self.blobs = LocalCasStore(self.home, StorageConfig(bulk_sync=False))
        self.blobs.wall_ms = clock
        self.pins = PinTable(self.home)
        self.index = FileIndex(self.home, self.blobs)
        self.content = ContentTable(self.home)
        self.own = OwnContent(self.home)
        self.before: list[Callable[[], None] | None] = []
        """What others do before its next transactions begin, the last first; None lets one pass."""
        begin = database.transaction

        @contextmanager
        def transaction() -> Iterator[None]:
            is_failing = sys.exc_info()[0] is not None  # what failed is judged by how it was then
            if self.before and not (database.in_transaction or is_failing) and (act := self.before.pop()) is not None:
                act()
            with begin():
                yield

        database.transaction = transaction  # type: ignore[method-assign]


@attrs.define(slots=True)
class Open:
    """A hold, and a put under it that is half done."""

    who: int
    hold: BlobHold
    lost: bool = False
    staged: StagedBlobs | None = None
    steps: Iterator[Any] = iter(())


class StoreMachine(RuleBasedStateMachine):
    """What two processes do to a store, and what must be in it."""

    folders: Iterator[Path]

    def __init__(self) -> None:
        super().__init__()
        self.path = next(self.folders)
        self.now_ms = 10**12
        self.expected: Any = None
        self.queues = False
        self.of = [self.open_process() for _ in range(2)]
        self.model = Model(UNIVERSE, self.is_present)
        self.holds: list[Open] = []
        self.torn: set[ContentHash] = set()
        """Files that a killed sweep has removed without the rows."""
        self.damaged: set[ContentHash] = set()
        """Rows of which the bytes are not right: who does not read them takes them for sound."""

    # Looks that change nothing.

    def is_present(self, digest: ContentHash) -> bool:
        rows = self.of[1].home.database.query("SELECT data FROM blobs WHERE content_hash = ?", (digest,))
        if not rows:
            return False
        data = rows[0][0]
        if data is None:
            path = self.file(digest)
            data = path.read_bytes() if path.exists() else None
        return bool(data == UNIVERSE.data[digest])

    def file(self, digest: ContentHash) -> Path:
        return self.path / "blobs" / digest.hex()[:2] / digest.hex()

    @invariant()
    def what_must_be_here_is_here(self) -> None:
        missing = [digest for digest in self.model.safe if not self.is_present(digest)]
        assert not missing, [UNIVERSE.data[digest][:20] for digest in missing]
        self.look()

    def look(self) -> None:
        self.model.look()
        self.damaged |= self.torn & self.model.reached()
        self.damaged -= {digest for digest in self.damaged if self.is_present(digest)}

    # Storing.

    def data_of(self, cids: list[Cid]) -> dict[ContentHash, bytes]:
        return {cid.digest: UNIVERSE.data[cid.digest] for cid in cids}

    @rule(who=WHO, cids=SOME)
    def put(self, who: int, cids: list[Cid]) -> None:
        self.of[who].blobs.put_many(self.data_of(cids).values())

    @rule(who=WHO)
    def begin_hold(self, who: int) -> None:
        if len(self.holds) < 3:
            self.holds.append(Open(who, self.of[who].blobs.hold().__enter__()))
            self.model.held[id(self.holds[-1])] = set()

    @precondition(lambda self: self.holds)
    @rule(number=st.integers(0, 2))
    def end_hold(self, number: int) -> None:
        held = self.holds.pop(number % len(self.holds))
        self.model.held.pop(id(held), None)
        if held.lost:
            with pytest.raises(Unavailable):
                held.hold.__exit__(None, None, None)
        else:
            held.hold.__exit__(None, None, None)

    @precondition(lambda self: self.holds)
    @rule(number=st.integers(0, 2))
    def renew(self, number: int) -> None:
        held = self.holds[number % len(self.holds)]
        with suppress(Unavailable) if held.lost else ExitStack():
            held.hold.renew()

    @precondition(lambda self: self.holds)
    @rule(number=st.integers(0, 2), cids=SOME)
    def put_under_hold(self, number: int, cids: list[Cid]) -> None:
        held = self.holds[number % len(self.holds)]
        self.of[held.who].blobs.put_many(self.data_of(cids).values())
        self.come(held, self.data_of(cids))

    def come(self, held: Open, digests: Any) -> None:
        sound = set(digests) - self.damaged
        assert all(map(self.is_present, sound))
        if not held.lost:
            self.model.held[id(held)] |= sound

    @precondition(lambda self: self.holds)
    @rule(number=st.integers(0, 2), cids=SOME)
    def find_under_hold(self, number: int, cids: list[Cid]) -> None:
        held = self.holds[number % len(self.holds)]
        self.come(held, self.of[held.who].blobs.rely_on(cid.digest for cid in cids))

    @precondition(lambda self: self.holds)
    @rule(number=st.integers(0, 2), cids=SOME)
    def put_in_steps(self, number: int, cids: list[Cid]) -> None:
        held = self.holds[number % len(self.holds)]
        if held.staged is None:
            held.staged = self.of[held.who].blobs.stage(self.data_of(cids))
            held.steps = held.staged.write()
        for step in held.steps:
            if step is not None:
                step()
            return
        gone = self.of[held.who].blobs.commit(held.staged.prepared)
        done = {*held.staged.prepared.present, *(row[0] for row in held.staged.prepared.rows)}
        if gone:
            self.of[held.who].blobs.put_many(UNIVERSE.data[digest] for digest in gone)
        held.staged = None
        self.come(held, done)

    # Roots.

    @rule(who=WHO, name=NAMES, cid=CIDS, deep=st.booleans(), lasts_ms=st.sampled_from([None, None, 50, 5_000]))
    def pin(self, who: int, name: str, cid: Cid, deep: bool, lasts_ms: int | None) -> None:
        end = None if lasts_ms is None else self.now_ms + lasts_ms
        self.of[who].pins.put(
            Pin(name=name, cid=cid, recursive=deep, made_ms=TimeMs(1), expires_ms=None if end is None else TimeMs(end))
        )
        self.model.pins[name] = (cid, deep, end)

    @rule(who=WHO, name=NAMES)
    def unpin(self, who: int, name: str) -> None:
        self.of[who].pins.remove(name)
        self.model.pins.pop(name, None)

    def open_process(self) -> Process:
        """Its changes of the index come into the model inside their transactions: others may come right after."""
        process = Process(self.path, lambda: self.now_ms)
        process.index.written = lambda file: self.wrote(process, file)
        process.index.removed = lambda file, _at_ms: self.removed(file)
        return process

    def wrote(self, process: Process, file: FileMetadata) -> None:
        assert self.fits(file.path, self.expected)
        self.model.index[file.path] = file.content
        if self.queues:
            process.home.database.execute(
                "INSERT INTO replication_outbox (path, cid, size_bytes, updated_at_ms) VALUES ('-', ?, 1, 1)",
                (file.content.to_bytes(),),
            )
            self.model.outbox.append(file.content)

    def removed(self, file: FileMetadata) -> None:
        assert self.model.index.pop(file.path) == file.content

    def fits(self, path: str, expected: Any) -> bool:
        there = self.model.index.get(path)
        if expected is Expect.NOTHING_THERE:
            return there is None
        return expected is None or (there is not None and there.digest == expected)

    @contextmanager
    def expecting(self, path: str, expected: Any) -> Iterator[None]:
        """Refused only if something else is there than is expected, as others have left it by then."""
        self.expected, told = expected, True
        try:
            yield
        except FileConflict as error:
            there = self.model.index.get(path)
            told = error.current == (None if there is None else there.digest) and not self.fits(path, expected)
        finally:
            self.expected = None
        assert told

    @rule(who=WHO, path=NAMES, cid=st.sampled_from(UNIVERSE.leaves), expected=EXPECTED)
    def write(self, who: int, path: str, cid: Cid, expected: Any) -> None:
        with self.expecting(path, expected):
            self.of[who].index.write_file_if_match(path, expected, UNIVERSE.data[cid.digest])

    @rule(who=WHO, path=NAMES, cid=CIDS, expected=EXPECTED, queues=st.booleans())
    def name_content(self, who: int, path: str, cid: Cid, expected: Any, queues: bool) -> None:
        """``queues``: as the log's writer, index and outbox in one transaction."""
        self.queues = queues
        with suppress(FileMissing), self.expecting(path, expected):
            self.of[who].index.put_content(path, expected, cid, 1)
        self.queues = False

    @rule(who=WHO, path=NAMES)
    def delete(self, who: int, path: str) -> None:
        self.of[who].index.delete_file(path)
        assert path not in self.model.index

    @rule(who=WHO, source=NAMES, path=NAMES)
    def copy(self, who: int, source: str, path: str) -> None:
        with suppress(FileMissing):
            self.of[who].index.copy(source, path)
            assert self.model.index[path] == self.model.index[source]

    @rule(who=WHO, files=st.dictionaries(NAMES, CIDS, max_size=3))
    def replace(self, who: int, files: dict[str, Cid]) -> None:
        rows = [
            FileMetadata(path=path, content=cid, size_bytes=U64(1), updated_at_ms=TimeMs(1))
            for path, cid in sorted(files.items())
        ]
        self.of[who].index.replace(lambda: iter(rows))
        assert self.model.index == files

    @precondition(lambda self: self.model.outbox)
    @rule(who=WHO)
    def publish(self, who: int) -> None:
        with self.of[who].home.database.transaction():
            self.of[who].home.database.execute(
                "DELETE FROM replication_outbox WHERE position = (SELECT min(position) FROM replication_outbox)"
            )
        self.model.outbox.pop(0)

    @rule(who=WHO, cid=CIDS, to=st.sampled_from(["want", "name", "take_up", "have", "keep", "give_up"]))
    def content(self, who: int, cid: Cid, to: str) -> None:
        table, known = self.of[who].content, self.model.content
        match to:
            case "want":
                table.want([(cid, 1)], self.now_ms)
                known.setdefault(cid, "wanted")
            case "name":
                table.name([(cid, 1)], self.now_ms)
                known.setdefault(cid, "named")
            case "take_up":
                if table.take_up(cid, self.now_ms):
                    known[cid] = "wanted"
            case "have":
                table.mark_have([cid])
                if cid in known:
                    known[cid] = "have"
            case "keep":
                table.name([(cid, 1)], self.now_ms)
                table.take_up(cid, self.now_ms)
                table.mark_have([cid])
                known[cid] = "have"
            case "give_up":
                if table.give_up(cid):
                    known[cid] = "named"
                    self.of[who].own.discard([cid.digest, *(link.digest for link in UNIVERSE.links[cid.digest])])

    @rule(who=WHO, cids=SOME)
    def discard(self, who: int, cids: list[Cid]) -> None:
        """As for a copy that is given up; other roots and holds still keep it."""
        self.of[who].own.discard([cid.digest for cid in cids])

    @rule(who=WHO, state=st.sampled_from(UNIVERSE.states))
    def commit_block(self, who: int, state: Cid) -> None:
        parts = [state, *UNIVERSE.state_parts[state]]
        self.of[who].blobs.put_many(self.data_of(parts).values(), kept=True)
        self.model.kept |= {cid.digest for cid in parts}
        self.model.live = state

    # Time and damage.

    @rule(step_ms=st.sampled_from([1, 7, 60, 2_000, -5, -300]))
    def time_passes(self, step_ms: int) -> None:
        self.now_ms += step_ms
        self.model.end_pins(self.now_ms)

    @rule()
    def machine_sleeps(self) -> None:
        self.now_ms += 2 * HOLD_MS
        self.model.end_pins(self.now_ms)

    @rule(cid=st.sampled_from([*UNIVERSE.leaves, *UNIVERSE.nodes, *UNIVERSE.states]))
    def damage(self, cid: Cid) -> None:
        if self.file(cid.digest).exists():
            self.file(cid.digest).write_bytes(b"damaged")
        self.of[1].home.database.execute(
            "UPDATE blobs SET data = x'00' WHERE content_hash = ? AND data IS NOT NULL", (cid.digest,)
        )
        self.damaged.add(cid.digest)
        self.model.safe.discard(cid.digest)
        self.model.held = {key: held - {cid.digest} for key, held in self.model.held.items()}

    @rule(who=WHO, cid=st.sampled_from([*UNIVERSE.leaves, *UNIVERSE.nodes, *UNIVERSE.states]))
    def read(self, who: int, cid: Cid) -> None:
        was_here = self.is_present(cid.digest)
        try:
            assert self.of[who].blobs.get(cid.digest) == UNIVERSE.data[cid.digest]
        except (BlobNotFound, BlobHashMismatch):
            assert not was_here

"""A collection in single steps between those of other processes: nothing that must be here goes, all else does.

``COLLECTOR_EXAMPLES=2000 pytest --timeout 0`` looks longer, for some minutes.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test
from store_machine import CIDS, HOLD_MS, SOME, UNIVERSE, StoreMachine

from agent_world.errors import Refused
from agent_world.store.collector import Collector
from agent_world.wire.cid import Cid, ContentHash

EXAMPLES = int(os.environ.get("COLLECTOR_EXAMPLES", "100"))


class Killed(BaseException):
    """The process ends here."""


class Machine(StoreMachine):
    """The first process collects."""

    def __init__(self) -> None:
        super().__init__()
        self.collection = ExitStack()
        self.steps: Iterator[object] | None = None

    @precondition(lambda self: self.steps is None)
    @rule(grace_ms=st.sampled_from([0, 0, 50, 3_000]), down_to=st.sampled_from([None, None, 0, 20_010]))
    def begin_collection(self, grace_ms: int, down_to: int | None) -> None:
        self.collector = self.new_collector()
        self.collection.enter_context(self.collector.alone())
        self.steps = self.phases(self.collector, grace_ms, down_to)

    def new_collector(self) -> Collector:
        live = lambda: () if self.model.live is None else (self.model.live,)  # noqa: E731
        return Collector(self.of[0].home, self.of[0].blobs, live)

    def phases(self, collector: Collector, grace_ms: int, down_to: int | None) -> Iterator[object]:
        self.lose_holds()
        yield from collector.mark(self.now_ms)
        yield from collector.note(self.now_ms)
        yield from collector.sweep(self.now_ms, grace_ms, down_to_bytes=down_to)

    def lose_holds(self) -> None:
        """Those of another process that nobody has renewed in time, at the beginning of a collection."""
        for held in self.holds:
            if held.who != 0 and held.hold._until_ms <= self.now_ms:
                held.lost = True
                self.model.held.pop(id(held), None)
        self.look()

    @precondition(lambda self: self.steps is not None)
    @rule(count=st.integers(1, 6))
    def collect_on(self, count: int) -> None:
        assert self.steps is not None
        for _ in range(count):
            try:
                next(self.steps)
            except StopIteration:
                self.abandon()
                return

    @precondition(lambda self: self.steps is not None)
    @rule()
    def abandon(self) -> None:
        self.steps = None
        self.collection.close()

    @precondition(lambda self: self.steps is not None)
    @rule()
    def a_second_one_is_refused(self) -> None:
        collector = Collector(self.of[1].home, self.of[1].blobs)
        with pytest.raises(Refused), collector.alone():
            pass

    @precondition(lambda self: self.steps is None)
    @rule(cid=CIDS, is_killed=st.booleans())
    def remove_one(self, cid: Cid, is_killed: bool) -> None:
        collector = self.new_collector()
        with collector.alone():
            self.lose_holds()
            for _ in collector.mark(self.now_ms):
                pass
            with self.killed_after(1) if is_killed else ExitStack():
                collector.remove(cid.digest)

    @rule()
    def remove_orphan_files(self) -> None:
        self.of[0].blobs.remove_orphan_files()

    @rule(files=st.sampled_from([None, 0, 1]))
    def the_collecting_process_is_killed(self, files: int | None) -> None:
        """``files``: while it sweeps, after so many files are gone."""
        if self.steps is not None:
            if files is not None:
                with self.killed_after(files):
                    for _ in self.steps:
                        pass
            self.steps = None
            self.collector._end = lambda: None  # type: ignore[method-assign]
            self.collection.close()
        for held in [held for held in self.holds if held.who == 0]:
            self.holds.remove(held)
            self.model.held.pop(id(held), None)
        self.of[0].home.database.close()
        self.of[0] = self.open_process()

    @contextmanager
    def killed_after(self, files: int) -> Iterator[None]:
        """So many that are removed."""
        store = self.of[0].blobs._files
        delete, left = store.delete, [None] * files

        def delete_some(digest: ContentHash) -> None:
            if left:
                left.pop()
                self.torn.add(digest)
                delete(digest)
            if not left:
                raise Killed

        with suppress(Killed):
            try:
                store.delete = delete_some  # type: ignore[method-assign]
                yield
            finally:
                store.delete = delete  # type: ignore[method-assign]

    # Between a look of the collecting process and its next transaction.

    @rule(
        cids=SOME,
        root=st.sampled_from(
            ["hold", "hold and discard", "pin", "index", "write", "delete", "take_up", "give_up", "head"]
        ),
        after=st.integers(0, 3),
    )
    def another_comes_first(self, cids: list[Cid], root: str, after: int) -> None:
        """``after`` so many transactions that go before."""

        def act() -> None:
            if root.startswith("hold"):
                self.begin_hold(1)
                if self.holds and self.holds[-1].who == 1 and not self.holds[-1].lost:
                    self.put_under_hold(len(self.holds) - 1, cids)
                    if root == "hold and discard":
                        self.discard(1, cids)
            elif root == "pin":
                self.pin(1, "late", cids[0], True, None)
            elif root == "index":
                self.by_another(lambda: self.name_content(1, "late", cids[0], None, False))
            elif root == "write":
                self.by_another(lambda: self.write(1, "a", UNIVERSE.leaves[len(cids) - 1], None))
            elif root == "delete":
                self.by_another(lambda: self.delete(1, "a"))
            elif root == "head":
                self.commit_block(1, UNIVERSE.states[len(cids) - 1])
            else:
                self.content(1, cids[0], root)
            self.look()

        self.of[0].before[:] = [act, *[None] * after]

    def by_another(self, change: Callable[[], None]) -> None:
        """What the first process is about to do has its own condition."""
        meant = self.expected, self.queues
        self.expected, self.queues = None, False
        change()
        self.expected, self.queues = meant

    def teardown(self) -> None:
        """With nothing going on, a full collection leaves what is reached, and files and rows that fit each other."""
        if self.steps is not None:
            self.abandon()
        for process in self.of:
            process.before.clear()
        while self.holds:
            self.end_hold(0)
        self.now_ms += 4 * HOLD_MS
        self.model.end_pins(self.now_ms)
        self.model.look()
        for _ in range(2):  # the first may find damage, and then removes nothing
            collector = self.new_collector()
            with collector.alone():
                for _ in self.phases(collector, 0, None):
                    pass
        blobs = self.of[0].blobs
        blobs.remove_orphan_files()
        self.what_must_be_here_is_here()
        here, reached = set(blobs.iterate()), self.model.reached() | self.model.kept
        assert here <= reached, [UNIVERSE.data[digest][:20] for digest in here - reached]
        files = set(blobs._files.iterate())
        rows = {
            ContentHash(row[0])
            for row in self.of[0].home.database.query("SELECT content_hash FROM blobs WHERE data IS NULL")
        }
        assert files <= rows
        assert rows - files <= self.torn
        for process in self.of:
            process.home.database.close()
        shutil.rmtree(self.path)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a collection of a few blobs has many steps."""
    for name, value in {
        "collector.PAGE_ROWS": 2,
        "collector.SWEEP_AT_ONCE": 2,
        "collector.LATE_READS_MAX": 2,
        "reached.READ_AT_ONCE": 1,
    }.items():
        monkeypatch.setattr(f"agent_world.store.{name}", value)
    monkeypatch.setattr("agent_world.store.bulk_sync.fsync_path", lambda _path: None)


def test_nothing_that_must_be_here_goes_whatever_others_do_meanwhile(home_path: Path, tmp_path: Path) -> None:
    def folders() -> Iterator[Path]:
        for number in itertools.count():
            yield Path(shutil.copytree(home_path, tmp_path / f"{number}"))

    Machine.folders = folders()
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )

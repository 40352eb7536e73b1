from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_world.config import StorageConfig
from agent_world.crypto.hashing import cid_of
from agent_world.errors import HomeError, LocalError
from agent_world.store.content import (
    ERROR_CHARS_MAX,
    PAGE_ROWS_MAX,
    RETRY_MS_MAX,
    STATED_BYTES_MAX,
    ContentCount,
    ContentState,
    ContentTable,
)
from agent_world.store.home import Home
from agent_world.wire.cid import Codec
from agent_world.wire.limits import I64_MAX, U64_MAX

CIDS = [cid_of(b"content %d" % number, Codec.RAW) for number in range(6)]
CONFIG = StorageConfig(pull_attempts_max=3, pull_retry_ms=100)


@pytest.fixture
def table(home: Home) -> ContentTable:
    return ContentTable(home, CONFIG)


def counts(table: ContentTable) -> tuple[int, ...]:
    """Wanted, here, unavailable."""
    found = table.counts()
    return tuple(found[state].items for state in (ContentState.WANTED, ContentState.HAVE, ContentState.UNAVAILABLE))


def test_wanted_content_is_due_at_once_the_longest_waiting_first(table: ContentTable) -> None:
    assert table.want([(CIDS[0], 10)], now_ms=50) == 1
    assert table.want([(CIDS[0], 99), (CIDS[1], 20)], now_ms=40) == 1
    assert [content.cid for content in table.due(50, 10)] == [CIDS[1], CIDS[0]]
    assert [content.cid for content in table.due(49, 10)] == [CIDS[1]]
    assert [content.cid for content in table.due(50, 1)] == [CIDS[1]]
    assert table.next_due_ms() == 40
    content = table.get(CIDS[0])
    assert content is not None
    assert (content.size_bytes, content.state, content.attempts) == (10, ContentState.WANTED, 0)
    assert table.get(CIDS[2]) is None
    assert table.counts()[ContentState.WANTED] == ContentCount(items=2, size_bytes=30)


def test_raw_and_dag_cbor_of_the_same_bytes_are_two_things(table: ContentTable) -> None:
    table.want([(cid_of(b"x", Codec.RAW), 1), (cid_of(b"x", Codec.DAG_CBOR), 1)], now_ms=0)
    assert counts(table) == (2, 0, 0)


def test_retries_double_and_end_as_unavailable(table: ContentTable) -> None:
    table.want([(CIDS[0], 10)], now_ms=0)
    assert table.mark_failed(CIDS[0], "nobody has it", 1_000) is ContentState.WANTED
    assert table.next_due_ms() == 1_100
    assert table.due(1_099, 9) == ()
    assert table.mark_failed(CIDS[0], "still nobody", 2_000, jitter_ms=7) is ContentState.WANTED
    assert table.next_due_ms() == 2_207
    assert table.mark_failed(CIDS[0], "x" * 1_000, 3_000) is ContentState.UNAVAILABLE
    assert table.next_due_ms() is None
    assert table.due(10**9, 9) == ()
    (given_up,) = table.list(ContentState.UNAVAILABLE, 9)
    assert (given_up.attempts, given_up.last_error) == (3, "x" * ERROR_CHARS_MAX)
    with pytest.raises(LocalError, match="not wanted"):
        table.mark_failed(CIDS[0], "again", 4_000)


def test_the_pause_has_an_upper_bound(home: Home) -> None:
    table = ContentTable(home, StorageConfig(pull_attempts_max=100, pull_retry_ms=1_000))
    table.want([(CIDS[0], 10)], now_ms=0)
    for _ in range(90):
        table.mark_failed(CIDS[0], "", 0)
    assert table.next_due_ms() == RETRY_MS_MAX


def test_unavailable_content_holds_up_nothing_and_can_be_tried_again(table: ContentTable) -> None:
    table.want([(cid, 10) for cid in CIDS[:3]], now_ms=0)
    for number, cid in enumerate(CIDS[:2]):
        for _ in range(3):
            table.mark_failed(cid, "gone", number)
    assert [content.cid for content in table.due(0, 9)] == [CIDS[2]]
    assert table.reopen(now_ms=500, limit=1) == 1
    reopened = table.get(CIDS[0])
    assert reopened is not None
    assert (reopened.state, reopened.attempts, reopened.next_try_ms, reopened.last_error) == (
        ContentState.WANTED, 0, 500, "",
    )  # fmt: skip
    assert counts(table) == (2, 0, 1)


def test_what_is_here_stays_until_it_is_lost(table: ContentTable) -> None:
    table.want([(CIDS[0], 10), (CIDS[1], 5)], now_ms=0)
    table.mark_have([CIDS[0], CIDS[5]])
    assert table.want([(CIDS[0], 10)], now_ms=9) == 0
    assert counts(table) == (1, 1, 0)
    assert not table.mark_lost(CIDS[1], 5)
    assert table.mark_lost(CIDS[0], 5)
    assert counts(table) == (2, 0, 0)


def test_a_file_is_fetched_until_all_of_it_is_here(home: Home, table: ContentTable) -> None:
    file, other = CIDS[:2]
    table.want([(file, 0), (other, 5)], now_ms=0)
    table.mark_fetching(file, 1_000, 50)
    table.mark_progress(other, 3)  # no file: nothing to note
    table.mark_progress(file, 400)
    assert [content.cid for content in table.due(50, 9)] == [other]
    assert table.due(49, 9, ContentState.FETCHING) == ()
    (found,) = ContentTable(home, CONFIG).due(50, 9, ContentState.FETCHING)
    assert (found.cid, found.size_bytes, found.here_bytes, found.attempts) == (file, 1_000, 400, 0)
    assert table.counts()[ContentState.FETCHING] == ContentCount(items=1, size_bytes=1_000)
    table.mark_have([file])
    assert table.counts()[ContentState.HAVE] == ContentCount(items=1, size_bytes=1_000)
    table.mark_fetching(file, 7, 60)  # only what is wanted becomes a file to be fetched
    assert table.due(60, 9, ContentState.FETCHING) == ()


def test_progress_sets_the_tries_back_and_none_ends_them(table: ContentTable) -> None:
    table.want([(CIDS[0], 0)], now_ms=0)
    table.mark_fetching(CIDS[0], 1_000, 0)
    for here_bytes in (100, 200, 300, 400):
        assert table.mark_failed(CIDS[0], "cut off", 0) is ContentState.FETCHING
        table.mark_progress(CIDS[0], here_bytes)
    for _ in range(2):
        table.mark_progress(CIDS[0], 400)
        assert table.mark_failed(CIDS[0], "cut off", 0) is ContentState.FETCHING
    assert table.mark_failed(CIDS[0], "cut off", 0) is ContentState.UNAVAILABLE
    assert table.reopen(9, 9) == 1
    assert [content.cid for content in table.due(9, 9)] == [CIDS[0]]


def test_it_outlives_the_process(home: Home, table: ContentTable) -> None:
    table.want([(CIDS[0], 10)], now_ms=0)
    table.mark_failed(CIDS[0], "busy", 0)
    assert ContentTable(home, CONFIG).get(CIDS[0]) == table.get(CIDS[0])


def test_answers_are_bounded_and_any_stated_size_is_taken(table: ContentTable) -> None:
    many = [(cid_of(b"%d" % number), U64_MAX if number == 0 else 0) for number in range(PAGE_ROWS_MAX + 3)]
    assert table.want(many, now_ms=0) == PAGE_ROWS_MAX + 3
    assert len(table.due(0, 10**9)) == len(table.list(ContentState.WANTED, 10**9)) == PAGE_ROWS_MAX


def test_a_damaged_row_is_a_typed_error(home: Home, table: ContentTable) -> None:
    table.want([(CIDS[0], 10)], now_ms=0)
    home.database.execute("UPDATE content SET cid = x'00'")
    with pytest.raises(HomeError, match="damaged"):
        table.due(0, 1)


STEPS = st.lists(
    st.tuples(st.sampled_from(["want", "fetching", "have", "failed", "lost", "reopen"]), st.integers(0, 5)), max_size=40
)


@given(steps=STEPS)
@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
def test_counts_are_those_of_the_rows(home: Home, steps: list[tuple[str, int]]) -> None:
    table = ContentTable(home, CONFIG)
    home.database.execute("DELETE FROM content")
    assert counts(table) == (0, 0, 0)
    states: dict[int, tuple[ContentState, int]] = {}
    for operation, number in steps:
        state, attempts = states.get(number, (None, 0))
        if operation == "want":
            table.want([(CIDS[number], number)], 0)
            states.setdefault(number, (ContentState.WANTED, 0))
        elif operation == "fetching":
            table.mark_fetching(CIDS[number], number, 0)
            if state is ContentState.WANTED:
                states[number] = (ContentState.FETCHING, 0)
        elif operation == "have":
            table.mark_have([CIDS[number]])
            if state is not None:
                states[number] = (ContentState.HAVE, attempts)
        elif operation == "failed" and state in (ContentState.WANTED, ContentState.FETCHING):
            assert state is not None
            table.mark_failed(CIDS[number], "", 0)
            states[number] = (ContentState.UNAVAILABLE if attempts == 2 else state, attempts + 1)
        elif operation == "lost":
            assert table.mark_lost(CIDS[number], 0) == (state is ContentState.HAVE)
            if state is ContentState.HAVE:
                states[number] = (ContentState.WANTED, 0)
        elif operation == "reopen":
            table.reopen(0, 100)
            for other, (given_up, _) in list(states.items()):
                if given_up is ContentState.UNAVAILABLE:
                    states[other] = (ContentState.WANTED, 0)
        for kind, count in table.counts().items():
            those = [other for other, (found, _) in states.items() if found is kind]
            assert (count.items, count.size_bytes) == (len(those), sum(those))
            assert sorted(content.cid for content in table.list(kind, 100)) == sorted(CIDS[other] for other in those)


def test_what_is_still_to_come(table: ContentTable) -> None:
    assert table.missing_bytes() == 0
    table.want([(CIDS[0], 10), (CIDS[1], 20), (CIDS[2], 40)], 0)
    assert table.missing_bytes() == 70
    table.mark_fetching(CIDS[1], 500, 0)
    table.mark_progress(CIDS[1], 200)
    assert table.missing_bytes() == 50 + 300
    table.mark_have([CIDS[0]])
    table.mark_progress(CIDS[1], 900)
    assert table.missing_bytes() == 40, "an untrue size makes no room"


def test_whatever_sizes_are_stated_can_be_added_up(table: ContentTable) -> None:
    many = [cid_of(b"%d" % number) for number in range(1_000)]
    table.want([(cid, U64_MAX) for cid in many[:500]], 0)
    table.name([(cid, U64_MAX) for cid in many[500:]], 0)
    table.mark_fetching(many[0], U64_MAX, 0)
    table.mark_progress(many[0], U64_MAX)
    assert table.missing_bytes() == 499 * STATED_BYTES_MAX
    assert sum(count.size_bytes for count in table.counts().values()) == 1_000 * STATED_BYTES_MAX
    assert STATED_BYTES_MAX * 10**6 < I64_MAX


def test_many_are_looked_up_at_once(table: ContentTable) -> None:
    known = [cid_of(b"%d" % number, Codec.RAW) for number in range(PAGE_ROWS_MAX + 1)]
    table.want([(cid, place) for place, cid in enumerate(known)], 0)
    found = table.get_many([*known, cid_of(b"unknown", Codec.RAW), known[0]])
    assert found == {cid: table.get(cid) for cid in known}
    assert table.get_many([]) == {}

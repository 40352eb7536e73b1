from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_world.crypto.hashing import cid_of, hash32
from agent_world.distfs.manifest import ManifestBuilder
from agent_world.distfs.replication import (
    Accepted,
    Gap,
    Known,
    OpenedRecord,
    SingleWriterReplicationGuard,
    Superseded,
    apply_replication_record,
    build_replication_record,
    check_block,
    check_content,
    check_path,
    check_writer,
    commit_height,
    commit_path,
    judge,
    open_record,
    replay_replication_records,
    sign_replication_record,
    validate_and_advance,
)
from agent_world.errors import ErrorCode, HomeError, Refused, RemoteError
from agent_world.testing.record_log import EMPTY, GENESIS, WORLD, A, B, entry, guard, key_of, lease, written
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import U64
from agent_world.wire.limits import I64_MAX, RECORD_PATH_BYTES_MAX


def rule_of(action: Callable[[], object]) -> str:
    with pytest.raises((RemoteError, Refused)) as caught:
        action()
    assert isinstance(caught.value, (RemoteError, Refused))
    return caught.value.rule


class Store:
    """A ReplicaStore in memory; fails while ``broken``."""

    def __init__(self) -> None:
        self.now = EMPTY
        self.files: dict[str, bytes] = {}
        self.broken = False

    def guard(self) -> SingleWriterReplicationGuard:
        return self.now

    def accept(self, opened: OpenedRecord, guard: SingleWriterReplicationGuard, data: bytes) -> None:
        if self.broken:
            raise HomeError("the disk is full")
        self.now = guard
        self.files[opened.record.path] = data


def test_the_guard_goes_from_one_to_the_next() -> None:  # T-7.11
    first = written(EMPTY, A, 1)
    one = validate_and_advance(EMPTY, first.record)
    assert one == guard(A, 1, 1)
    two = validate_and_advance(one, written(one, A, 1).record)
    assert two.place == (1, 2)
    assert judge(two, first.record) == Known()
    assert rule_of(lambda: validate_and_advance(two, written(one, A, 1).record)) == "W10"  # equal sequence


def test_another_writer_needs_a_higher_term_and_sequence_1() -> None:  # T-7.11
    now = guard(A, 1, 3)
    for sequence in (1, 4):
        foreign = attrs.evolve(
            written(EMPTY, B, 1).record, sequence=U64(sequence), prev_epoch=U64(1), prev_sequence=U64(sequence - 1)
        )
        assert judge(now, foreign) == Superseded(U64(1), A)
        assert rule_of(lambda foreign=foreign: validate_and_advance(now, foreign)) == "W9"
    taken_over = written(now, B, 2)
    assert (taken_over.place, judge(now, taken_over.record)) == ((2, 1), Accepted(guard(B, 2, 1)))
    assert isinstance(judge(now, written(guard(B, 2, 1), B, 2).record), Gap)


def test_the_same_writer_begins_a_new_term_with_sequence_1() -> None:  # T-7.11
    now = guard(A, 1, 3)
    assert written(now, A, 2).place == (2, 1)
    assert judge(now, written(guard(A, 2, 4), A, 2).record) == Gap((1, 3), (2, 4))
    assert judge(guard(A, 2, 1), written(EMPTY, A, 1).record) == Superseded(U64(2), A)


def test_a_gap_asks_for_what_is_missing_and_is_no_end() -> None:  # K-7.11
    records = [written(EMPTY if n == 0 else guard(A, 1, n), A, 1).record for n in range(4)]
    assert judge(EMPTY, records[3]) == Gap((0, 0), (1, 3))
    assert judge(guard(A, 1, 1), records[3]) == Gap((1, 1), (1, 3))
    assert judge(guard(A, 1, 1), records[2]) == Gap((1, 1), (1, 2))
    now = EMPTY
    for said in records[:3]:
        now = validate_and_advance(now, said)
    assert isinstance(judge(now, records[3]), Accepted)


def test_a_new_term_shows_what_is_missing_of_the_one_before() -> None:
    takes_over = written(guard(A, 1, 9), B, 2).record
    assert judge(guard(A, 1, 4), takes_over) == Gap((1, 4), (1, 9))
    assert isinstance(judge(guard(A, 1, 9), takes_over), Accepted)
    assert isinstance(judge(guard(A, 1, 12), takes_over), Accepted)  # the other three are void


def test_the_guard_is_of_one_world() -> None:  # K-7.13
    data = written(EMPTY, A, 1).data
    assert rule_of(lambda: open_record(data, WORLD + "2", GENESIS)) == "W2"  # type: ignore[arg-type]
    assert open_record(data, WORLD, GENESIS).place == (1, 1)


def test_defaults_of_a_guard() -> None:  # T-7.11: what was stored before terms
    assert (EMPTY.writer_id, EMPTY.writer_epoch, EMPTY.last_sequence, EMPTY.place) == (None, 1, 0, (0, 0))


def test_a_writer_is_refused_what_its_lease_does_not_give() -> None:  # T-8.7
    for now, who, term in ((guard(B, 2, 1), A, 1), (guard(B, 2, 1), A, 2)):
        with pytest.raises(Refused) as caught:
            build_replication_record(now, lease(who, term), entry("x"))
        assert (caught.value.code, caught.value.rule) == (ErrorCode.UNAUTHORIZED, "W9")
    for now, term in ((guard(A, 1, I64_MAX), 1), (guard(A, 1, 1), I64_MAX + 1), (EMPTY, 0)):
        with pytest.raises(Refused) as caught:
            build_replication_record(now, lease(A, term), entry("x"))
        assert caught.value.code is ErrorCode.STATE_MISMATCH


def test_a_record_says_what_was_asked_of_it() -> None:
    said = build_replication_record(guard(A, 3, 8), lease(A, 3, 77), entry("a/b", b"four"))
    assert (said.writer_epoch, said.sequence, said.prev_epoch, said.prev_sequence) == (3, 9, 3, 8)
    assert (said.height, said.path, said.size_bytes) == (77, "a/b", 4)
    assert said.content == cid_of(b"four", Codec.RAW)


@pytest.mark.parametrize(
    "other",
    [lease(A, 1, 8), lease(B, 1), lease(A, 2), attrs.evolve(lease(A, 1), key=key_of(B).public_key), None],
)
def test_only_who_held_the_lease_at_that_height_is_believed(other: object) -> None:
    opened = written(EMPTY, A, 1)
    check_writer(opened, lease(A, 1))
    assert rule_of(lambda: check_writer(opened, other)) == "W7"  # type: ignore[arg-type]


NO_PATHS = ("", "/", "/a", "a/", "a//b", ".", "a/./b", "..", "a/../b", "a\0b", "x" * (RECORD_PATH_BYTES_MAX + 1))
NO_COMMITS = ("consensus/commits/1", "consensus/commits/", commit_path(0), commit_path(2**63), commit_path(7) + "/x")


@pytest.mark.parametrize("path", [*NO_PATHS, *NO_COMMITS])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    assert rule_of(lambda: check_path(path)) == "W4"


@given(st.integers(1, I64_MAX))
def test_commit_paths_name_their_height_and_sort_by_it(height: int) -> None:
    check_path(commit_path(height))
    assert commit_height(commit_path(height)) == height
    assert commit_path(height - 1) < commit_path(height)


def test_a_commit_is_the_committed_block() -> None:
    block = b"a block"
    said = attrs.evolve(written(EMPTY, A, 1, commit_path(5), block).record)
    check_block(said, hash32(block))
    assert rule_of(lambda: check_block(said, hash32(b"another"))) == "W8"
    assert rule_of(lambda: check_block(said, None)) == "W8"
    linked = attrs.evolve(said, content=Cid(Codec.DAG_CBOR, ContentHash(hash32(block))))
    assert rule_of(lambda: check_block(linked, hash32(block))) == "W8"


def test_content_is_hashed_and_measured() -> None:  # K-7.12
    said = written(EMPTY, A, 1, "f", b"1234").record
    check_content(said, b"1234")
    assert rule_of(lambda: check_content(said, b"123")) == "W8"
    assert rule_of(lambda: check_content(attrs.evolve(said, size_bytes=U64(5)), b"1234")) == "W8"
    builder = ManifestBuilder()
    parts = [*builder.add(bytes(3_000_000)), *builder.finish()]
    cid, manifest = parts[-1]
    large = attrs.evolve(said, content=cid, size_bytes=U64(3_000_000))
    check_content(large, manifest)
    assert rule_of(lambda: check_content(attrs.evolve(large, size_bytes=U64(len(manifest))), manifest)) == "W8"


def test_all_is_checked_before_anything_is_stored() -> None:  # T-7.11, K-7.12
    store = Store()
    first = written(EMPTY, A, 1)
    assert rule_of(lambda: apply_replication_record(store, first, lease(B, 1), b"data")) == "W7"
    assert rule_of(lambda: apply_replication_record(store, first, lease(A, 1), b"DATA")) == "W8"
    store.broken = True
    with pytest.raises(HomeError):
        apply_replication_record(store, first, lease(A, 1), b"data")
    assert (store.now, store.files) == (EMPTY, {})
    store.broken = False
    assert apply_replication_record(store, first, lease(A, 1), b"data") == store.now == guard(A, 1, 1)
    assert rule_of(lambda: apply_replication_record(store, first, lease(A, 1), b"data")) == "W10"
    assert store.files == {"file": b"data"}


def test_a_replay_stops_at_the_first_that_fails_and_keeps_those_before() -> None:  # T-7.11
    store = Store()
    one = written(EMPTY, A, 1, "one")
    two = written(guard(A, 1, 1), A, 1, "two")
    three = written(guard(A, 1, 2), A, 1, "three")
    result = replay_replication_records(
        store, [(one, lease(A, 1), b"data"), (two, lease(A, 1), b"wrong"), (three, lease(A, 1), b"data")]
    )
    assert [item.path for item in result.applied] == ["one"]
    assert isinstance(result.stopped_by, RemoteError)
    again = replay_replication_records(store, [(two, lease(A, 1), b"data"), (three, lease(A, 1), b"data")])
    assert ([item.path for item in again.applied], again.stopped_by) == (["two", "three"], None)
    assert sorted(store.files) == ["one", "three", "two"]


def test_a_signature_covers_the_whole_record() -> None:
    opened = written(EMPTY, A, 1)
    forged = sign_replication_record(attrs.evolve(opened.record, path="other"), GENESIS, key_of(A)).data
    assert rule_of(lambda: open_record(opened.data[:-1] + bytes([opened.data[-1] ^ 1]), WORLD, GENESIS)) == "W5"
    assert rule_of(lambda: open_record(forged, WORLD, hash32(b"other"))) == "W5"
    assert rule_of(lambda: open_record(b"\x00", WORLD, GENESIS)) == "W1"


steps = st.lists(
    st.tuples(st.sampled_from([A, B]), st.integers(0, 2), st.booleans(), st.integers(0, 9)), min_size=1, max_size=25
)


@given(steps)
def test_at_most_one_writer_a_term_and_places_only_rise(items: list[tuple[str, int, bool, int]]) -> None:  # I-8
    """Whatever is shown to it, built on whatever guard: (writer, how much the term rises, who builds on old guards)."""
    now, history, seen = EMPTY, [EMPTY], []
    term, holder = 0, A
    for who, rise, is_stale, again in items:
        if rise or term == 0:
            term, holder = term + max(1, rise), A if who == "a" else B  # a term is granted to one
        base = history[again % len(history)] if is_stale else now
        try:
            said = written(base, holder, term).record
        except Refused:
            continue
        seen.append(said)
        for shown in (said, seen[again % len(seen)]):
            judgement = judge(now, shown)
            if isinstance(judgement, Accepted):
                assert judgement.guard.place == (shown.writer_epoch, shown.sequence) > now.place
                is_next = judgement.guard.place == (now.place[0], now.place[1] + 1)
                assert is_next or (shown.sequence == 1 and (shown.prev_epoch, shown.prev_sequence) <= now.place)
                now = judgement.guard
                history.append(now)
    writers = {(item.writer_epoch, item.writer_id) for item in history[1:]}
    assert len({epoch for epoch, _writer in writers}) == len(writers)

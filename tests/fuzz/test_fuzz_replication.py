"""Whatever bytes a writer or a liar sends, a record is opened or refused by a W rule, and a log never goes wrong."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent_world.crypto.signing import Domain, sign_record
from agent_world.distfs.replication import check_path, commit_height, open_record
from agent_world.errors import RemoteError
from agent_world.handlers.replication import open_commit, open_offered, open_records
from agent_world.testing.examples import example as example_of
from agent_world.testing.record_log import EMPTY, GENESIS, WORLD, A, key_of, written
from agent_world.testing.record_strategies import records
from agent_world.wire import record
from agent_world.wire.replication import FileReplicationRecord, GetRecordsResponse

FUZZ = settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
GOOD = written(EMPTY, A, 1).data
RULES = {f"W{number}" for number in range(1, 6)}


def refused_by(data: bytes) -> str | None:
    try:
        opened = open_record(data, WORLD, GENESIS)
    except RemoteError as error:
        return error.rule
    assert opened.data == data
    check_path(opened.record.path)
    return None


@FUZZ
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    assert refused_by(data) in RULES


@FUZZ
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_one_changed_byte_is_never_accepted(place: int, change: int) -> None:
    data = bytearray(GOOD)
    data[place] ^= change
    assert refused_by(bytes(data)) in RULES
    assert refused_by(GOOD) is None


@FUZZ
@given(records(FileReplicationRecord))
def test_any_record_that_is_well_signed(said: FileReplicationRecord) -> None:
    signed = sign_record(Domain.REPLICATION, GENESIS, said, key_of(A))
    assert refused_by(signed) in {None, *RULES} - {"W5"}


@FUZZ
@given(st.text(st.sampled_from("a./\0\u00e9"), max_size=12))
@example("\ud800")
@example("consensus/commits/0000000000000000000\u0661")
def test_any_path(path: str) -> None:
    if is_path(path):
        assert path == "/".join(part for part in path.split("/") if part not in ("", ".", ".."))
        assert commit_height(path) is None or path.isascii()


def is_path(path: str) -> bool:
    try:
        check_path(path)
    except RemoteError as error:
        return error.rule != "W4"
    return True


@FUZZ
@given(st.binary(max_size=200))
def test_answers(data: bytes) -> None:
    opening: Any
    for opening in (open_offered, open_records, open_commit):
        try:
            opening(data)
        except RemoteError:
            continue
    answer = example_of(GetRecordsResponse, "typical")
    assert open_records(record.to_bytes(answer)) == answer

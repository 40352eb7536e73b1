from __future__ import annotations

import random
from pathlib import Path

import pytest

from agent_world.consensus.guard_records import GuardEntry, GuardRecord
from agent_world.crypto.hashing import hash32
from agent_world.errors import HomeError
from agent_world.store import guard_log
from agent_world.store.guard_log import HEADER_BYTES, GuardLog
from agent_world.wire.consensus import Step
from agent_world.wire.ids import U32, U64, PublicKey

GENESIS = hash32(b"genesis")
KEY = PublicKey(bytes(range(32)))


def record_of(sequence: int, *, size: int = 60) -> GuardRecord:
    signed = random.Random(sequence).randbytes(size)
    entry = GuardEntry(height=U64(sequence), round=U32(0), step=Step.PREVOTE, signed=signed)
    return GuardRecord(sequence=U64(sequence), sign_floor=U64(0), entry=entry, lock=None, valid=None)


RECORDS = tuple(record_of(number) for number in range(1, 5))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "guard.log"
    log = GuardLog.rewrite(path, GENESIS, KEY, RECORDS[:2])
    for made in RECORDS[2:]:
        log.append(made)
    log.close()
    return path


def test_what_was_appended_is_read(path: Path) -> None:
    content = guard_log.read(path, GENESIS, KEY)
    assert content.records == RECORDS
    assert (content.damage, content.touched_height, content.end) == ("", 4, path.stat().st_size)


def test_appending_and_rewriting_give_the_same_bytes(path: Path) -> None:
    before = path.read_bytes()
    GuardLog.rewrite(path, GENESIS, KEY, RECORDS).close()
    assert path.read_bytes() == before


def test_a_log_cut_at_any_byte_of_its_last_record_is_torn_not_damaged(path: Path) -> None:
    whole = path.read_bytes()
    GuardLog.rewrite(path, GENESIS, KEY, RECORDS[:3]).close()
    start = path.stat().st_size
    for cut in range(start, len(whole)):
        path.write_bytes(whole[:cut])
        content = guard_log.read(path, GENESIS, KEY)
        assert (content.records, content.damage, content.end) == (RECORDS[:3], "", start)
        log = GuardLog.resume(path, content.end)
        log.append(RECORDS[3])
        log.close()
        assert path.read_bytes() == whole


def test_a_tail_is_part_of_the_record_that_was_being_written_and_of_no_other(path: Path) -> None:
    whole = path.read_bytes()
    GuardLog.rewrite(path, GENESIS, KEY, RECORDS[:3]).close()
    start = path.stat().st_size
    holes = whole[: start + 10] + bytes(30) + whole[start + 40 :]
    for data, is_part in (
        (whole[: start + 5], True), (whole[:-1], True), (holes[:-1], True), (whole[:start] + bytes(60), True),
        (whole[: start + 20] + b"\x01" + whole[start + 21 : -1], False), (whole[:start] + bytes(5_000), False),
    ):  # fmt: skip
        path.write_bytes(data)
        content = guard_log.read(path, GENESIS, KEY)
        assert (content.records, content.damage) == (RECORDS[:3], "")
        assert content.is_part_of(RECORDS[3]) is is_part
    path.write_bytes(whole[:-1])
    assert not guard_log.read(path, GENESIS, KEY).is_part_of(RECORDS[2])


@pytest.mark.parametrize("tail", [bytes(1), bytes(4), bytes(5000)])
def test_a_file_that_grew_without_its_bytes_is_torn(path: Path, tail: bytes) -> None:
    end = path.stat().st_size
    path.write_bytes(path.read_bytes() + tail)
    content = guard_log.read(path, GENESIS, KEY)
    assert (content.records, content.damage, content.end) == (RECORDS, "", end)


def test_every_flipped_byte_is_found(path: Path) -> None:
    whole = path.read_bytes()
    last = len(whole) - (len(whole) - HEADER_BYTES) // len(RECORDS)
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 1 << position % 8
        path.write_bytes(data)
        content = guard_log.read(path, GENESIS, KEY)
        assert content.records == RECORDS[: len(content.records)]
        assert len(content.records) < len(RECORDS)
        if position < HEADER_BYTES:
            assert content.damage == "the header is damaged"
        elif content.damage == "":
            # It looks like a torn tail: the last record, or a length that reaches beyond the end.
            assert position >= last or content.end <= position < content.end + 4


def test_behind_damage_the_heights_are_still_seen(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[HEADER_BYTES + 10] ^= 1
    path.write_bytes(data)
    content = guard_log.read(path, GENESIS, KEY)
    assert (content.records, content.touched_height) == ((), 4)
    assert "damaged" in content.damage


def test_a_record_that_was_cut_out_is_found(path: Path) -> None:
    whole = path.read_bytes()
    size = (len(whole) - HEADER_BYTES) // len(RECORDS)
    path.write_bytes(whole[: HEADER_BYTES + size] + whole[HEADER_BYTES + 2 * size :])
    content = guard_log.read(path, GENESIS, KEY)
    assert content.records == RECORDS[:1]
    assert content.damage


def test_a_log_of_another_world_or_key_is_refused(path: Path) -> None:
    before = path.read_bytes()
    for genesis_hash, key in ((hash32(b"other"), KEY), (GENESIS, PublicKey(bytes(32)))):
        with pytest.raises(HomeError, match="another world or validator key"):
            guard_log.read(path, genesis_hash, key)
    assert path.read_bytes() == before


def test_what_is_no_log_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_log, "LOG_BYTES_MAX", 100)
    with pytest.raises(HomeError, match="not a guard log"):
        guard_log.read(path, GENESIS, KEY)
    with pytest.raises(HomeError, match="cannot be read"):
        guard_log.read(path.with_name("absent"), GENESIS, KEY)


def test_a_disk_that_refuses_is_a_home_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = GuardLog.resume(path, path.stat().st_size)
    monkeypatch.setattr("os.write", lambda _descriptor, data: len(data) - 1)
    with pytest.raises(HomeError, match="free disk space"):
        log.append(record_of(5))
    log.close()


def test_a_log_says_when_it_is_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_log, "COMPACT_BYTES", 2_000)
    log = GuardLog.rewrite(path, GENESIS, KEY, ())
    for number in range(1, 50):
        log.append(record_of(number))
        assert log.is_long == (path.stat().st_size > 2_000)
    log.close()
    assert not GuardLog.resume(path, path.stat().st_size).is_long

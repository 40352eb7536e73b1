"""A reader that finds damage, beside a sweep and beside others who store the same content anew."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from collector_rig import LARGE, Rig, before_next_transaction

from agent_world.crypto.hashing import content_hash
from agent_world.errors import BlobHashMismatch, BlobNotFound
from agent_world.store.blob_files import BlobFiles
from agent_world.store.blobs import LocalCasStore
from agent_world.store.home import Home

DATA = b"large" * LARGE
DIGEST = content_hash(DATA)


@pytest.fixture
def rig(home: Home) -> Rig:
    return Rig(home)


@pytest.fixture
def other(home: Home) -> LocalCasStore:
    """Another program with the same store."""
    return LocalCasStore(home)


def once_before_read(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """What happens between the reading of a row and that of its file."""
    read, waiting = BlobFiles.read, [act]

    def after(files: BlobFiles, digest: object) -> bytes | None:
        if waiting:
            waiting.pop()()
        return read(files, digest)  # type: ignore[arg-type]

    monkeypatch.setattr(BlobFiles, "read", after)


def test_a_blob_that_is_stored_anew_after_a_reader_missed_its_file_stays(
    rig: Rig, other: LocalCasStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader has its row from before a sweep, and looks for the file after it."""
    rig.blobs.put(DATA)

    def sweep_and_put_again() -> None:
        rig.collect()
        before_next_transaction(monkeypatch, rig.home.database, lambda: other.put(DATA))

    once_before_read(monkeypatch, sweep_and_put_again)
    assert rig.blobs.get(DIGEST) == DATA
    assert other.get(DIGEST) == DATA
    assert not rig.blobs.counters().get("file_missing")


def test_a_swept_blob_that_nobody_stores_anew_is_not_here(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.blobs.put(DATA)
    once_before_read(monkeypatch, rig.collect)
    with pytest.raises(BlobNotFound):
        rig.blobs.get(DIGEST)
    assert not rig.blobs.counters().get("file_missing")


@pytest.mark.parametrize("data", [b"small", DATA])
def test_a_blob_that_is_healed_after_a_reader_found_it_damaged_stays(
    rig: Rig, other: LocalCasStore, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    cid = rig.raw(data)
    if data == DATA:
        rig.blobs._files.path(cid.digest).write_bytes(b"damaged")
    else:
        rig.home.database.execute("UPDATE blobs SET data = x'00'")
    before_next_transaction(monkeypatch, rig.home.database, lambda: other.put(data))
    assert rig.blobs.get(cid.digest) == data
    assert rig.blobs.get(cid.digest) == data
    assert len([*rig.home.files.quarantine.iterdir()]) == 1, "by who healed it"
    assert not rig.blobs.counters().get("corrupt")


def test_a_blob_that_is_healed_and_damaged_again_is_set_aside_as_it_is_then(
    rig: Rig, other: LocalCasStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = rig.blobs._files.path(rig.raw(DATA).digest)
    path.write_bytes(b"damaged")

    def heal_and_damage() -> None:
        other.put(DATA)
        path.write_bytes(b"damaged once more")

    before_next_transaction(monkeypatch, rig.home.database, heal_and_damage)
    with pytest.raises(BlobHashMismatch, match="quarantine"):
        rig.blobs.get(DIGEST)
    assert not rig.blobs.has(DIGEST)
    assert {file.read_bytes() for file in rig.home.files.quarantine.iterdir()} == {b"damaged", b"damaged once more"}


@pytest.mark.parametrize("what", ["delete", "remove_orphan_files"])
def test_a_file_that_is_put_anew_before_its_old_one_is_removed_stays(
    rig: Rig, other: LocalCasStore, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    rig.blobs.put(DATA)
    if what == "delete":
        forget = rig.blobs._delete_rows

        def forget_and_put(wanted: list[object]) -> object:
            result = forget(wanted)  # type: ignore[arg-type]
            before_next_transaction(monkeypatch, rig.home.database, lambda: other.put(DATA))
            return result

        monkeypatch.setattr(rig.blobs, "_delete_rows", forget_and_put)
        assert rig.blobs.delete(DIGEST)
    else:
        rig.home.database.execute("DELETE FROM blobs")
        before_next_transaction(monkeypatch, rig.home.database, lambda: other.put(DATA))
        assert rig.blobs.remove_orphan_files() == 0
    assert other.get(DIGEST) == DATA


def test_a_part_of_the_chain_whose_healing_is_lost_half_way_is_the_chains_once_it_is_healed(rig: Rig) -> None:
    """Its file is damaged again, and set aside, before its row is there."""
    rig.blobs.put(DATA, kept=True)
    path = rig.blobs._files.path(DIGEST)
    path.write_bytes(b"damaged")
    prepared = rig.blobs.prepare({DIGEST: DATA})
    path.unlink()
    assert rig.blobs.commit(prepared) == {DIGEST}
    rig.blobs.put(DATA)
    assert rig.blobs.usage().kept_bytes == len(DATA)
    rig.collect()
    assert rig.blobs.has(DIGEST)

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_world.config import StorageConfig
from agent_world.crypto.hashing import content_hash, hash32
from agent_world.errors import BlobHashMismatch, BlobNotFound, BlobTooLarge, DataError, HomeError
from agent_world.store.blob_store import BlobUsage
from agent_world.store.blobs import LocalCasStore
from agent_world.store.home import Home
from agent_world.wire.cid import ContentHash
from agent_world.wire.limits import BLOB_BYTES_MAX

GENESIS = hash32(b"genesis")
SMALL = b"small blob"
LARGE = b"large blob" * 3000
LIMIT = StorageConfig().inline_bytes_max


@pytest.fixture
def store(home: Home) -> LocalCasStore:
    return LocalCasStore(home)


def damage(home: Home, key: ContentHash, position: int = 0, bit: int = 1) -> None:
    """Flip a bit of a stored blob, behind the store's back."""
    rows = home.database.query("SELECT data FROM blobs WHERE content_hash = ?", (key,))
    path = home.files.blobs / key.hex()[:2] / key.hex()
    data = bytearray(path.read_bytes() if rows[0][0] is None else rows[0][0])
    data[position] ^= bit
    if rows[0][0] is None:
        path.write_bytes(bytes(data))
    else:
        home.database.execute("UPDATE blobs SET data = ? WHERE content_hash = ?", (bytes(data), key))


def quarantined(home: Home) -> list[bytes]:
    return sorted(path.read_bytes() for path in home.files.quarantine.iterdir())


@pytest.mark.parametrize("size", [0, 1, LIMIT - 1, LIMIT, LIMIT + 1, BLOB_BYTES_MAX])
def test_put_and_get_around_the_limits(home: Home, store: LocalCasStore, size: int) -> None:
    data = random.Random(size).randbytes(size)
    key = store.put(data)
    assert key == content_hash(data)
    assert store.get(key) == data
    stat = store.stat(key)
    assert (stat.size_bytes, stat.is_file) == (size, size > LIMIT)
    assert (home.files.blobs / key.hex()[:2] / key.hex()).exists() == stat.is_file


def test_a_blob_above_the_limit_is_refused_with_its_whole_batch(store: LocalCasStore) -> None:
    with pytest.raises(BlobTooLarge, match="manifest"):
        store.put_many([SMALL, bytes(BLOB_BYTES_MAX + 1)])
    assert list(store.iterate()) == []


def test_a_prepared_blob_must_have_the_hash_it_is_offered_under(home: Home, store: LocalCasStore) -> None:
    with pytest.raises(BlobHashMismatch):
        store.prepare({content_hash(LARGE): LARGE, content_hash(SMALL): LARGE})
    assert list(home.files.blobs.iterdir()) == []


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_wrong_bytes_are_not_here_because_they_are_stored_wrong_too(
    home: Home, store: LocalCasStore, data: bytes
) -> None:
    key = store.put(data)
    damage(home, key)
    with home.database.transaction():
        [(inline,)] = home.database.query("SELECT data FROM blobs WHERE content_hash = ?", (key,))
    damaged = (home.files.blobs / key.hex()[:2] / key.hex()).read_bytes() if inline is None else inline
    assert damaged != data
    with pytest.raises(BlobHashMismatch):
        store.prepare({key: damaged})
    assert store.get(store.put(data)) == data
    assert store.counters()["healed"] == 1


def test_put_many_keeps_order_and_stores_equal_content_once(store: LocalCasStore) -> None:
    assert store.put_many([LARGE, SMALL, LARGE]) == (content_hash(LARGE), content_hash(SMALL), content_hash(LARGE))
    assert store.put_many([SMALL]) == (content_hash(SMALL),)
    assert store.put_many([]) == ()
    assert store.usage() == BlobUsage(2, len(SMALL) + len(LARGE))
    assert store.counters()["stored"] == 2


def test_many_blobs(store: LocalCasStore) -> None:
    blobs = [b"blob %d" % number for number in range(700)]
    keys = store.put_many(blobs)
    assert list(store.iterate()) == sorted(keys)
    assert list(store.iterate(after=sorted(keys)[500])) == sorted(keys)[501:]
    unknown = ContentHash(bytes(32))
    assert store.has_many([*keys, unknown]) == frozenset(keys)
    assert store.get_many([unknown, *keys]) == dict(zip(keys, blobs, strict=True))


def test_what_is_not_here(store: LocalCasStore) -> None:
    unknown = content_hash(SMALL)
    for ask in (store.get, store.stat):
        with pytest.raises(BlobNotFound, match=unknown.hex()):
            ask(unknown)
    assert not store.has(unknown)
    assert not store.delete(unknown)


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_delete(home: Home, store: LocalCasStore, data: bytes) -> None:
    key = store.put(data)
    assert store.delete(key)
    assert not store.has(key)
    assert store.usage() == BlobUsage(0, 0)
    assert [path for path in home.files.blobs.rglob("*") if path.is_file()] == []
    assert store.get(store.put(data)) == data


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_a_corrupt_blob_is_put_aside_and_counted(home: Home, store: LocalCasStore, data: bytes) -> None:
    key, other = store.put_many([data, b"neighbour"])
    damage(home, key)
    with pytest.raises(BlobHashMismatch, match="quarantine"):
        store.get(key)
    with pytest.raises(BlobNotFound):
        store.get(key)
    assert quarantined(home) == [bytes([data[0] ^ 1]) + data[1:]]
    assert store.counters()["corrupt"] == 1
    assert store.get(other) == b"neighbour"
    assert store.get(store.put(data)) == data


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_put_heals_a_corrupt_blob(home: Home, store: LocalCasStore, data: bytes) -> None:  # K-2.3
    key = store.put(data)
    damage(home, key)
    store.put(data)
    assert store.get(key) == data
    assert store.counters()["healed"] == 1
    assert len(quarantined(home)) == 1


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_one_corrupt_blob_does_not_lose_its_neighbours(home: Home, store: LocalCasStore, data: bytes) -> None:
    keys = store.put_many([b"first", data, b"last"])
    damage(home, keys[1])
    assert store.get_many(keys) == {keys[0]: b"first", keys[2]: b"last"}
    assert len(quarantined(home)) == 1


@pytest.mark.parametrize("data", [b"a small one", b"a file" * 3000])
def test_every_flipped_byte_is_found(home: Home, store: LocalCasStore, data: bytes) -> None:
    key = store.put(data)
    positions = range(len(data)) if len(data) < 100 else random.Random(1).sample(range(len(data)), 50)
    for position in positions:
        damage(home, key, position, bit=1 << position % 8)
        with pytest.raises(BlobHashMismatch):
            store.get(key)
        store.put(data)
    assert store.get(key) == data


@pytest.mark.parametrize("value", ["text", 7, None])
def test_a_column_of_another_type_is_found(home: Home, store: LocalCasStore, value: object) -> None:
    """What a damaged page can turn a blob into, though the table is strict."""
    key = store.put(SMALL)
    home.database.query("PRAGMA ignore_check_constraints = ON")
    home.database.execute("CREATE TABLE loose (content_hash BLOB, size_bytes INTEGER, data)")
    home.database.execute("INSERT INTO loose VALUES (?, 1, ?)", (key, value))
    home.database.execute("DROP TABLE blobs")
    home.database.execute("ALTER TABLE loose RENAME TO blobs")
    with pytest.raises(DataError):
        store.get(key)


def test_a_lost_file_is_no_longer_there(home: Home, store: LocalCasStore) -> None:
    key = store.put(LARGE)
    (home.files.blobs / key.hex()[:2] / key.hex()).unlink()
    with pytest.raises(BlobNotFound, match="fetched again"):
        store.get(key)
    assert not store.has(key)
    assert store.counters()["file_missing"] == 1


def test_a_reader_finds_damage_and_changes_nothing(home: Home, store: LocalCasStore) -> None:
    key = store.put(LARGE)
    damage(home, key)
    with Home.read_only(home.files.path) as reading:
        reader = LocalCasStore(reading)
        for _ in range(2):
            with pytest.raises(BlobHashMismatch):
                reader.get(key)
    assert quarantined(home) == []
    assert store.has(key)


def test_what_a_crash_left_is_cleaned_up(home_path: Path) -> None:
    steps: list[str] = []
    orphan = b"orphan" * 4000

    def stop(step: str) -> None:
        steps.append(step)
        if step == "blob_files_durable":
            raise InterruptedError

    with Home.open(home_path, GENESIS) as home:
        with pytest.raises(InterruptedError):
            LocalCasStore(home, fault=stop).put(orphan)
        LocalCasStore(home).put(LARGE)
    (home_path / "blobs" / ".tmp-1").write_bytes(b"half")
    assert steps == ["blob_files_written", "blob_files_renamed", "blob_files_durable"]
    with Home.open(home_path, GENESIS) as home:
        store = LocalCasStore(home)
        assert store.counters()["unfinished_removed"] == 1
        assert not store.has(content_hash(orphan))
        assert store.remove_orphan_files() == 1
        assert store.remove_orphan_files() == 0
        assert store.get(content_hash(LARGE)) == LARGE
        assert store.get(store.put(orphan)) == orphan


def test_a_rolled_back_commit_leaves_no_blob(home: Home, store: LocalCasStore) -> None:
    prepared = store.prepare({content_hash(data): data for data in (SMALL, LARGE)})

    def insert_and_fail() -> None:
        with home.database.transaction():
            store.insert(prepared)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        insert_and_fail()
    assert list(store.iterate()) == []
    assert store.usage() == BlobUsage(0, 0)


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    from agent_world.crypto.keys import KeyPair

    path = tmp_path_factory.mktemp("shared") / "home"
    Home.create(path, genesis_hash=GENESIS, genesis_toml="", node_toml="", node_key=KeyPair(bytes(32)))
    with Home.open(path, GENESIS) as home:
        yield home


@given(steps=st.lists(st.tuples(st.sampled_from(["put", "delete", "damage", "get"]), st.integers(0, 5)), max_size=30))
@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
def test_bytes_of_a_hash_always_hash_to_it(shared_home: Home, steps: list[tuple[str, int]]) -> None:  # I-1
    store = LocalCasStore(shared_home, StorageConfig(inline_bytes_max=30))
    contents = [bytes([65 + number]) * (10 * number + 10) for number in range(6)]
    store.delete_many(list(store.iterate()))
    expected: dict[int, bool] = {}  # number -> whether it is intact
    for operation, number in steps:
        key = content_hash(contents[number])
        if operation == "put":
            assert store.put(contents[number]) == key
            expected[number] = True
        elif operation == "delete":
            assert store.delete(key) == (number in expected)
            expected.pop(number, None)
        elif operation == "damage" and expected.get(number):
            damage(shared_home, key)
            expected[number] = False
        elif operation == "get" and expected.get(number):
            assert store.get(key) == contents[number]
        elif operation == "get":
            with pytest.raises((BlobNotFound, BlobHashMismatch)):
                store.get(key)
            expected.pop(number, None)
        assert set(store.iterate()) == {content_hash(contents[number]) for number in expected}
        assert store.usage() == BlobUsage(len(expected), sum(len(contents[number]) for number in expected))


def test_bytes_flipped_anywhere_in_the_database_file_never_pass_as_content(tmp_path: Path, home_path: Path) -> None:
    """Whatever byte of world.db goes bad: a typed error, or the right bytes; never other bytes, never a traceback."""
    blobs = [b"blob %d " % number * 40 for number in range(60)]
    with Home.open(home_path, GENESIS) as home:
        LocalCasStore(home).put_many(blobs)
    original = (home_path / "world.db").read_bytes()
    chance = random.Random(7)
    found = {"refused": 0, "reported": 0, "harmless": 0}
    for _ in range(250):
        data = bytearray(original)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (home_path / "world.db").write_bytes(data)
        try:
            with Home.open(home_path, GENESIS) as home:
                store = LocalCasStore(home)
                missed = sum(not reads(store, blob) for blob in blobs)
                found["reported" if missed else "harmless"] += 1
        except HomeError:
            found["refused"] += 1
    assert min(found.values()) > 0, found


def reads(store: LocalCasStore, blob: bytes) -> bool:
    try:
        assert store.get(content_hash(blob)) == blob
    except (BlobNotFound, BlobHashMismatch):
        return False
    return True

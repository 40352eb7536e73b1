"""Export and import of an index (T-2.11, T-2.12): canonical, strict, all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from agent_world.crypto.hashing import cid_of, content_hash
from agent_world.errors import BlobHashMismatch, BlobNotFound, DecodeError
from agent_world.store.blobs import LocalCasStore
from agent_world.store.collector import Collector
from agent_world.store.file_index import FileIndex
from agent_world.store.file_manifest import export_manifest, import_manifest
from agent_world.store.home import Home
from agent_world.store.pins import Pin, PinTable
from agent_world.store.pruning import prune_orphan_blobs
from agent_world.wire import record
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.file_index import (
    PAGE_FILES_MAX,
    FileIndexManifest,
    FileIndexManifestRef,
    FileIndexPage,
    FileMetadata,
)
from agent_world.wire.ids import U64, TimeMs
from agent_world.wire.limits import BLOB_BYTES_MAX


@pytest.fixture
def blobs(home: Home) -> LocalCasStore:
    return LocalCasStore(home)


@pytest.fixture
def index(home: Home, blobs: LocalCasStore) -> FileIndex:
    made = FileIndex(home, blobs)
    made.write_file("a", b"one")
    made.write_file("b/large", b"2" * (BLOB_BYTES_MAX + 7))
    made.write_file("c", b"")
    return made


def listed(index: FileIndex) -> list[FileMetadata]:
    return list(index.list_files())


def test_t_2_11_an_index_comes_back_as_it_was(index: FileIndex, blobs: LocalCasStore) -> None:
    ref, before = export_manifest(index, blobs), listed(index)
    assert export_manifest(index, blobs) == ref
    for file in before:
        index.delete_file(file.path)
    index.write_file("other", b"is replaced")
    assert import_manifest(ref, index, blobs) == 3
    assert listed(index) == before
    assert export_manifest(index, blobs) == ref
    index.write_file("a", b"changed")
    assert export_manifest(index, blobs) != ref


@pytest.mark.parametrize("count", [0, 1, PAGE_FILES_MAX, PAGE_FILES_MAX + 1, 9 * PAGE_FILES_MAX])
def test_indexes_of_any_size(home: Home, blobs: LocalCasStore, count: int) -> None:
    index = FileIndex(home, blobs)
    cid = Cid(Codec.RAW, blobs.put(b"same"))
    files = [
        FileMetadata(path=f"{number:06}", content=cid, size_bytes=U64(4), updated_at_ms=TimeMs(number))
        for number in range(count)
    ]
    index.replace(lambda: iter(files))
    ref = export_manifest(index, blobs)
    index.replace(lambda: iter(()))
    assert import_manifest(ref, index, blobs) == count
    assert listed(index) == files


@pytest.mark.parametrize("part", ["a", "c", "chunk", "manifest", "page", "root"])
@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_an_import_without_all_of_it_changes_nothing(
    home: Home, index: FileIndex, blobs: LocalCasStore, part: str, how: str
) -> None:
    ref = export_manifest(index, blobs)
    root = record.from_bytes(FileIndexManifest, blobs.get(ref.content_hash), size_max=BLOB_BYTES_MAX)
    large = index.need("b/large").content
    digest = {
        "a": content_hash(b"one"), "c": content_hash(b""), "chunk": content_hash(b"2" * 7),
        "manifest": large.digest, "page": root.pages[0].digest, "root": ref.content_hash,
    }[part]  # fmt: skip
    index.write_file("since", b"then")
    before = listed(index)
    change = "DELETE FROM blobs" if how == "gone" else "UPDATE blobs SET data = x'0102'"
    assert home.database.execute(f"{change} WHERE content_hash = ?", (digest,)) == 1
    with pytest.raises(BlobNotFound if how == "gone" else BlobHashMismatch):
        import_manifest(ref, index, blobs)
    assert listed(index) == before


def stored(blobs: LocalCasStore, *pages: tuple[FileMetadata, ...], files: int | None = None) -> FileIndexManifestRef:
    links = []
    for page in pages:
        data = record.to_bytes(FileIndexPage(files=page))
        blobs.put(data)
        links.append(cid_of(data))
    total = sum(map(len, pages)) if files is None else files
    root = record.to_bytes(FileIndexManifest(files=U64(total), pages=tuple(links)))
    blobs.put(root)
    return FileIndexManifestRef(content_hash=cid_of(root).digest, size_bytes=U64(len(root)))


def a_file(path: str, **changes: Any) -> FileMetadata:
    cid = Cid(Codec.RAW, content_hash(b"one"))
    return attrs.evolve(FileMetadata(path=path, content=cid, size_bytes=U64(3), updated_at_ms=TimeMs(1)), **changes)


FULL = tuple(a_file(f"{number:04}") for number in range(PAGE_FILES_MAX))
WRONG: list[tuple[str, Callable[[LocalCasStore], FileIndexManifestRef]]] = [
    ("F1", lambda blobs: attrs.evolve(stored(blobs), size_bytes=U64(1))),
    ("F2", lambda blobs: stored(blobs, (a_file("a"),), files=2)),
    ("F2", lambda blobs: stored(blobs, (a_file("a"),), files=0)),
    ("F2", lambda blobs: stored(blobs, (a_file("a"),), (a_file("b"),))),
    ("F2", lambda blobs: stored(blobs, (), files=0)),
    ("F2", lambda blobs: stored(blobs, FULL[:-1], (a_file("a"), a_file("b")), files=PAGE_FILES_MAX + 1)),
    ("F3", lambda blobs: stored(blobs, (a_file("./a"),))),
    ("F3", lambda blobs: stored(blobs, (a_file("../a"),))),
    ("F3", lambda blobs: stored(blobs, (a_file("/a"),))),
    ("F3", lambda blobs: stored(blobs, (a_file(""),))),
    ("F3", lambda blobs: stored(blobs, (a_file("consensus/commits/1"),))),
    ("F4", lambda blobs: stored(blobs, (a_file("b"), a_file("a")))),
    ("F4", lambda blobs: stored(blobs, (a_file("a"), a_file("a")))),
    ("F4", lambda blobs: stored(blobs, FULL, (a_file("0000"),))),
    ("F5", lambda blobs: stored(blobs, (a_file("a", size_bytes=U64(4)),))),
]


@pytest.mark.parametrize(("broken", "make"), WRONG)
def test_t_2_12_a_manifest_that_breaks_a_rule_changes_nothing(
    index: FileIndex, blobs: LocalCasStore, broken: str, make: Callable[[LocalCasStore], FileIndexManifestRef]
) -> None:
    before = listed(index)
    with pytest.raises(DecodeError) as caught:
        import_manifest(make(blobs), index, blobs)
    assert caught.value.rule == broken
    assert listed(index) == before


def test_a_file_that_is_no_manifest_and_a_manifest_with_a_wrong_size(index: FileIndex, blobs: LocalCasStore) -> None:
    page = record.to_bytes(FileIndexPage(files=()))
    blobs.put(page)
    large = index.need("b/large")
    wrong = [
        FileIndexManifestRef(content_hash=content_hash(b"one"), size_bytes=U64(3)),
        FileIndexManifestRef(content_hash=ContentHash(cid_of(page).digest), size_bytes=U64(len(page))),
        stored(blobs, (a_file("a", content=large.content, size_bytes=U64(large.size_bytes + 1)),)),
        stored(blobs, (a_file("a", content=Cid(Codec.DAG_CBOR, content_hash(b"one"))),)),
    ]
    before = listed(index)
    for ref in wrong:
        with pytest.raises(DecodeError):
            import_manifest(ref, index, blobs)
    assert listed(index) == before


def test_what_an_import_has_checked_stays_until_the_index_reaches_it(
    home: Home, index: FileIndex, blobs: LocalCasStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program collects between the checks and the change: all of it was garbage until then."""
    ref, before = export_manifest(index, blobs), listed(index)
    now_ms = 1_000_000
    blobs.wall_ms = lambda: now_ms
    for file in before:
        index.delete_file(file.path)
    collector = Collector(home, blobs)
    with collector.alone():
        for _ in (*collector.mark(now_ms), *collector.note(now_ms)):
            pass
    now_ms += 5
    replace = index.replace

    def after_a_collection(files: Any) -> int:
        prune_orphan_blobs(home, blobs)
        return replace(files)

    monkeypatch.setattr(index, "replace", after_a_collection)
    PinTable(home).put(
        Pin(name="manifest", cid=Cid(Codec.DAG_CBOR, ref.content_hash), recursive=False, made_ms=TimeMs(1))
    )
    for page in (
        link.digest
        for link in record.from_bytes(FileIndexManifest, blobs.get(ref.content_hash), size_max=BLOB_BYTES_MAX).pages
    ):
        PinTable(home).put(Pin(name="page", cid=Cid(Codec.DAG_CBOR, page), recursive=False, made_ms=TimeMs(1)))
    assert import_manifest(ref, index, blobs) == len(before)
    assert b"".join(index.read_parts("b/large")) == b"2" * (BLOB_BYTES_MAX + 7)
    assert index.read_file("a") == b"one"

"""A file index as content, and back (F6, F7): canonical, strict, all or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent_world.crypto.hashing import cid_of
from agent_world.distfs.manifest import assemble, open_manifest
from agent_world.distfs.paths import normalise_own
from agent_world.errors import DecodeError, UsageError
from agent_world.store.blobs import LocalCasStore
from agent_world.store.file_index import FileIndex
from agent_world.wire import record
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.file_index import (
    PAGE_FILES_MAX,
    FileIndexManifest,
    FileIndexManifestRef,
    FileIndexPage,
    FileMetadata,
)
from agent_world.wire.ids import U64
from agent_world.wire.limits import BLOB_BYTES_MAX

PAGES_AT_ONCE: Final = 8
"""Stored in one transaction."""


def export_manifest(index: FileIndex, blobs: LocalCasStore) -> FileIndexManifestRef:
    """Store the index as content; the same index gives the same ref. What is to keep it is the caller's affair.

    Raises StoreFull, HomeError. Files that change meanwhile are in it as they were or as they are.
    """
    with blobs.hold():
        pages: list[Cid] = []
        waiting: list[bytes] = []
        files = 0
        for page in _paged(index.list_files()):
            files += len(page)
            data = record.to_bytes(FileIndexPage(files=tuple(page)))
            pages.append(cid_of(data))
            waiting.append(data)
            if len(waiting) == PAGES_AT_ONCE:
                blobs.put_many(waiting)
                waiting.clear()
        root = record.to_bytes(FileIndexManifest(files=U64(files), pages=tuple(pages)))
        blobs.put_many([*waiting, root])
    return FileIndexManifestRef(content_hash=cid_of(root).digest, size_bytes=U64(len(root)))


def _paged(files: Iterator[FileMetadata]) -> Iterator[list[FileMetadata]]:
    page: list[FileMetadata] = []
    for file in files:
        page.append(file)
        if len(page) == PAGE_FILES_MAX:
            yield page
            page = []
    if page:
        yield page


def import_manifest(ref: FileIndexManifestRef, index: FileIndex, blobs: LocalCasStore) -> int:
    """Let the index be what the manifest says, or stay as it is; how many files.

    Everything is read and checked first: each page, each blob of each file by its hash, each size. Raises BlobNotFound,
    BlobHashMismatch, and DecodeError naming the rule (F1 to F5) that the manifest breaks.
    """
    with blobs.hold() as hold:
        for file in open_index(ref, blobs):
            hold.renew()
            _check_content(file, blobs)
        return index.replace(lambda: open_index(ref, blobs))


def open_index(ref: FileIndexManifestRef, blobs: LocalCasStore) -> Iterator[FileMetadata]:
    """The files of a manifest; raises as ``import_manifest``, but for the files' content."""
    data = blobs.get(ref.content_hash)
    # [REJECT] F1: the manifest has the size that the reference says.
    if len(data) != ref.size_bytes:
        raise DecodeError("F1", f"the manifest has {len(data)} bytes, the reference says {ref.size_bytes}")
    manifest = record.from_bytes(FileIndexManifest, data, size_max=BLOB_BYTES_MAX)
    # [REJECT] F2: there are as many pages as the files need, all full but the last.
    if len(manifest.pages) != -(-manifest.files // PAGE_FILES_MAX):
        raise DecodeError("F2", f"{len(manifest.pages)} pages for {manifest.files} files")
    last = ""
    left: int = manifest.files
    for link in manifest.pages:
        page = record.from_bytes(FileIndexPage, blobs.get(link.digest), size_max=BLOB_BYTES_MAX)
        if link.codec is not Codec.DAG_CBOR or len(page.files) != min(left, PAGE_FILES_MAX):
            raise DecodeError("F2", f"a page of {len(page.files)} files where {min(left, PAGE_FILES_MAX)} belong")
        left -= len(page.files)
        for file in page.files:
            _check_path(file.path, last)
            last = file.path
            yield file


def _check_path(path: str, last: str) -> None:
    # [REJECT] F3: every path has its normal form, and is none of the record log's.
    try:
        is_normal = normalise_own(path) == path
    except UsageError:
        is_normal = False
    if not is_normal:
        raise DecodeError("F3", f"path {path[:80]!r} is not in its normal form")
    # [REJECT] F4: paths ascend by their bytes, none is there twice.
    if path.encode() <= last.encode() and last:
        raise DecodeError("F4", f"path {path[:80]!r} comes after {last[:80]!r}")


def _check_content(file: FileMetadata, blobs: LocalCasStore) -> None:
    # [REJECT] F5: a file has the size that is stated, all of it is here, and every byte hashes to its name.
    def get(link: Cid) -> bytes:
        blobs.rely_on((link.digest,))  # its root, the index, comes once all is checked
        return blobs.get(link.digest)

    cid = file.content
    if cid.codec is Codec.RAW:
        size = len(get(cid))
    else:
        size = open_manifest(cid, get(cid)).size_bytes
        for _part in assemble(cid, get):
            continue
    if size != file.size_bytes:
        raise DecodeError("F5", f"{file.path} has {size} bytes, the manifest says {file.size_bytes}")

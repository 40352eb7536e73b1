from __future__ import annotations

from agent_world.crypto.hashing import cid_of
from agent_world.wire import cbor, record
from agent_world.wire.blob import FileManifest
from agent_world.wire.file_index import PAGE_FILES_MAX, FileIndexPage, FileMetadata
from agent_world.wire.ids import U64, TimeMs
from agent_world.wire.limits import BLOB_BYTES_MAX, U64_MAX


def test_a_page_of_the_longest_paths_fits_into_a_blob_and_links_to_its_files() -> None:
    files = tuple(
        FileMetadata(
            path=f"{number:01024}", content=cid_of(b"%d" % number), size_bytes=U64(U64_MAX), updated_at_ms=TimeMs(2**62)
        )
        for number in range(PAGE_FILES_MAX)
    )
    data = record.to_bytes(FileIndexPage(files=files))
    assert len(data) < BLOB_BYTES_MAX
    assert cbor.links_of(cbor.decode(data, size_max=BLOB_BYTES_MAX)) == [file.content for file in files]
    assert files[0].content_hash == files[0].content.digest


def test_a_page_is_never_taken_for_a_file_manifest() -> None:
    """Both are content without a name of their kind; a file manifest is told by its first bytes."""
    page = record.to_bytes(FileIndexPage(files=()))
    manifest = record.to_bytes(FileManifest(size_bytes=U64(0), links=()))
    assert not page.startswith(manifest[:9])

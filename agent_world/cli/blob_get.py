"""agent-world blob get."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from blake3 import blake3

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.content_name import content_cid
from agent_world.cli.output import json_option, show
from agent_world.cli.progress import bytes_progress, counted
from agent_world.crypto.hashing import verify_blob
from agent_world.distfs.manifest import ManifestBuilder
from agent_world.errors import BlobHashMismatch, UsageError
from agent_world.store.disk_faults import not_writable
from agent_world.wire.cid import Cid, ContentHash


@click.command("get")
@click.argument("content")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; it must not exist. Standard output if not given.",
)
@click.option("--offset", type=click.IntRange(0), default=0, help="First byte that is wanted.")
@click.option("--length", type=click.IntRange(0), help="How many bytes at most; all if not given.")
@click.option("--provider", "providers", multiple=True, help="Peer id to fetch from, and from nobody else. Repeatable.")
@home_option
@json_option
def command(
    content: str,
    output: Path | None,
    offset: int,
    length: int | None,
    providers: tuple[str, ...],
    home: Path,
    as_json: bool,
) -> None:
    """Fetch CONTENT (64 hex digits or a CID) through the node; whole content is hashed again here.

    The CID of a file manifest gives the file, put together from its chunks. A content hash gives the blob itself.
    """
    is_blob = len(content) == 64 and not (offset or length is not None or providers)
    cid = content_cid(content)
    query: dict[str, Any] = {"offset": offset, "provider": list(providers)}
    if length is not None:
        query["length"] = length
    with NodeClient(home) as node:
        if is_blob:
            parts: Iterator[bytes] = iter([verify_blob(node.get_bytes(f"/blobs/{content}"), cid.digest)])
            _deliver(parts, output, cid.digest, as_json=as_json)
            return
        with (
            node.get_stream(f"/content/{cid}", **query) as (stream, size),
            bytes_progress("fetching", size, quiet=as_json or output is None) as bar,
        ):
            whole = offset == 0 and length is None
            shown = counted(stream, bar)
            _deliver(_checked(shown, cid) if whole else shown, output, cid.digest, as_json=as_json)


def _checked(parts: Iterator[bytes], cid: Cid) -> Iterator[bytes]:
    """The parts; raises BlobHashMismatch at the end if they are neither the blob nor the file of ``cid``."""
    builder, as_blob = ManifestBuilder(), blake3()
    manifest: Cid | None = None
    for part in parts:
        as_blob.update(part)
        for _chunk in builder.add(part):
            continue  # only its hash is of interest here
        yield part
    for manifest, _blob in builder.finish():  # noqa: B007 - the last one is the manifest
        continue
    if as_blob.digest() != cid.digest and manifest != cid:
        raise BlobHashMismatch(f"what the node gave is not the content of {cid}")


def _deliver(parts: Iterator[bytes], output: Path | None, digest: ContentHash, *, as_json: bool) -> None:
    if output is not None:
        size = write_new(output, parts)
        show({"content_hash": digest, "size_bytes": size, "file": str(output)}, as_json=as_json)
    elif as_json:
        data = b"".join(parts)
        show({"content_hash": digest, "size_bytes": len(data), "blob": data}, as_json=True)
    else:
        for part in parts:
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()


def write_new(output: Path, parts: Iterator[bytes]) -> int:
    """Write a file that must not exist; nothing is left of it if the parts end in an error. Returns its size.

    Raises UsageError for a name that is taken or whose folder is none, StoreNotWritable for what the disk refuses.
    """
    size = 0
    try:
        with output.open("xb") as file:
            try:
                for part in parts:
                    size += file.write(part)
            # Ctrl-C, which is no Exception, must not leave half a file either; whatever it is goes on its way.
            except BaseException:
                output.unlink()
                raise
    except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"cannot write {output}: {error}") from None
    except OSError as error:
        raise not_writable(f"cannot write {output}", error) from None
    return size

"""agent-world blob import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.file_parts import opened, parts_of, read_part
from agent_world.cli.fs_files import tell_if_any_local
from agent_world.cli.output import json_option, show, show_rows
from agent_world.cli.printable import say
from agent_world.cli.unixfs_import import UnixfsImport, seekable
from agent_world.errors import UsageError
from agent_world.store.car_file import HEAD_BYTES_MAX, roots_at

_COLUMNS = ("path", "size_bytes", "cid", "at")


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--pin", metavar="NAME", help="Name of the pin, for an archive of one root; its CID without it.")
@click.option("--into", metavar="PATH", help="Where in the file index the files of another IPFS tool go.")
@home_option
@json_option
def command(file: Path, pin: str | None, into: str | None, home: Path, as_json: bool) -> None:
    """Store what is in the archive FILE (CAR, version 1; - for standard input).

    Every block is compared with its CID. Blocks with BLAKE3-256 and the codec raw or dag-cbor are stored as they are,
    and the roots pinned. "missing" counts linked blocks that neither the archive nor the node has.

    An archive of another IPFS tool, with files and folders (UnixFS, dag-pb) and CIDs of SHA-256 or BLAKE3, is read as
    such: each file is stored as content, and pinned under its CID here, which is printed. With --into they are
    written into the file index instead: a file at PATH, what is in a folder below PATH. All of the archive is checked
    before anything is stored.

    \b
    Example:
      agent-world blob import backup.car --pin backup --home swarm/storage-2
      agent-world blob import site.car --into www --home swarm/storage-2
    """
    with NodeClient(home) as node, opened(file) as source:
        head = read_part(source, file, HEAD_BYTES_MAX)
        if all(root.is_own for root in roots_at(head)):
            if into is not None:
                raise UsageError("--into is for archives of files (UnixFS); this one has blobs, or is none")
            with parts_of(source, file, quiet=as_json, head=head) as parts:
                show(node.post_stream("/car", parts, pin=pin), as_json=as_json)
            return
        if pin is not None:
            raise UsageError("the files of this archive are pinned under their CIDs; blob pin gives one a name")
        with seekable(source, file, head) as archive:
            _show(UnixfsImport(node, file, quiet=as_json).run(archive, into), as_json=as_json)


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show(found, as_json=True)
        return
    show_rows(found["files"], _COLUMNS if found["into"] else _COLUMNS[:-1], as_json=False)
    for entry in found["left_out"]:
        say(f"left out: {entry['path']}, {entry['why']}", err=True)
    tell_if_any_local([row["at"] for row in found["files"] if row["is_local"]])

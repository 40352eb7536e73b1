"""Files of another IPFS tool, out of its archive and into a node."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import click

from agent_world.cli.client import NodeClient
from agent_world.cli.file_parts import read_part, regular_size
from agent_world.cli.progress import bytes_progress, counted
from agent_world.distfs.paths import normalise_own
from agent_world.distfs.unixfs_dag import DagEntry, UnixfsDag
from agent_world.errors import AgentWorldError
from agent_world.store.car_file import CarFile
from agent_world.store.disk_faults import not_writable
from agent_world.wire.ipfs_cid import IpfsCid
from agent_world.wire.limits import MIB


@attrs.frozen(slots=True)
class _Planned:
    """A file of the archive."""

    entry: DagEntry
    at: str | None
    """Where it goes in the index; None: it is stored as content."""


class UnixfsImport:
    """One archive into one node, a file at a time and a block of it in memory."""

    def __init__(self, node: NodeClient, name: Path, *, quiet: bool) -> None:
        self._node = node
        self._name = name
        self._quiet = quiet

    def run(self, archive: BinaryIO, into: str | None) -> dict[str, Any]:
        """Check all of the archive, then store its files; what was stored, for JSON.

        Raises UsageError before anything is stored, and what the node answers to a file.
        """
        car = CarFile(archive, self._name)
        with bytes_progress(f"reading {self._name.name}", regular_size(archive), quiet=self._quiet) as bar:
            car.scan(lambda size: bar.advance(bar.task_ids[0], size))
        dag = UnixfsDag(car)
        roots = tuple(dict.fromkeys(car.roots))
        entries = [(root, entry) for root in roots for entry in dag.entries(root)]
        left_out = [{"path": entry.path, "why": entry.left_out} for _, entry in entries if entry.left_out]
        wanted = [
            _Planned(entry, None if into is None else _place(into, entry, root if len(roots) == 1 else None))
            for root, entry in entries
            if not entry.left_out
        ]
        files = self._store(dag, wanted)
        shown = [str(root) for root in roots]
        return {"roots": shown, "blocks": car.blocks, "into": into, "files": files, "left_out": left_out}

    def _store(self, dag: UnixfsDag, wanted: list[_Planned]) -> list[dict[str, Any]]:
        files: list[dict[str, Any]] = []
        total = sum(item.entry.size_bytes for item in wanted)
        try:
            with bytes_progress(f"storing {self._name.name}", total, quiet=self._quiet) as bar:
                for item in wanted:
                    parts = counted(dag.parts(item.entry.cid), bar)
                    if item.at is None:
                        stored = self._node.post_stream("/content", parts)
                    else:
                        stored = self._node.post_stream("/fs/file", parts, path=item.at)
                    files.append(_shown(item, stored))
        except AgentWorldError:
            click.echo(f"{len(files)} of {len(wanted)} files were stored before this", err=True)
            raise
        return files


def _shown(item: _Planned, stored: Mapping[str, Any]) -> dict[str, Any]:
    """A stored file; ``is_local`` as ``fs write`` says it, None if it is in no index."""
    return {
        "path": item.entry.path,
        "ipfs_cid": str(item.entry.cid),
        "cid": stored["cid"],
        "size_bytes": item.entry.size_bytes,
        "at": item.at,
        "is_local": None if item.at is None else bool(stored.get("is_local")),
    }


def _place(into: str, entry: DagEntry, only_root: IpfsCid | None) -> str:
    """Where in the index a file goes; of several roots each has a folder."""
    inner = entry.path if only_root is None else entry.path[len(str(only_root)) :]
    return normalise_own(f"{into}/{inner}" if inner else into)


@contextmanager
def seekable(source: BinaryIO, file: Path, head: bytes) -> Iterator[BinaryIO]:
    """``source``, of which ``head`` was read, as a file that can be read at any place: a pipe is copied to one."""
    if source.seekable():
        yield source
        return
    with _copied(source, file, head) as copy:
        yield copy


def _copied(source: BinaryIO, file: Path, head: bytes) -> BinaryIO:
    """A file without a name that holds all of it; raises StoreNotWritable."""
    try:
        with ExitStack() as unless_done:
            copy = unless_done.enter_context(tempfile.TemporaryFile())
            copy.write(head)
            while part := read_part(source, file, MIB):
                copy.write(part)
            copy.flush()
            unless_done.pop_all()
            return copy
    except OSError as error:
        raise not_writable(f"cannot copy {file} to a temporary file", error) from None

"""agent-world fs sync."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.folder_sync import FolderSync, Row, local_files, plan
from agent_world.cli.fs_files import all_files, tell_if_any_local
from agent_world.cli.output import json_option, show, show_rows
from agent_world.cli.progress import bytes_progress
from agent_world.errors import DataError, FileConflict

_COLUMNS: Final = ("action", "path", "size_bytes", "detail")


@click.command("sync")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--to", "prefix", default="", help="Folder of the index that mirrors DIRECTORY; its top without it.")
@click.option("--delete", is_flag=True, help="Remove files of that folder that are not in DIRECTORY.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@home_option
@json_option
def command(directory: Path, prefix: str, delete: bool, dry_run: bool, home: Path, as_json: bool) -> None:
    """Mirror the folder DIRECTORY into the node's file index.

    Only files whose content differs are sent. Each is written, and removed, on the condition that the index has what it
    had when this began: what somebody else has changed meanwhile stays as it is and is reported as a conflict (exit
    code 69). Symbolic links and special files are passed over.

    \b
    Example:
      agent-world fs sync site --to www --delete --home swarm/storage-1
    """
    folder = prefix.strip("/")
    with NodeClient(home) as node:
        there = {file["path"]: file for file in all_files(node, f"{folder}/" if folder else "")}
        here = list(local_files(directory, folder))
        with bytes_progress("comparing", sum(file.size_bytes for file in here), quiet=as_json) as bar:
            rows = plan(here, there, lambda size: bar.advance(bar.task_ids[0], size), delete=delete)
        if not dry_run:
            sending = sum(row.size_bytes for row in rows if row.action == "write")
            with bytes_progress("sending", sending, quiet=as_json) as bar:
                rows = FolderSync(node, lambda size: bar.advance(bar.task_ids[0], size)).carry_out(rows)
    _show(rows, dry_run=dry_run, as_json=as_json)


def _show(rows: list[Row], *, dry_run: bool, as_json: bool) -> None:
    names = ("write", "unchanged", "remove", "conflict", "skipped", "failed")
    summary: dict[str, Any] = {name: sum(row.action == name for row in rows) for name in names}
    summary["bytes_sent"] = 0 if dry_run else sum(row.size_bytes for row in rows if row.action == "write")
    own = [row.path for row in rows if row.is_local]
    told = [row.shown() for row in rows if row.action != "unchanged"]
    if as_json:
        show({**summary, "dry_run": dry_run, "local": len(own), "files": told}, as_json=True)
    else:
        if told:
            show_rows(told, _COLUMNS, as_json=False)
        click.echo(", ".join(f"{count} {name}" for name, count in summary.items()) + (" (dry run)" if dry_run else ""))
        tell_if_any_local(own)
    if summary["failed"]:
        raise SystemExit(DataError.exit_code)
    if summary["conflict"]:
        raise SystemExit(FileConflict.exit_code)

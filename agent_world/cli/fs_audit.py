"""agent-world fs audit."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show
from agent_world.cli.progress import counts_progress
from agent_world.errors import DataError


@click.command("audit")
@click.option("--read", is_flag=True, help="Read every byte of the files and compare it with its hash.")
@home_option
@json_option
def command(read: bool, home: Path, as_json: bool) -> None:
    """Check that the node's file index, pins and blobs fit each other.

    Missing: parts of files that are not here. Dangling: pinned and not here. Orphans: here and reached by nothing,
    which `blob gc` removes in time; they are no fault. Exits with 65 if anything is missing or dangling.

    What is missing, or with --read damaged, is fetched from peers again; a later audit shows whether that went well.
    """
    with NodeClient(home) as node, counts_progress("auditing", quiet=as_json) as told:
        found = node.post_long("/fs/audit", {"read": read}, told)
    if as_json:
        show(found, as_json=True)
    else:
        click.echo(f"{found['total_indexed_files']} files, {found['total_pins']} pins")
        for name in ("missing_file_blob_hashes", "dangling_pin_hashes", "orphan_blob_hashes"):
            click.echo(f"{name.removesuffix('_hashes').replace('_', ' ')}: {len(found[name])}")
            for digest in found[name][:20]:
                click.echo(f"  {digest}")
        click.echo(f"orphans have {found['orphan_bytes']} bytes")
    if found["missing_file_blob_hashes"] or found["dangling_pin_hashes"]:
        sys.exit(DataError.exit_code)

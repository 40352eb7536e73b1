"""agent-world blob verify."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import click
from rich.progress import Progress

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.content_name import content_cid
from agent_world.cli.output import json_option
from agent_world.cli.output import show as show_value
from agent_world.cli.progress import count_progress
from agent_world.errors import DataError
from agent_world.wire.cid import Cid

_AT_ONCE: Final = 256
"""Contents named in one request; the node takes no more."""
_SHOWN_MAX: Final = 1_000
"""Blobs named in the report; all are counted."""


class _Findings:
    """What the node has answered so far."""

    def __init__(self) -> None:
        self.checked = 0
        self.size_bytes = 0
        self.verdicts: Counter[str] = Counter()
        self.found: list[dict[str, Any]] = []

    def add(self, answer: dict[str, Any]) -> None:
        self.checked += answer["done"]
        self.size_bytes += answer["size_bytes"]
        self.verdicts.update(entry["verdict"] for entry in answer["found"])
        self.found += answer["found"][: _SHOWN_MAX - len(self.found)]

    @property
    def ok(self) -> bool:
        return all(verdict == "healed" for verdict in self.verdicts)


@click.command("verify")
@click.argument("contents", nargs=-1)
@click.option("--heal", is_flag=True, help="Fetch again what is damaged, and what is missing of CONTENTS.")
@click.option("--prefix", default="", help="Without CONTENTS: only blobs whose hash begins with these hex digits.")
@home_option
@json_option
def command(contents: tuple[str, ...], heal: bool, prefix: str, home: Path, as_json: bool) -> None:
    """Have the node read what it stores and compare it with its hashes: everything, or CONTENTS and all they link to.

    Damaged blobs are put aside and fetched again from peers: at once with --heal, otherwise when the node next looks
    after what it has lost. Exits with 65 if anything is damaged or missing in the end.
    """
    findings = _Findings()
    with NodeClient(home) as node, count_progress("reading blobs", quiet=as_json) as bar:
        if contents:
            _verify_contents(node, [content_cid(text) for text in contents], heal, findings, bar)
        else:
            _verify_stored(node, prefix, heal, findings, bar)
    shown = {
        "checked": findings.checked,
        "size_bytes": findings.size_bytes,
        **{verdict: findings.verdicts[verdict] for verdict in ("damaged", "healed", "absent", "unreadable")},
        "ok": findings.ok,
    }
    if as_json:
        show_value({**shown, "found": findings.found}, as_json=True)
    else:
        show_value(shown, as_json=False)
        for entry in findings.found:
            click.echo(f"{entry['verdict']:10} {entry['content_hash']}", err=True)
        if sum(findings.verdicts.values()) > len(findings.found):
            click.echo(f"and {sum(findings.verdicts.values()) - len(findings.found)} more", err=True)
    if not findings.ok:
        sys.exit(DataError.exit_code)


def _verify_contents(node: NodeClient, roots: list[Cid], heal: bool, findings: _Findings, bar: Progress) -> None:
    waiting = [str(cid) for cid in dict.fromkeys(roots)][::-1]
    seen = set(waiting)
    while waiting:
        asked = waiting[: -_AT_ONCE - 1 : -1]
        answer = node.post_json("/blobs/verify", {"contents": asked, "heal": heal})
        findings.add(answer)
        del waiting[len(waiting) - answer["done"] :]
        links = [link for link in dict.fromkeys(answer["links"]) if link not in seen]
        seen.update(links)
        waiting += reversed(links)
        bar.update(bar.task_ids[0], completed=findings.checked, total=findings.checked + len(waiting))


def _verify_stored(node: NodeClient, prefix: str, heal: bool, findings: _Findings, bar: Progress) -> None:
    after: str | None = None
    while True:
        answer = node.post_json("/blobs/verify", {"prefix": prefix, "after": after, "heal": heal})
        findings.add(answer)
        bar.update(bar.task_ids[0], completed=findings.checked, total=None if prefix else answer["total"])
        after = answer["next"]
        if after is None:
            return

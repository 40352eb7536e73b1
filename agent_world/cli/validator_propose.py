"""agent-world validator propose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agent_world.cli.client import NodeClient, home_option
from agent_world.cli.output import json_option, show
from agent_world.errors import ErrorCode, Refused, UsageError
from agent_world.wire.limits import U64_MAX
from agent_world.wire.membership import ChangeKind

_MEMBER = "ID:KEY:STAKE"


@click.command("propose")
@home_option
@click.option("--add", "added", multiple=True, metavar=_MEMBER, help="A newcomer; may be given several times.")
@click.option("--remove", "removed", multiple=True, metavar="ID", help="Who leaves; may be given several times.")
@click.option("--replace", "replaced", multiple=True, metavar=_MEMBER, help="One member of a whole new set.")
@click.option("--rotate-key", "rotated", metavar=_MEMBER, help="A member with its new key, its stake unchanged.")
@click.option("--set-stake", "restaked", metavar=_MEMBER, help="A member with its new stake, its key unchanged.")
@click.option("--with-lease", is_flag=True, help="Have the block refuse it unless this validator holds the lease.")
@click.option("--reason", help="A few words for the other operators.")
@json_option
def command(home: Path, with_lease: bool, reason: str | None, as_json: bool, **asked: Any) -> None:
    """File one change of the validator set with this node's validator key, and approve it.

    It takes effect with the next epoch once validators with the required stake have approved it:
    agent-world validator approve CHANGE_ID. KEY is the validator's public key, 64 hex digits (keys show FILE).

    Example: agent-world validator propose --home swarm/sequencer-1 --add sequencer-4:5f0c…9a:100
    """
    change = change_of(**asked)
    with NodeClient(home) as node:
        answer = node.post_json("/validators/changes", {**change, "with_lease": with_lease, "reason": reason})
    if answer["code"] == "ok":
        answer = {"change_id": answer["action_id"], **answer}
    show(answer, as_json=as_json)
    if answer["code"] != "ok":
        raise Refused(ErrorCode.STATE_MISMATCH, f"the change was refused: {answer['code']}")


def change_of(
    added: tuple[str, ...],
    removed: tuple[str, ...],
    replaced: tuple[str, ...],
    rotated: str | None,
    restaked: str | None,
) -> dict[str, Any]:
    """The one change that the options name; raises UsageError for none or several."""
    kinds: dict[ChangeKind, tuple[str, ...]] = {
        ChangeKind.ADD: added,
        ChangeKind.REPLACE: replaced,
        ChangeKind.ROTATE_KEY: () if rotated is None else (rotated,),
        ChangeKind.SET_STAKE: () if restaked is None else (restaked,),
    }
    given = [kind for kind, members in kinds.items() if members]
    if len(given) + bool(removed) != 1:
        raise UsageError("name one kind of change: --add, --remove, --replace, --rotate-key or --set-stake")
    if removed:
        return {"kind": ChangeKind.REMOVE.value, "validators": [], "removed": list(removed)}
    members = [_member(text) for text in kinds[given[0]]]
    return {"kind": given[0].value, "validators": members, "removed": []}


def _member(text: str) -> dict[str, Any]:
    name, _, rest = text.partition(":")
    key, _, stake = rest.partition(":")
    if len(key) != 64 or not all(digit in "0123456789abcdef" for digit in key):
        raise UsageError(f"{text!r}: write {_MEMBER} with the public key as 64 lower-case hex digits")
    if not stake.isascii() or not stake.isdigit() or int(stake) > U64_MAX:
        raise UsageError(f"{text!r}: write {_MEMBER} with the stake as a whole number")
    return {"validator_id": name, "public_key": key, "stake": int(stake)}

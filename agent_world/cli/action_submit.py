"""agent-world action submit."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import click

from agent_world.cli.client import NodeClient
from agent_world.cli.output import json_option, show, show_rows
from agent_world.crypto.hashing import actor_id_of, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import DecodeError, ErrorCode, Refused, UsageError
from agent_world.store import keyfile
from agent_world.wire import record
from agent_world.wire.action import PAYLOADS
from agent_world.wire.block import Outcome
from agent_world.wire.cid import Cid
from agent_world.wire.ids import ActorId, Hash32, Label, WorldId
from agent_world.world.admission import build_action

REJECTED_EXIT: Final = 69
"""With --wait: an action is in a block, but a rule of the world refused it (as a refusal of the node)."""
WAIT_S: Final = 30.0
"""How long --wait waits for one receipt."""
_ROOM_S = 60.0
"""How long an action is handed in again while the pool has no room for it."""
_ROOM_POLL_S = 0.1
_ROOM_RULES = frozenset({"A10", "A11", "A12"})
"""Nonce too far ahead, actor's limit, pool full: over once earlier actions of the file are committed."""


@attrs.frozen(slots=True)
class Wanted:
    """One action as a person wrote it."""

    kind: str
    payload: dict[str, Any]
    key_file: Path
    source: str


class Signer:
    """Signs actions for a world, counting each actor's nonces from where it is told to begin."""

    def __init__(self, world_id: WorldId, genesis_hash: Hash32) -> None:
        self._world_id = world_id
        self._genesis_hash = genesis_hash
        self._keys: dict[Path, KeyPair] = {}
        self._nonces: dict[ActorId, int] = {}

    def new_actor(self, wanted: Wanted) -> ActorId | None:
        """Whose next nonce has to be told with ``begin`` before this is signed; raises HomeError for the key file."""
        if wanted.key_file not in self._keys:
            self._keys[wanted.key_file] = keyfile.read(wanted.key_file)
        actor_id = actor_id_of(self._keys[wanted.key_file].public_key)
        return None if actor_id in self._nonces else actor_id

    def begin(self, actor_id: ActorId, next_nonce: int) -> None:
        """The actor's first nonce here."""
        self._nonces[actor_id] = next_nonce

    def sign(self, wanted: Wanted) -> bytes:
        """The encoded signed action; raises UsageError naming what is wrong with the input."""
        key = self._keys[wanted.key_file]
        actor_id = actor_id_of(key.public_key)
        nonce = self._nonces[actor_id]
        data = build_action(
            key,
            self._genesis_hash,
            self._world_id,
            payload_record(wanted),
            nonce=nonce,
            timestamp_ms=time.time_ns() // 1_000_000,
        )
        self._nonces[actor_id] += 1
        return data


def payload_record(wanted: Wanted) -> object:
    """The typed payload from JSON: hex for bytes, text for CIDs."""
    kind = PAYLOADS.get(Label(wanted.kind))
    if kind is None:
        raise UsageError(f"{wanted.source}: unknown action kind {wanted.kind!r}; known: {', '.join(PAYLOADS)}")
    values = dict(wanted.payload)
    try:
        if isinstance(values.get("public_key"), str):
            values["public_key"] = bytes.fromhex(values["public_key"])
        if isinstance(values.get("content"), str):
            values["content"] = Cid.parse(values["content"])
        return record.structure(values, kind)
    except (DecodeError, ValueError) as error:
        raise UsageError(f"{wanted.source}: the payload does not fit {wanted.kind}: {error}") from None


def read_jsonl(path: Path, default_key: Path | None) -> Iterator[Wanted]:
    """Lines {"kind": ..., "payload": {...}, "key": optional key file}; raises UsageError naming the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _wanted(line, default_key, f"{path}:{number}")


def _json(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source}: not JSON: {error}") from None


def _wanted(line: str, default_key: Path | None, source: str) -> Wanted:
    item = _json(line, source)
    if not isinstance(item, dict) or not isinstance(item.get("kind"), str) or not isinstance(item.get("payload"), dict):
        raise UsageError(f'{source}: expected {{"kind": "...", "payload": {{...}}}}')
    if unknown := sorted(item.keys() - {"kind", "payload", "key"}):
        raise UsageError(f"{source}: unknown field {unknown[0]!r}; known: kind, payload, key")
    key = item.get("key", default_key)
    if key is None:
        raise UsageError(f'{source}: no "key" in the line and no --key')
    if not isinstance(key, (str, Path)):
        raise UsageError(f'{source}: "key" must be the name of a key file')
    return Wanted(kind=item["kind"], payload=item["payload"], key_file=Path(key), source=source)


@click.command("submit")
@click.option("--kind", help="Action kind, such as resource.transfer.")
@click.option("--payload", help="JSON object with the fields of that kind.")
@click.option("--file", "jsonl", type=click.Path(path_type=Path, dir_okay=False), help="JSONL file, an action a line.")
@click.option("--key", "key_file", type=click.Path(path_type=Path, dir_okay=False), help="Key file that signs.")
@click.option("--wait", is_flag=True, help="Wait until each action is committed and print its receipt.")
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), envvar="AGENT_WORLD_HOME",
              help="Home directory of the node (or AGENT_WORLD_HOME).")  # fmt: skip
@click.option("--bootstrap", multiple=True, metavar="MULTIADDR",
              help="Without a node: a peer to hand them to, ending in /p2p/PEER_ID; give several.")  # fmt: skip
@click.option("--genesis", "genesis_file", type=click.Path(path_type=Path, dir_okay=False),
              help="With --bootstrap: the world's genesis.toml.")  # fmt: skip
@json_option
def command(**options: Any) -> None:
    """Sign one action (--kind, --payload) or a file of them (--file) and hand them to a node.

    That is the node of --home, or peers of a swarm (--bootstrap, --genesis) by an agent who has no node: then --wait
    believes nobody, and shows what the action did by the certified block that it is in.

    With --wait the exit code is 69 if a rule of the world rejected any of them; its receipt says why.
    """
    wanted = _inputs(options["kind"], options["payload"], options["jsonl"], options["key_file"])
    if options["bootstrap"]:
        if options["genesis_file"] is None:
            raise UsageError("--bootstrap needs --genesis, the genesis.toml of the world that the peers are of")
        # Here and not above: only this way of handing in pays for importing libp2p (D11).
        from agent_world.cli.action_swarm import submit_to_swarm

        rows = submit_to_swarm(wanted, options["bootstrap"], options["genesis_file"], wait=options["wait"])
    elif options["home"] is None:
        raise UsageError("name a node by --home, or peers of a swarm by --bootstrap and --genesis")
    else:
        rows = _submit_to_node(wanted, options["home"], wait=options["wait"])
    _print(rows, wait=options["wait"], as_json=options["as_json"])
    if any(row.get("outcome") == Outcome.REJECTED for row in rows):
        sys.exit(REJECTED_EXIT)


def _submit_to_node(wanted: list[Wanted], home: Path, *, wait: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with NodeClient(home) as node:
        status = node.get("/status")
        signer = Signer(WorldId(status["world_id"]), Hash32(bytes.fromhex(status["genesis_hash"])))
        for item in wanted:
            if (actor_id := signer.new_actor(item)) is not None:
                actor = node.get(f"/actors/{actor_id}")
                signer.begin(actor_id, actor["next_nonce"] + actor["pending"])
            rows.append(_submitted(node, signer.sign(item), item))
        if wait:
            for row in rows:
                row.update(receipt_of(node, row["action_id"]))
    return rows


def _inputs(kind: str | None, payload: str | None, jsonl: Path | None, key_file: Path | None) -> list[Wanted]:
    if jsonl is not None:
        if kind is not None or payload is not None:
            raise UsageError("give either --file or --kind with --payload, not both")
        return list(read_jsonl(jsonl, key_file))
    if kind is None or payload is None or key_file is None:
        raise UsageError("one action needs --kind, --payload and --key; many need --file")
    values = _json(payload, "--payload")
    if not isinstance(values, dict):
        raise UsageError("--payload: expected a JSON object")
    return [Wanted(kind=kind, payload=values, key_file=key_file, source="--payload")]


def _submitted(node: NodeClient, data: bytes, item: Wanted) -> dict[str, Any]:
    try:
        answer = _post(node, data)
    except Refused as error:
        raise Refused(
            error.code, f"{item.source}: {error.message}", rule=error.rule, retryable=error.retryable
        ) from None
    if answer["action_id"] != hash32(data).hex():
        raise Refused(ErrorCode.INVALID_HASH, f"{item.source}: the node answered for another action")
    return {"action_id": answer["action_id"], "kind": item.kind}


def _post(node: NodeClient, data: bytes) -> Any:
    """Hand the action in; a pool that has no room for it yet, in all or for this actor, gets some time."""
    deadline = time.monotonic() + _ROOM_S
    while True:
        try:
            return node.post_bytes("/actions", data)
        except Refused as error:
            if error.rule not in _ROOM_RULES or time.monotonic() > deadline:
                raise
        time.sleep(_ROOM_POLL_S)


def receipt_of(node: NodeClient, action_id: str) -> dict[str, Any]:
    """The receipt once the action is committed; raises Refused (ERR_TIMEOUT) if that takes too long."""
    answer: dict[str, Any] = node.get(f"/receipts/{action_id}", wait_ms=int(WAIT_S * 1000))
    return answer


def _print(rows: list[dict[str, Any]], *, wait: bool, as_json: bool) -> None:
    columns = ("action_id", "kind", "height", "outcome", "code") if wait else ("action_id", "kind")
    if len(rows) == 1:
        show(rows[0], as_json=as_json)
    else:
        show_rows(rows, columns, as_json=as_json)

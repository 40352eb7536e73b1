"""agent-world peer ask."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import click

from agent_world.cli.genesis_file import read_genesis
from agent_world.cli.output import json_option, show
from agent_world.errors import DecodeError, UsageError
from agent_world.net.address import parse_peer
from agent_world.wire import record, rpc
from agent_world.wire.action import GetPendingRequest, GetPendingResponse
from agent_world.wire.blob import FetchBlobRequest, FetchBlobResponse, FetchBlobsRequest, FetchBlobsResponse
from agent_world.wire.block import (
    BlockBundle,
    GetBlockRequest,
    GetBlocksRequest,
    GetBlocksResponse,
    GetJournalSegmentRequest,
    GetJournalSegmentResponse,
    GetReceiptSegmentRequest,
    GetReceiptSegmentResponse,
)
from agent_world.wire.genesis import Genesis
from agent_world.wire.head import CertifiedHead, GetWorldHeadRequest
from agent_world.wire.ids import PeerId
from agent_world.wire.membership import GetBoundariesRequest, GetBoundariesResponse
from agent_world.wire.module import (
    GetModuleArtifactRequest,
    GetModuleArtifactResponse,
    GetModuleManifestRequest,
    GetModuleManifestResponse,
)
from agent_world.wire.replica import ReplicaRequest, ReplicaResponse
from agent_world.wire.replication import (
    FetchCommitRequest,
    FetchCommitResponse,
    GetRecordsRequest,
    GetRecordsResponse,
    OfferRecordRequest,
    OfferRecordResponse,
)
from agent_world.wire.snapshot import GetSnapshotRequest, SnapshotManifest
from agent_world.wire.submit import (
    GetActorRequest,
    GetActorResponse,
    GetReceiptRequest,
    GetReceiptResponse,
    SubmitActionRequest,
    SubmitActionResponse,
)

METHODS: Final[Mapping[str, tuple[type, type]]] = {
    rpc.GET_WORLD_HEAD: (GetWorldHeadRequest, CertifiedHead),
    rpc.REPLICA: (ReplicaRequest, ReplicaResponse),
    rpc.GET_BLOCK: (GetBlockRequest, BlockBundle),
    rpc.GET_BLOCKS: (GetBlocksRequest, GetBlocksResponse),
    rpc.GET_BOUNDARIES: (GetBoundariesRequest, GetBoundariesResponse),
    rpc.FETCH_BLOB: (FetchBlobRequest, FetchBlobResponse),
    rpc.FETCH_BLOBS: (FetchBlobsRequest, FetchBlobsResponse),
    rpc.GET_SNAPSHOT: (GetSnapshotRequest, SnapshotManifest),
    rpc.GET_JOURNAL_SEGMENT: (GetJournalSegmentRequest, GetJournalSegmentResponse),
    rpc.GET_RECEIPT_SEGMENT: (GetReceiptSegmentRequest, GetReceiptSegmentResponse),
    rpc.GET_MODULE_MANIFEST: (GetModuleManifestRequest, GetModuleManifestResponse),
    rpc.GET_MODULE_ARTIFACT: (GetModuleArtifactRequest, GetModuleArtifactResponse),
    rpc.SUBMIT_ACTION: (SubmitActionRequest, SubmitActionResponse),
    rpc.GET_RECEIPT: (GetReceiptRequest, GetReceiptResponse),
    rpc.GET_ACTOR: (GetActorRequest, GetActorResponse),
    rpc.GET_PENDING: (GetPendingRequest, GetPendingResponse),
    rpc.OFFER_RECORD: (OfferRecordRequest, OfferRecordResponse),
    rpc.GET_RECORDS: (GetRecordsRequest, GetRecordsResponse),
    rpc.FETCH_COMMIT: (FetchCommitRequest, FetchCommitResponse),
}
"""Method -> its request and its answer: all that are answered in one piece, but the hello, which comes before."""
_NAMES: Final = {method.removeprefix(f"{rpc.RR_BASE}/"): method for method in METHODS}


@click.command("ask")
@click.argument("method", metavar="METHOD")
@click.argument("fields", metavar="[FIELDS]", default="{}")
@click.option("--peer", "address", required=True, metavar="MULTIADDR", help="Whom to ask, ending in /p2p/PEER_ID.")
@click.option("--genesis", "genesis_file", type=click.Path(path_type=Path, dir_okay=False), required=True,
              help="The world's genesis.toml.")  # fmt: skip
@json_option
def command(method: str, fields: str, address: str, genesis_file: Path, as_json: bool) -> None:
    """Ask one peer by one request method and print what it says, checked only for its form.

    METHOD is its name without the base, such as get_block; FIELDS a JSON object with the fields of the request, bytes
    in hex. The world's id is filled in, and what is left out is null:

      agent-world peer ask get_block '{"height": 3}' --peer MULTIADDR --genesis genesis.toml
    """
    if method not in _NAMES:
        raise UsageError(f"no method {method!r}; known: {', '.join(_NAMES)}")
    asked = _NAMES[method]
    genesis = read_genesis(genesis_file)
    request = request_of(METHODS[asked][0], fields, genesis)
    answers: list[Any] = []
    # Here and not above: only commands that open a host pay for importing libp2p (D11).
    from agent_world.cli.node_run import run_until_stopped

    run_until_stopped(_ask, parse_peer(address), genesis, asked, request, answers)
    for answer in answers:  # none after Ctrl-C
        show(record.unstructure(answer), as_json=as_json)


def request_of(kind: type, text: str, genesis: Genesis) -> object:
    """The request that the JSON object ``text`` describes; raises UsageError."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"FIELDS: not JSON: {error}") from None
    if not isinstance(given, dict):
        raise UsageError("FIELDS: expected a JSON object")
    fields = {field.name: field for field in attrs.fields(kind)}
    if unknown := sorted(given.keys() - fields.keys()):
        raise UsageError(f"FIELDS: no field {unknown[0]!r} in this request; known: {', '.join(fields)}")
    values = dict.fromkeys(fields) | ({"world_id": genesis.world_id} if "world_id" in fields else {}) | given
    try:
        octets = {name: _octets(value) for name, value in values.items() if _is_octets(str(fields[name].type))}
        return record.structure(values | octets, kind)
    except (DecodeError, ValueError, TypeError) as error:
        raise UsageError(f"FIELDS: they do not fit {kind.__name__}: {error}") from None


def _is_octets(kind: str) -> bool:
    return any(word in kind for word in ("bytes", "Hash32", "ContentHash"))


def _octets(value: Any) -> Any:
    if isinstance(value, list):
        return [_octets(item) for item in value]
    return bytes.fromhex(value) if isinstance(value, str) else value


async def _ask(place: tuple[PeerId, str], genesis: Genesis, method: str, request: object, answers: list[Any]) -> None:
    from agent_world.cli.without_node import open_peers

    peer, _address = place
    async with open_peers(genesis, [place]) as peers:
        await peers.greet(peer)
        answers.append(await peers.ask(peer, method, request, METHODS[method][1]))

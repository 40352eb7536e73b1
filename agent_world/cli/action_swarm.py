"""Actions of an agent without a node: signed here, handed to peers of a swarm, followed to their certified blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import SystemRandom
from typing import Any

from agent_world.cli.action_submit import WAIT_S, Signer, Wanted
from agent_world.cli.genesis_file import read_genesis
from agent_world.cli.node_run import run_until_stopped
from agent_world.cli.printable import say
from agent_world.cli.without_node import open_peers
from agent_world.errors import ErrorCode, Refused
from agent_world.net.address import parse_peer
from agent_world.node.agent_client import AgentClient, ProvedOutcome
from agent_world.node.light_client import LightClient
from agent_world.node.light_start import start_at_genesis
from agent_world.wire import record
from agent_world.wire.block import Event
from agent_world.wire.genesis import Genesis
from agent_world.wire.ids import Hash32, PeerId
from agent_world.wire.limits import BLOB_BYTES_MAX
from agent_world.world.events import EVENTS
from agent_world.world.genesis import genesis_hash


def submit_to_swarm(
    wanted: Sequence[Wanted], bootstrap: Sequence[str], genesis_file: Path, *, wait: bool
) -> list[dict[str, Any]]:
    """Hand all of ``wanted`` to the peers, in order; a row for each, with what came of it if ``wait``.

    Raises UsageError, HomeError for key files, Refused naming the input that is refused, Unavailable.
    """
    genesis = read_genesis(genesis_file)
    addresses = [parse_peer(given) for given in bootstrap]
    rows: list[dict[str, Any]] = []
    run_until_stopped(_submit, wanted, genesis, addresses, rows, wait)
    return rows


async def _submit(
    wanted: Sequence[Wanted], genesis: Genesis, addresses: Sequence[tuple[PeerId, str]], rows: list[Any], wait: bool
) -> None:
    signer = Signer(genesis.world_id, genesis_hash(genesis))
    async with open_peers(genesis, addresses) as peers:
        client = AgentClient(peers, LightClient(peers, start_at_genesis(genesis).head), SystemRandom())
        for item in wanted:
            try:
                if (actor_id := signer.new_actor(item)) is not None:
                    signer.begin(actor_id, await client.next_nonce(actor_id))
                action_id = await client.submit(signer.sign(item))
            except Refused as error:
                if error.code is ErrorCode.NOT_AVAILABLE:  # says nothing of this action
                    raise
                raise Refused(
                    error.code, f"{item.source}: {error.message}", rule=error.rule, retryable=error.retryable
                ) from None
            rows.append({"action_id": action_id.hex(), "kind": item.kind})
        if wait:
            for row in rows:
                row.update(_shown(await client.outcome(Hash32(bytes.fromhex(row["action_id"])), timeout_s=WAIT_S)))
        for peer, why in client.passed_over.items():
            say(f"passed over {peer}: {why}", err=True)


def _shown(outcome: ProvedOutcome) -> dict[str, Any]:
    receipt = record.unstructure(outcome.receipt)
    del receipt["action_id"]
    return {
        "height": outcome.height,
        "block_hash": outcome.block_hash,
        **receipt,
        "events": [_event(event) for event in outcome.events],
        "shown_by": outcome.shown_by,
    }


def _event(event: Event) -> dict[str, Any]:
    payload: object = record.from_bytes(EVENTS[event.kind], event.payload_cbor, size_max=BLOB_BYTES_MAX)
    return {"event_id": event.event_id, "kind": event.kind, "payload": record.unstructure(payload)}

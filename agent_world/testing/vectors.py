"""``make vectors``: write protocols/*/vectors again. Equal input gives equal bytes, so a second run changes nothing."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from agent_world.testing.record_catalogue import CATALOGUE
from agent_world.testing.vectors_action import admission_vectors
from agent_world.testing.vectors_bitswap import bitswap_message_vectors, unixfs_vectors
from agent_world.testing.vectors_certificate import certificate_vectors
from agent_world.testing.vectors_challenge import challenge_answer_vectors, challenge_request_vectors
from agent_world.testing.vectors_codec import name_vectors, signature_vectors, strict_decode_vectors
from agent_world.testing.vectors_consensus import stake_kernel_vectors
from agent_world.testing.vectors_dht import dht_record_vectors
from agent_world.testing.vectors_evidence import evidence_vectors
from agent_world.testing.vectors_hello import hello_vectors
from agent_world.testing.vectors_records import record_vectors
from agent_world.testing.vectors_replica import replica_answer_vectors, replica_promise_vectors, replica_request_vectors
from agent_world.testing.vectors_replication import log_vectors

PROTOCOLS: Final = Path(__file__).parents[2] / "protocols"

GENERATORS: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "codec/vectors/strict_decode.json": strict_decode_vectors,
    "codec/vectors/names.json": name_vectors,
    "codec/vectors/signatures.json": signature_vectors,
    "action/vectors/admission.json": admission_vectors,
    "consensus/vectors/certificates.json": certificate_vectors,
    "consensus/vectors/stake_kernel.json": stake_kernel_vectors,
    "evidence/vectors/evidence.json": evidence_vectors,
    "challenge/vectors/requests.json": challenge_request_vectors,
    "challenge/vectors/answers.json": challenge_answer_vectors,
    "dht/vectors/dht_records.json": dht_record_vectors,
    "hello/vectors/hellos.json": hello_vectors,
    "replica/vectors/requests.json": replica_request_vectors,
    "replica/vectors/answers.json": replica_answer_vectors,
    "replica/vectors/promises.json": replica_promise_vectors,
    "replication/vectors/log.json": log_vectors,
    "bitswap/vectors/messages.json": bitswap_message_vectors,
    "bitswap/vectors/unixfs.json": unixfs_vectors,
    **{f"{folder}/vectors/records.json": functools.partial(record_vectors, folder) for folder in CATALOGUE},
}
"""Path below protocols/ -> what makes the file. A new generator is written here and nowhere else."""


def generate() -> dict[str, str]:
    """Path below protocols/ -> text of every vector file."""
    return {path: render(make()) for path, make in sorted(GENERATORS.items())}


def render(content: dict[str, Any]) -> str:
    """JSON as it is committed: a line a case, so that a change shows in a diff as the cases that changed."""
    cases = content["cases"]
    head = {key: value for key, value in content.items() if key != "cases"}
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    return json.dumps(head, indent=1)[:-2] + f',\n "cases": [\n{lines}\n ]\n}}\n'


@click.command()
def main() -> None:
    """Write every vector file and name those that have changed."""
    for path, text in generate().items():
        target = PROTOCOLS / path
        if target.exists() and target.read_text() == text:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        click.echo(f"wrote protocols/{path}")


if __name__ == "__main__":
    main()

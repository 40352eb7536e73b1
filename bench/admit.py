"""Row 1: admit signed actions, beside the bare signature check and the same admission with other libraries.

Ours is what a node does with an action that arrives: strict canonical decode of the three layers, two BLAKE3
hashes, Ed25519, and actor, key and nonce against the state (rules A1-A10).
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import blake3
import cbor2
import click
from nacl.signing import VerifyKey

from agent_world.config import MempoolConfig
from agent_world.crypto.hashing import actor_id_of
from agent_world.crypto.keys import KeyPair
from agent_world.wire import record
from agent_world.wire.action import TransferResource
from agent_world.wire.consensus import ValidatorEntry, ValidatorSetRecord
from agent_world.wire.genesis import Genesis, WorldParams
from agent_world.wire.ids import U64, Name, TimeMs, ValidatorId, WorldId
from agent_world.wire.signed import Signed
from agent_world.world.admission import build_action, check_against_state, open_action
from agent_world.world.genesis import genesis_hash, initial_state
from agent_world.world.records import ACTORS, ActorRecord
from agent_world.world.state import WorldState
from bench.alternate import alternate

ACTIONS = 256
THREAD_REPEATS = 8
"""Batches that a thread does in one go, so that starting it does not count."""
GOALS = {"ours_over_raw_verify": 0.75, "ours_over_cbor2_cryptography": 1.3, "two_threads_over_one": 1.6}
ACTION_DOMAIN = b"aw/action/1\x00"
WORLD = WorldId("w.bench")


def genesis() -> Genesis:
    validator = ValidatorEntry(
        validator_id=ValidatorId("v1"), public_key=KeyPair(bytes(31) + b"v").public_key, stake=U64(1)
    )
    return Genesis(
        world_id=WORLD,
        genesis_time_ms=TimeMs(1_760_000_000_000),
        authority=KeyPair(bytes(31) + b"a").public_key,
        epoch_length_slots=U64(32),
        slash_equivocation=True,
        validators=ValidatorSetRecord(
            validators=(validator,), supermajority_numerator=U64(2), supermajority_denominator=U64(3)
        ),
        params=WorldParams(move_speed_max_cm_per_s=U64(500), actor_storage_quota_bytes=U64(1 << 20)),
    )


class Corpus:
    """Actions of as many actors, and the state that knows them; every contender reads the same bytes."""

    def __init__(self) -> None:
        self.genesis_hash = genesis_hash(genesis())
        keys = [KeyPair(number.to_bytes(32, "big")) for number in range(1, ACTIONS + 1)]
        root, blobs = initial_state(genesis())
        self.state = WorldState(root, blobs.__getitem__)
        for key in keys:
            actor = ActorRecord(
                name=Name("agent"),
                public_key=key.public_key,
                nonce=U64(16),
                registration_quota=U64(0),
                storage_used_bytes=U64(0),
            )
            self.state.put(ACTORS, actor, actor_id_of(key.public_key))
        blobs.update(self.state.flush()[1])
        payload = TransferResource(
            resource=Name("gold"), to_actor_id=actor_id_of(keys[0].public_key), amount=U64(1_234)
        )
        self.actions = [
            build_action(key, self.genesis_hash, WORLD, payload, nonce=17, timestamp_ms=1_760_000_000_000)
            for key in keys
        ]
        signed = [record.from_bytes(Signed, data, size_max=1 << 16) for data in self.actions]
        self.verifications = [
            (VerifyKey(one.key), ACTION_DOMAIN + self.genesis_hash + one.body, one.sig) for one in signed
        ]
        self.keys = {actor_id_of(key.public_key): key.public_key for key in keys}


def ours(corpus: Corpus, actions: Sequence[bytes]) -> int:
    window = MempoolConfig().nonce_window
    for data in actions:
        check_against_state(open_action(data, WORLD, corpus.genesis_hash), corpus.state, window)
    return len(actions)


def raw_verify(verifications: Sequence[tuple[VerifyKey, bytes, bytes]]) -> int:
    for key, message, signature in verifications:
        key.verify(message, signature)
    return len(verifications)


def snippet(corpus: Corpus) -> int:
    """The same checks as one would write them with cbor2 and cryptography: decode, encode again, compare."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    for data in corpus.actions:
        outer = strict(data)
        body = strict(outer["body"])
        strict(body["payload_cbor"])
        if blake3.blake3(body["payload_cbor"]).digest() != body["payload_hash"] or body["world_id"] != WORLD:
            raise AssertionError("every action of the corpus is good")
        blake3.blake3(data).digest()
        key = Ed25519PublicKey.from_public_bytes(outer["key"])
        key.verify(outer["sig"], ACTION_DOMAIN + corpus.genesis_hash + outer["body"])
        if corpus.keys[body["actor_id"]] != outer["key"] or not 16 < body["nonce"] <= 16 + 256:
            raise AssertionError("every action of the corpus is good")
    return len(corpus.actions)


def strict(data: bytes) -> Any:
    value = cbor2.loads(data)
    if cbor2.dumps(value, canonical=True) != data:
        raise AssertionError("every action of the corpus is canonical")
    return value


def contenders(corpus: Corpus, pool: ThreadPoolExecutor) -> dict[str, Callable[[], int]]:
    """Each does one batch and returns how many actions that were."""
    actions = corpus.actions * (THREAD_REPEATS // 2)
    verifications = corpus.verifications * (THREAD_REPEATS // 2)
    systems: dict[str, Callable[[], int]] = {
        "raw_verify": lambda: raw_verify(corpus.verifications),
        "ours": lambda: ours(corpus, corpus.actions),
        "raw_verify_2_threads": lambda: sum(pool.map(raw_verify, [verifications] * 2)),
        "ours_2_threads": lambda: sum(pool.map(lambda share: ours(corpus, share), [actions] * 2)),
    }
    if importlib.util.find_spec("cryptography") is not None:
        systems["cbor2_cryptography"] = lambda: snippet(corpus)
    return systems


def run(rounds: int, seconds: float) -> dict[str, Any]:
    """The row: systems in turns, medians, ratios; a peer that is not installed is 'skipped'."""
    corpus = Corpus()
    with ThreadPoolExecutor(2) as pool:
        rates = {rate.name: rate for rate in alternate(contenders(corpus, pool), rounds=rounds, loop_s=seconds)}
    figures: dict[str, Any] = {"cbor2_cryptography": "skipped"}
    figures.update({name: round(rate.median) for name, rate in rates.items()})
    ratios = {"ours_over_raw_verify": rates["ours"].ratio_to(rates["raw_verify"])}
    if "cbor2_cryptography" in rates:
        ratios["ours_over_cbor2_cryptography"] = rates["ours"].ratio_to(rates["cbor2_cryptography"])
    ratios["two_threads_over_one"] = rates["ours_2_threads"].ratio_to(rates["ours"])
    # Beside ours, since a machine that has no second core free gives neither of them anything.
    ratios["raw_two_threads_over_one"] = rates["raw_verify_2_threads"].ratio_to(rates["raw_verify"])
    return {
        "row": 1,
        "what": f"admit signed actions of {len(corpus.actions[0])} B; actions a second",
        "figures": figures,
        "ratios": {name: round(ratio, 2) for name, ratio in ratios.items()},
        "goals": GOALS,
    }


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="Turns of every system.")
@click.option("--seconds", type=click.FloatRange(0.1), default=0.5, show_default=True, help="Measured in each turn.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def main(rounds: int, seconds: float, as_json: bool) -> None:
    """Row 1: admission of signed actions."""
    result = run(rounds, seconds)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    click.echo(result["what"])
    for name, shown in result["figures"].items():
        click.echo(f"{name:22}" + ("  skipped: not installed" if shown == "skipped" else f"{shown:9,}"))
    for name, value in result["ratios"].items():
        click.echo(f"{name}: {value}" + (f" (goal {GOALS[name]:g})" if name in GOALS else ""))


if __name__ == "__main__":
    main()

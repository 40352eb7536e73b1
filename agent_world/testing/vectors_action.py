"""Vectors of protocols/action: actions that a node admits, and actions that break exactly one of A1-A10.

The world is one that has only its genesis: its authority is the one actor, with nonce 1 next.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from agent_world.crypto.hashing import actor_id_of, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, sign, sign_record
from agent_world.errors import ErrorCode
from agent_world.testing.examples import key_of
from agent_world.wire import cbor, record
from agent_world.wire.action import GRANT, MOVE, REGISTER, ActionEnvelope, GrantResource, MoveAgent, RegisterAgent
from agent_world.wire.consensus import ValidatorEntry, ValidatorSetRecord
from agent_world.wire.genesis import Genesis, WorldParams
from agent_world.wire.ids import I64, U64, Label, Name, Signature, TimeMs, ValidatorId, WorldId
from agent_world.wire.signed import Signed
from agent_world.world.genesis import genesis_hash

NONCE_WINDOW: Final = 256
"""Nonces from the next one on that the vectors' node takes."""

_AUTHORITY: Final = key_of("authority")
_STRANGER: Final = key_of("stranger")
_MOVE_HOME: Final = MoveAgent(x_cm=I64(0), y_cm=I64(0), z_cm=I64(0))


def example_genesis() -> Genesis:
    """A world of four validators with different stakes; the vectors of several protocols live in it."""
    members = tuple(
        ValidatorEntry(
            validator_id=ValidatorId(name), public_key=key_of(f"validator {name}").public_key, stake=U64(stake)
        )
        for name, stake in (("a", 40), ("b", 30), ("c", 20), ("d", 10))
    )
    return Genesis(
        world_id=WorldId("w1"),
        genesis_time_ms=TimeMs(1_700_000_000_000),
        authority=_AUTHORITY.public_key,
        epoch_length_slots=U64(8),
        slash_equivocation=True,
        validators=ValidatorSetRecord(
            validators=members, supermajority_numerator=U64(2), supermajority_denominator=U64(3)
        ),
        params=WorldParams(move_speed_max_cm_per_s=U64(500), actor_storage_quota_bytes=U64(1 << 20)),
    )


def _envelope(kind: Label, payload_cbor: bytes, *, key: KeyPair = _AUTHORITY, nonce: int = 1) -> ActionEnvelope:
    return ActionEnvelope(
        world_id=WorldId("w1"),
        actor_id=actor_id_of(key.public_key),
        action_kind=kind,
        payload_cbor=payload_cbor,
        payload_hash=hash32(payload_cbor),
        nonce=U64(nonce),
        timestamp_ms=TimeMs(1_700_000_001_000),
    )


def _signed(envelope: ActionEnvelope, key: KeyPair = _AUTHORITY) -> bytes:
    return sign_record(Domain.ACTION, genesis_hash(example_genesis()), envelope, key)


def admission_vectors() -> dict[str, Any]:
    """The file ``action/vectors/admission.json``."""
    genesis = example_genesis()
    cases = [{"id": what, "action": data.hex(), "action_id": hash32(data).hex()} for what, data in _admitted_actions()]
    cases += [
        {"id": what, "action": data.hex(), "rule": rule, "code": code.value}
        for what, data, rule, code in (*_malformed(), *_wrong_content(), *_wrong_for_the_state())
    ]
    return {
        "about": "In a world that has only `genesis`, a node with `nonce_window` admits `action` under `action_id`, or "
        "refuses it with `code` by exactly the rule `rule`.",
        "genesis": record.to_bytes(genesis).hex(),
        "genesis_hash": genesis_hash(genesis).hex(),
        "nonce_window": NONCE_WINDOW,
        "cases": cases,
    }


def _admitted_actions() -> list[tuple[str, bytes]]:
    move = record.to_bytes(_MOVE_HOME)
    register = RegisterAgent(name=Name("Jean Valjean"), public_key=_STRANGER.public_key, registration_quota=U64(3))
    grant = GrantResource(resource=Name("bread"), to_actor_id=actor_id_of(_AUTHORITY.public_key), amount=U64(2**64 - 1))
    return [
        ("a move", _signed(_envelope(MOVE, move))),
        ("a registration", _signed(_envelope(REGISTER, record.to_bytes(register)))),
        ("a grant", _signed(_envelope(GRANT, record.to_bytes(grant)))),
        ("the last nonce of the window", _signed(_envelope(MOVE, move, nonce=NONCE_WINDOW))),
    ]


def _malformed() -> list[tuple[str, bytes, str, ErrorCode]]:
    """A1: bytes that are not the strict encoding of a Signed around an ActionEnvelope."""
    good = _signed(_envelope(MOVE, record.to_bytes(_MOVE_HOME)))
    whole = cbor.decode(good, size_max=len(good))
    body = cbor.decode(whole["body"], size_max=len(good))

    def resigned(changed: dict[str, Any]) -> bytes:
        signed = sign(Domain.ACTION, genesis_hash(example_genesis()), cbor.encode(changed), _AUTHORITY)
        return record.to_bytes(signed)

    without_nonce = {name: value for name, value in body.items() if name != "nonce"}
    broken = (
        ("nothing", b""),
        ("a trailing byte", good + b"\x00"),
        ("cut short", good[:-1]),
        ("a map key before its turn", b"\xa4" + good[1:].replace(b"\x61v\x01", b"", 1) + b"\x61v\x01"),
        ("version 2 of Signed", cbor.encode({**whole, "v": 2})),
        ("an unknown key in Signed", cbor.encode({**whole, "zz": 0})),
        ("a signature of 63 bytes", cbor.encode({**whole, "sig": whole["sig"][:-1]})),
        ("an envelope bare", whole["body"]),
        ("version 2 of the envelope", resigned({**body, "v": 2})),
        ("an unknown key in the envelope", resigned({**body, "action_id": bytes(32)})),
        ("a key missing in the envelope", resigned(without_nonce)),
        ("a negative nonce", resigned({**body, "nonce": -1})),
        ("an actor id that is none", resigned({**body, "actor_id": "jean"})),
    )
    return [(what, data, "A1", ErrorCode.BAD_REQUEST) for what, data in broken]


def _wrong_content() -> list[tuple[str, bytes, str, ErrorCode]]:
    """A2 to A6: a well-formed action that is wrong on every node of the world."""
    move = record.to_bytes(_MOVE_HOME)
    good = _envelope(MOVE, move)
    signed = sign(Domain.ACTION, genesis_hash(example_genesis()), record.to_bytes(good), _AUTHORITY)
    body = signed.body
    other_genesis = attrs.evolve(example_genesis(), genesis_time_ms=TimeMs(0))
    odd_payload = cbor.encode({**record.unstructure(_MOVE_HOME), "w": 0})
    as_vote = sign(Domain.VOTE, genesis_hash(example_genesis()), body, _AUTHORITY)
    return [
        ("another world", _signed(attrs.evolve(good, world_id=WorldId("w2"))), "A2", ErrorCode.BAD_REQUEST),
        ("the hash of another payload", _signed(attrs.evolve(good, payload_hash=hash32(b""))), "A3",
         ErrorCode.INVALID_HASH),
        ("another payload", _signed(attrs.evolve(good, payload_cbor=move + b"\x00")), "A3", ErrorCode.INVALID_HASH),
        ("an unknown kind", _signed(_envelope(Label("agent.fly"), move)), "A4", ErrorCode.UNSUPPORTED),
        ("the payload of another kind", _signed(_envelope(GRANT, move)), "A5", ErrorCode.BAD_REQUEST),
        ("a payload with an unknown key", _signed(_envelope(MOVE, odd_payload)), "A5", ErrorCode.BAD_REQUEST),
        ("a payload that is not canonical", _signed(_envelope(MOVE, move + b"\x00")), "A5", ErrorCode.BAD_REQUEST),
        ("a bit of the signature flipped",
         record.to_bytes(attrs.evolve(signed, sig=Signature(bytes((signed.sig[0] ^ 1,)) + signed.sig[1:]))), "A6",
         ErrorCode.UNAUTHORIZED),
        ("signed by another key", record.to_bytes(attrs.evolve(signed, sig=_sign_as(_STRANGER, body).sig)), "A6",
         ErrorCode.UNAUTHORIZED),
        ("signed as a vote", record.to_bytes(as_vote), "A6", ErrorCode.UNAUTHORIZED),
        ("signed in a world of the same name",
         record.to_bytes(sign(Domain.ACTION, genesis_hash(other_genesis), body, _AUTHORITY)), "A6",
         ErrorCode.UNAUTHORIZED),
    ]  # fmt: skip


def _sign_as(key: KeyPair, body: bytes) -> Signed:
    return sign(Domain.ACTION, genesis_hash(example_genesis()), body, key)


def _wrong_for_the_state() -> list[tuple[str, bytes, str, ErrorCode]]:
    """A7 to A10: right by itself, wrong for what the world knows."""
    move = record.to_bytes(_MOVE_HOME)
    return [
        ("an unknown actor", _signed(_envelope(MOVE, move, key=_STRANGER), _STRANGER), "A7", ErrorCode.UNAUTHORIZED),
        ("a stranger's key for the actor", _signed(_envelope(MOVE, move), _STRANGER), "A8", ErrorCode.UNAUTHORIZED),
        ("a used nonce", _signed(_envelope(MOVE, move, nonce=0)), "A9", ErrorCode.STATE_MISMATCH),
        ("a nonce beyond the window", _signed(_envelope(MOVE, move, nonce=NONCE_WINDOW + 1)), "A10",
         ErrorCode.STATE_MISMATCH),
    ]  # fmt: skip

"""Rules A1-A10 of protocols/action: what makes bytes an action that may wait for a block.

A11 (pending actions of one actor), A12 (mempool full) and A13 (already pending) belong to the mempool.
"""

from __future__ import annotations

from typing import Any, NoReturn

import attrs

from agent_world.crypto.hashing import actor_id_of, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, is_valid, sign_record
from agent_world.errors import DecodeError, ErrorCode, Refused
from agent_world.wire import record
from agent_world.wire.action import PAYLOADS, ActionEnvelope
from agent_world.wire.ids import U64, Hash32, Label, PublicKey, TimeMs, WorldId
from agent_world.wire.limits import ENVELOPE_BYTES_MAX, PAYLOAD_BYTES_MAX
from agent_world.wire.signed import Signed
from agent_world.world.records import ACTORS
from agent_world.world.state import WorldState


@attrs.frozen(slots=True)
class SignedAction:
    """An action that passed A1-A6: well-formed, for this world, truly signed by ``key``."""

    data: bytes
    """The encoded Signed, as received; stored and gossiped as it is."""
    action_id: Hash32
    """BLAKE3 of ``data``."""
    envelope: ActionEnvelope
    payload: Any
    """The record that ``PAYLOADS`` names for the envelope's kind."""
    key: PublicKey


def open_action(data: bytes, world_id: WorldId, genesis_hash: Hash32) -> SignedAction:
    """Check all that needs no state, cheap rules first; raises Refused with the code and the rule."""
    # [REJECT] A1: at most ENVELOPE_BYTES_MAX bytes, strictly a Signed around an ActionEnvelope.
    try:
        signed = record.from_bytes(Signed, data, size_max=ENVELOPE_BYTES_MAX)
        envelope = record.from_bytes(ActionEnvelope, signed.body, size_max=ENVELOPE_BYTES_MAX)
    except DecodeError as error:
        _refuse(ErrorCode.BAD_REQUEST, "A1", f"not an action: {error}")
    # [REJECT] A2: the envelope is for this world.
    if envelope.world_id != world_id:
        _refuse(ErrorCode.BAD_REQUEST, "A2", f"the action is for world {envelope.world_id}, this is {world_id}")
    # [REJECT] A3: payload_hash is the hash of the payload.
    if hash32(envelope.payload_cbor) != envelope.payload_hash:
        _refuse(ErrorCode.INVALID_HASH, "A3", "payload_hash is not the hash of payload_cbor")
    # [REJECT] A4: the kind is known.
    kind = PAYLOADS.get(envelope.action_kind)
    if kind is None:
        _refuse(ErrorCode.UNSUPPORTED, "A4", f"action kind {envelope.action_kind} is unknown here")
    # [REJECT] A5: the payload is strictly the record of its kind.
    try:
        payload: object = record.from_bytes(kind, envelope.payload_cbor, size_max=PAYLOAD_BYTES_MAX)
    except DecodeError as error:
        _refuse(ErrorCode.BAD_REQUEST, "A5", f"not a payload of {envelope.action_kind}: {error}")
    # [REJECT] A6: the signature is the key's, for this purpose and this genesis.
    if not is_valid(Domain.ACTION, genesis_hash, signed.body, signed.key, signed.sig):
        _refuse(ErrorCode.UNAUTHORIZED, "A6", "the signature does not verify for this key and this world's genesis")
    return SignedAction(data, hash32(data), envelope, payload, signed.key)


def check_against_state(action: SignedAction, state: WorldState, nonce_window: int) -> None:
    """Check what needs the state of the head; raises Refused. ``nonce_window`` counts from the next nonce."""
    envelope = action.envelope
    # [IGNORE] A7: the actor is registered; it may be so a block later, so no peer is blamed.
    actor = state.get(ACTORS, envelope.actor_id)
    if actor is None:
        _refuse(ErrorCode.UNAUTHORIZED, "A7", f"actor {envelope.actor_id} is not registered in this world")
    # [REJECT] A8: the key is the actor's.
    if action.key != actor.public_key:
        _refuse(ErrorCode.UNAUTHORIZED, "A8", f"the signing key is not that of actor {envelope.actor_id}")
    # [IGNORE] A9: the nonce is unused.
    if envelope.nonce <= actor.nonce:
        _refuse(ErrorCode.STATE_MISMATCH, "A9", f"nonce {envelope.nonce} is used; the next one is {actor.nonce + 1}")
    # [IGNORE] A10: the nonce is at most the window ahead.
    if envelope.nonce > actor.nonce + nonce_window:
        _refuse(
            ErrorCode.STATE_MISMATCH,
            "A10",
            f"nonce {envelope.nonce} is too far ahead; the next one is {actor.nonce + 1}, "
            f"the last one accepted now {actor.nonce + nonce_window}",
        )


def build_action(
    key: KeyPair,
    genesis_hash: Hash32,
    world_id: WorldId,
    payload: object,
    *,
    nonce: int,
    timestamp_ms: int,
) -> bytes:
    """Encode and sign an action; its kind follows from the payload's record. For clients.

    ``nonce`` is 1 for an actor's first action, then always the next; ``timestamp_ms`` the client's clock.
    """
    payload_cbor = record.to_bytes(payload)
    envelope = ActionEnvelope(
        world_id=world_id,
        actor_id=actor_id_of(key.public_key),
        action_kind=_KIND_OF[type(payload)],
        payload_cbor=payload_cbor,
        payload_hash=hash32(payload_cbor),
        nonce=U64(nonce),
        timestamp_ms=TimeMs(timestamp_ms),
    )
    return sign_record(Domain.ACTION, genesis_hash, envelope, key)


_KIND_OF: dict[type, Label] = {payload: kind for kind, payload in PAYLOADS.items()}


def _refuse(code: ErrorCode, rule: str, message: str) -> NoReturn:
    raise Refused(code, f"{rule}: {message}", rule=rule)

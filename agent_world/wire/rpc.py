"""Frames of the request protocol /aw/rr/1.0.0: explicit request, ok and error frames."""

from __future__ import annotations

from typing import Final

import attrs

from agent_world.errors import ErrorCode, Refused
from agent_world.wire.ids import U32, U64, WorldId

RR_BASE: Final = "/aw/rr/1.0.0"


def method(name: str) -> str:
    """Full method name, ``/aw/rr/1.0.0/<name>``."""
    return f"{RR_BASE}/{name}"


GET_WORLD_HEAD: Final = method("get_world_head")
GET_BLOCK: Final = method("get_block")
GET_BLOCKS: Final = method("get_blocks")
FETCH_BLOB: Final = method("fetch_blob")
FETCH_BLOBS: Final = method("fetch_blobs")
GET_BOUNDARIES: Final = method("get_boundaries")
STREAM_BLOBS: Final = method("stream_blobs")
GET_SNAPSHOT: Final = method("get_snapshot")
GET_JOURNAL_SEGMENT: Final = method("get_journal_segment")
GET_RECEIPT_SEGMENT: Final = method("get_receipt_segment")
GET_MODULE_MANIFEST: Final = method("get_module_manifest")
GET_MODULE_ARTIFACT: Final = method("get_module_artifact")
SUBMIT_ACTION: Final = method("submit_action")
GET_RECEIPT: Final = method("get_receipt")
GET_ACTOR: Final = method("get_actor")
GET_PENDING: Final = method("get_pending")
HELLO: Final = method("hello")
OFFER_RECORD: Final = method("offer_record")
GET_RECORDS: Final = method("get_records")
FETCH_COMMIT: Final = method("fetch_commit")
CHALLENGE: Final = method("challenge")
CHALLENGE_REVEAL: Final = method("challenge_reveal")
REPLICA: Final = method("replica")


@attrs.frozen(slots=True, kw_only=True)
class RequestFrame:
    """One request; ``id`` is unique among those in flight on its stream."""

    id: U64
    method: str
    payload: bytes
    deadline_ms: U32
    """How long the asker will wait; the server gives up then too."""


@attrs.frozen(slots=True, kw_only=True)
class ErrorResponse:
    """Why a request was refused; ``retryable`` is trusted as sent."""

    code: ErrorCode
    message: str
    retryable: bool
    rule: str
    """Rule of the protocol's README that was broken, such as "A5"; empty if none."""

    def to_refused(self) -> Refused:
        """The error as the asker raises it."""
        return Refused(self.code, self.message, rule=self.rule, retryable=self.retryable)

    @classmethod
    def of(cls, error: Refused) -> ErrorResponse:
        """The error as it travels."""
        return cls(code=error.code, message=error.message[:500], retryable=error.retryable, rule=error.rule)


@attrs.frozen(slots=True, kw_only=True)
class ResponseFrame:
    """Answer to the request ``id``: either ``payload`` or ``error`` is set, never both.

    ``elsewhere`` says that the answer is above the inline bound: ask again on a stream of its own.
    """

    id: U64
    payload: bytes | None
    error: ErrorResponse | None
    elsewhere: bool


def topic(world_id: WorldId, kind: str) -> str:
    """Name of a gossip topic, ``aw.<world>.<kind>``."""
    return f"aw.{world_id}.{kind}"


def dht_head_key(world_id: WorldId) -> str:
    """DHT key of a world's head record."""
    return f"/aw/world/{world_id}/head"


def dht_providers_key(world_id: WorldId, content_hash_hex: str) -> str:
    """DHT key of a content's provider set."""
    return f"/aw/world/{world_id}/providers/{content_hash_hex}"


def dht_capability_key(world_id: WorldId, node: str) -> str:
    """DHT key of a node's capability record; ``node`` is the hex of the first 16 octets of its public key."""
    return f"/aw/world/{world_id}/capability/{node}"


def dht_membership_key(world_id: WorldId) -> str:
    """DHT key of a world's membership directory."""
    return f"/aw/world/{world_id}/membership"

"""Messages of protocols/hello: who is at the other end, of which world, and whom it knows."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import attrs

from agent_world.wire.head import WorldHead
from agent_world.wire.ids import U16, Hash32, PeerId, TimeMs, WorldId
from agent_world.wire.record import V1
from agent_world.wire.signed import Signed

PROTOCOL_VERSIONS: Final = ("aw/1",)
"""Versions of the contract in protocols/ that this program speaks, the preferred one first."""


class Role(StrEnum):
    """What a node does besides verifying; any role may be a validator."""

    SEQUENCER = "sequencer"
    STORAGE = "storage"
    OBSERVER = "observer"


@attrs.frozen(slots=True, kw_only=True)
class ValidatorClaim:
    """Body of a ``Signed`` by a validator key: the peer at which this validator is found.

    It may be said in a hello of that peer only, so that a copy is of no use to anybody else.
    """

    v: U16 = U16(V1)
    peer_id: PeerId
    issued_at_ms: TimeMs
    """Of several peers with a claim by one key the one with the latest counts: a validator may move."""


@attrs.frozen(slots=True, kw_only=True)
class PeerAddress:
    """A peer to which the sender has had an authenticated connection, and where it can be dialled."""

    peer_id: PeerId
    address: str
    """Multiaddr without the /p2p part."""
    validator: bool
    """Whether that peer has proved to be a validator; a hint for other validators, who dial it."""


@attrs.frozen(slots=True, kw_only=True)
class Hello:
    """Sent by both sides when a connection opens, and again every heartbeat."""

    v: U16 = U16(V1)
    versions: tuple[str, ...]
    """Versions of the contract that the sender speaks; both sides need one in common."""
    world_id: WorldId
    genesis_hash: Hash32
    role: Role
    validator: Signed | None
    """Around a ``ValidatorClaim``: proof that consensus messages should be sent here directly; none without a vote."""
    listen: tuple[str, ...]
    """Own listen multiaddrs."""
    head: WorldHead
    peers: tuple[PeerAddress, ...]
    """Verified peers only; in turns, from hello to hello, if there are more than HELLO_PEERS_MAX."""

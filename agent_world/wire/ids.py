"""Names and numbers of the protocol as types of their own, with the one check each that a decoder applies."""

from __future__ import annotations

import base64
import contextlib
import functools
import re
from typing import Final, NewType

import base58

from agent_world.errors import DecodeError
from agent_world.wire.limits import NAME_CHARS_MAX

WorldId = NewType("WorldId", str)
"""Name of a world: lower-case letters, digits, ``-``, ``_``, ``.``; it stands inside topic names and paths."""
ValidatorId = NewType("ValidatorId", str)
"""Name of a validator in genesis; the same letters as a world id. Proposers are drawn in its byte order."""
ActorId = NewType("ActorId", str)
"""An agent: base32 of the first 20 bytes of BLAKE3(public key), 32 characters (D3)."""
PeerId = NewType("PeerId", str)
"""A node: libp2p peer id of its Ed25519 key as base58 text, ``12D3KooW...``."""
Name = NewType("Name", str)
"""What people call a thing: 1 to 64 visible characters, single words or several with spaces between."""
Label = NewType("Label", str)
"""A fixed word of the protocol, such as an action kind or a reason code: lower-case words, dots, underscores."""

Hash32 = NewType("Hash32", bytes)
"""A BLAKE3-256 digest that is not a link: block hash, genesis hash, action id."""
PublicKey = NewType("PublicKey", bytes)
"""Ed25519 public key, 32 bytes."""
Signature = NewType("Signature", bytes)
"""Ed25519 signature, 64 bytes."""

U16 = NewType("U16", int)
U32 = NewType("U32", int)
U64 = NewType("U64", int)
I64 = NewType("I64", int)
TimeMs = NewType("TimeMs", int)
"""Milliseconds since the Unix epoch, 0 .. 2^63-1."""

_WORD: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LABEL: Final = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_NAME_CHAR: Final = (
    r"[^\x00-\x20\x7f-\xa0\xad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000"
    r"\ud800-\uf8ff\ufeff\ufff0-\uffff\U000e0000-\U0010ffff]"
)
"""No control, space, invisible, direction or private-use character. A fixed set and not ``str.isprintable``: blocks
are executed with names in them, and Python's Unicode tables differ from version to version."""
_NAME: Final = re.compile(rf"{_NAME_CHAR}(?:(?: |{_NAME_CHAR})*{_NAME_CHAR})?")
_ACTOR: Final = re.compile(r"[a-z2-7]{32}")
_ED25519_PEER_PREFIX: Final = bytes.fromhex("002408011220")
"""Identity multihash of 36 bytes around the protobuf {Type: Ed25519, Data: 32 bytes}; source: libp2p peer-ids."""
_PEER_ID_CHARS: Final = 52
"""Every such peer id is as long: the first octets are the same."""


def check_word(value: str) -> str:
    """World and validator ids; raises DecodeError."""
    if not _WORD.fullmatch(value):
        raise DecodeError("D7", f"{value[:80]!r} is not an id of 1-64 characters a-z 0-9 . _ -")
    return value


def check_name(value: str) -> str:
    """Names of agents, resources and objects; raises DecodeError."""
    if len(value) > NAME_CHARS_MAX or not _NAME.fullmatch(value):
        raise DecodeError("D7", f"{value[:80]!r} is not a name of 1-{NAME_CHARS_MAX} visible characters")
    return value


def check_label(value: str) -> str:
    """Action kinds, event kinds, reason codes; raises DecodeError."""
    if len(value) > NAME_CHARS_MAX or not _LABEL.fullmatch(value):
        raise DecodeError("D7", f"{value[:80]!r} is not a label")
    return value


def check_actor_id(value: str) -> str:
    """Raises DecodeError unless the text has the form of an actor id."""
    if not _ACTOR.fullmatch(value):
        raise DecodeError("D7", f"{value[:80]!r} is not an actor id")
    return value


def actor_id_text(digest20: bytes) -> ActorId:
    """20 digest bytes -> actor id."""
    return ActorId(base64.b32encode(digest20).decode().lower())


def peer_id_of(node_key: PublicKey) -> PeerId:
    """Peer id of a node's Ed25519 public key."""
    return PeerId(base58.b58encode(_ED25519_PEER_PREFIX + node_key).decode())


@functools.lru_cache(maxsize=4_096)
def node_key_of(peer_id: str) -> PublicKey:
    """Inverse of ``peer_id_of``; raises DecodeError when it is not the id of an Ed25519 key."""
    # The length first, since base58 costs the square of it; the text last, since b58decode strips white space.
    data = b""
    if len(peer_id) == _PEER_ID_CHARS:
        with contextlib.suppress(ValueError):
            data = base58.b58decode(peer_id)
    key = PublicKey(data[len(_ED25519_PEER_PREFIX) :])
    if len(key) != 32 or peer_id_of(key) != peer_id:
        raise DecodeError("D7", f"{peer_id[:80]!r} is not the peer id of an Ed25519 key")
    return key


def check_peer_id(value: str) -> str:
    """Raises DecodeError unless the text is the peer id of an Ed25519 key."""
    node_key_of(value)
    return value

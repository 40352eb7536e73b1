"""Where a light verifier begins: a height with the hash of its block, given by a person or kept from an earlier run.

The hash is the trust. A kept anchor also has the block and the set that decides after it, so that nobody need be
asked for them; both are checked against the hash when it is read.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import attrs

from agent_world.config import require
from agent_world.consensus.light import TrustedHead, trust_block
from agent_world.errors import RemoteError, UsageError
from agent_world.wire.ids import Hash32, WorldId
from agent_world.wire.limits import U64_MAX
from agent_world.wire.membership import EpochBoundary

ANCHOR_CHARS_MAX: Final = 4 * 1024 * 1024
"""Two hex digits a byte of a block and of the largest set, with room to spare."""
_VERSION: Final = 1
_KEYS: Final = ("v", "world_id", "genesis_hash", "height", "block_hash", "state_root", "block", "validators")
_GIVEN: Final = re.compile(r"([0-9]{1,20}):([0-9a-f]{64})")


@attrs.frozen(slots=True, kw_only=True)
class TrustAnchor:
    """A block that is trusted, and what follows from it."""

    world_id: WorldId
    genesis_hash: Hash32
    block_hash: Hash32
    height: int
    state_root: str
    """For people; the block has it too."""
    block: bytes
    """Encoded WorldBlock."""
    validators: bytes
    """Encoded record of the set that decides the next height."""


def parse_given(text: str) -> tuple[int, Hash32]:
    """``HEIGHT:HASH``; raises UsageError."""
    found = _GIVEN.fullmatch(text)
    require(found is not None, f"--trust {text[:100]}: write it as HEIGHT:HASH, 64 lower-case hex digits, or as @FILE")
    assert found is not None
    height = int(found[1])
    require(height <= U64_MAX, f"--trust {text}: no such height")
    return height, Hash32(bytes.fromhex(found[2]))


def anchor_text(anchor: TrustAnchor) -> str:
    """The file of an anchor; ``parse_anchor`` gives the same anchor back."""
    fields = {name: getattr(anchor, name) for name in _KEYS[1:]}
    shown = {name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()}
    return json.dumps({"v": _VERSION, **shown}, indent=2) + "\n"


def parse_anchor(text: str, source: str) -> TrustAnchor:
    """The anchor in a file named ``source``; raises UsageError that says what is wrong with it."""
    require(len(text) <= ANCHOR_CHARS_MAX, f"{source}: too large for a trust anchor")
    try:
        found = json.loads(text)
    # RecursionError: lists in lists, thousands deep.
    except (ValueError, RecursionError):
        raise UsageError(f"{source}: no trust anchor: not JSON") from None
    require(
        isinstance(found, dict) and set(found) == set(_KEYS), f"{source}: no trust anchor: it has {', '.join(_KEYS)}"
    )
    require(
        found["v"] == _VERSION and not isinstance(found["v"], bool), f"{source}: v: only version {_VERSION} is known"
    )
    height = found["height"]
    require(type(height) is int and 0 < height <= U64_MAX, f"{source}: height: write a number above 0")
    return TrustAnchor(
        world_id=WorldId(_text(found, "world_id", source)),
        genesis_hash=Hash32(_octets(found, "genesis_hash", source, 32)),
        block_hash=Hash32(_octets(found, "block_hash", source, 32)),
        height=height,
        state_root=_text(found, "state_root", source),
        block=_octets(found, "block", source),
        validators=_octets(found, "validators", source),
    )


def trust_anchor(anchor: TrustAnchor, world_id: WorldId, genesis_hash: Hash32, source: str) -> TrustedHead:
    """The head that an anchor is; raises UsageError if it is of another world or its parts do not fit its hash."""
    require(
        (anchor.world_id, anchor.genesis_hash) == (world_id, genesis_hash),
        f"{source}: this anchor is of world {anchor.world_id!r} with genesis {anchor.genesis_hash.hex()[:16]},"
        f" not of {world_id!r} with genesis {genesis_hash.hex()[:16]}",
    )
    boundary = EpochBoundary(block=anchor.block, certificate=b"", validators=anchor.validators)
    try:
        head = trust_block(world_id, genesis_hash, boundary, anchor.block_hash)
    except RemoteError as error:
        raise UsageError(f"{source}: its block, set and hash do not fit each other: {error}") from None
    require(head.height == anchor.height, f"{source}: its block is of height {head.height}, not {anchor.height}")
    return head


def _text(found: dict[str, Any], name: str, source: str) -> str:
    value = found[name]
    require(isinstance(value, str) and len(value) <= 200, f"{source}: {name}: write a short text")
    return str(value)


def _octets(found: dict[str, Any], name: str, source: str, size: int | None = None) -> bytes:
    value = found[name]
    fits = isinstance(value, str) and re.fullmatch(r"([0-9a-f]{2})*", value) is not None
    require(fits and size in (None, len(value) // 2), f"{source}: {name}: write it as lower-case hex digits")
    return bytes.fromhex(value)

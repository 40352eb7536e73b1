"""How commands are told which content is meant."""

from __future__ import annotations

from agent_world.wire.cid import Cid, Codec, parse_content_hash


def content_cid(text: str) -> Cid:
    """A CID, or 64 hex digits, which name a blob without saying what is in it; raises DecodeError."""
    is_cid = text.startswith("b") and len(text) != 64
    return Cid.parse(text) if is_cid else Cid(Codec.RAW, parse_content_hash(text))

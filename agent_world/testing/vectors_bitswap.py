"""Vectors of protocols/bitswap: messages a server reads, answers it writes, and files as IPFS tools know them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import attrs

from agent_world.crypto.hashing import cid_of
from agent_world.distfs.manifest import Span
from agent_world.distfs.unixfs import LINKS_MAX, PbCid, UnixfsBuilder
from agent_world.wire.bitswap import Presence, Want, block_field, presence_field, want_message
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.limits import BITSWAP_WANTS_MAX, CHUNK_BYTES
from agent_world.wire.protobuf import number, octets, varint

RAW: Final = cid_of(b"content", Codec.RAW)
RECORD: Final = cid_of(b"record")
PB: Final = PbCid(RAW.digest)
FOREIGN: Final = bytes.fromhex("0155" + "1220") + RAW.digest
"""Named by SHA-256."""


def shown(want: Want) -> dict[str, Any]:
    """A want as a vector has it."""
    return {**attrs.asdict(want), "cid": want.cid.hex(), "digest": None if want.digest is None else want.digest.hex()}


def bitswap_message_vectors() -> dict[str, Any]:
    """The file ``bitswap/vectors/messages.json``."""
    block = Want(RAW.to_bytes())
    right: list[tuple[str, list[Want], bool]] = [
        ("a block", [block], False),
        ("nothing", [], False),
        ("all that is wanted", [block], True),
        ("presence", [Want(RECORD.to_bytes(), only_presence=True, tell_absence=True, priority=7)], False),
        ("a UnixFS node", [Want(PB.to_bytes(), tell_absence=True, priority=2**31 - 1)], False),
        ("a cancel", [block, Want(RAW.to_bytes(), cancel=True, priority=0)], False),
        ("a priority below zero", [Want(RAW.to_bytes(), priority=-1)], False),
        ("a block of another hash", [Want(FOREIGN)], False),
        ("the longest name", [Want(bytes(168))], False),
    ]
    cases = [_message(name, want_message(wants, full=full), wants, full) for name, wants, full in right]
    many = [Want(b"%d" % place) for place in range(BITSWAP_WANTS_MAX + 2)]
    cases.append({"id": "too many", "bytes": want_message(many).hex(), "count": BITSWAP_WANTS_MAX, "dropped": 2})
    known = want_message([block])
    cases.append(_message("unknown fields", known + number(9, 1) + octets(10, b"x"), [block], False))
    cases.append({**_message("an unasked block", block_field(b"", b"x"), [], False), "blocks": 1})
    cases.append({**_message("an unasked word", presence_field(b"x", Presence.HAVE), [], False), "blocks": 1})
    wrong: list[tuple[str, bytes, str]] = [
        ("cut off", known[:-1], "X1"),
        ("a length that does not end", b"\x0a" + b"\xff" * 10, "X1"),
        ("a length above what is left", b"\x0a\x7f", "X1"),
        ("a group", varint(1 << 3 | 3), "X1"),
        ("field number 0", b"\x00\x00", "X1"),
        ("a wantlist that is a number", number(1, 5), "X1"),
        ("an entry that is a number", octets(1, number(1, 5)), "X1"),
        ("a priority that is bytes", octets(1, octets(1, octets(1, b"x") + octets(2, b"y"))), "X1"),
        ("a want without a name", want_message([Want(b"")]), "X2"),
        ("a name that is too long", want_message([Want(bytes(169))]), "X2"),
    ]
    cases += [{"id": name, "bytes": data.hex(), "rule": rule} for name, data, rule in wrong]
    return {
        "about": "The message `bytes` has exactly `wants` and `full`, or breaks `rule`; `blocks` counts what nobody "
        "asked for, `count` and `dropped` what is taken and what is dropped of too many wants. `digest` is that of "
        "content which a node could have.",
        "cases": cases,
    }


def _message(name: str, data: bytes, wants: list[Want], full: bool) -> dict[str, Any]:
    return {"id": name, "bytes": data.hex(), "wants": [shown(want) for want in wants], "full": full}


def chunks_of(count: int, chunk_bytes: int, last_bytes: int) -> Iterator[Span]:
    """The chunks of a file of the vectors: each its number in 4 octets, big-endian, and then zeros."""
    for place in range(count):
        size = chunk_bytes if place < count - 1 else last_bytes
        data = (place.to_bytes(4, "big") + bytes(chunk_bytes - 4))[:size]
        yield Span(cid_of(data, Codec.RAW), place * chunk_bytes, size, 0)


def unixfs_of(chunks: Iterator[Span]) -> list[tuple[PbCid, bytes]]:
    """All nodes over chunks, the root last."""
    builder = UnixfsBuilder()
    nodes = [node for chunk in chunks for node in builder.add(chunk)]
    return [*nodes, *builder.finish()]


def unixfs_vectors() -> dict[str, Any]:
    """The file ``bitswap/vectors/unixfs.json``."""
    square = LINKS_MAX * LINKS_MAX
    files = [
        (2, 4, 4), (3, 4, 1), (LINKS_MAX, 4, 4), (LINKS_MAX + 1, 4, 4), (LINKS_MAX + 1, 4, 2), (2 * LINKS_MAX, 4, 4),
        (2 * LINKS_MAX + 1, 4, 4), (square, 4, 4), (square + 1, 4, 3), (square + LINKS_MAX + 1, 4, 4),
        (5, CHUNK_BYTES, 1_000), (40, CHUNK_BYTES, CHUNK_BYTES),
    ]  # fmt: skip
    cases = []
    for count, chunk_bytes, last_bytes in files:
        nodes = unixfs_of(chunks_of(count, chunk_bytes, last_bytes))
        cases.append(
            {
                "id": f"{count} chunks of {chunk_bytes}, the last of {last_bytes}",
                "chunks": count,
                "chunk_bytes": chunk_bytes,
                "last_bytes": last_bytes,
                "nodes": len(nodes),
                "root": str(nodes[-1][0]),
            }
        )
    root = unixfs_of(chunks_of(2, 4, 4))[-1][1]
    other = octets(2, octets(1, FOREIGN) + octets(2, b"") + number(3, 4))
    cases += [
        {"id": "a root", "node": root.hex(), "links": [str(Cid(Codec.RAW, s.cid.digest)) for s in chunks_of(2, 4, 4)]},
        {"id": "a link of another hash", "node": other.hex(), "rule": "X5"},
        {"id": "a link that is a number", "node": number(2, 5).hex(), "rule": "X5"},
        {"id": "a node that is cut off", "node": root[:-1].hex(), "rule": "X5"},
    ]
    return {
        "about": "A file of `chunks` chunks, each its number in 4 octets, big-endian, and then zeros, has the UnixFS "
        "root `root` and `nodes` nodes. The dag-pb node `node` links to exactly `links`, or breaks `rule`.",
        "cases": cases,
    }

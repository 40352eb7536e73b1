"""One node of the state trie: its shape in memory, its bytes, and what makes it canonical (D6).

Layout after the IPLD HashMap specification (schema HashMapRoot / HashMapNode / Bucket) with hashAlg blake3,
bit width 5 and bucket size 3. A node is ``[map, data]``: ``map`` is 4 bytes, little-endian, bit i set when slot i
is taken; ``data`` holds the taken slots in order, each a bucket (list of [key, value], ascending by key) or the
link of a child node. The root block is ``{hashAlg, bucketSize, hamt: [map, data]}``.

Rules a node must obey (DecodeError): T1 shape, T2 canonical form, T3 every key in the slot its hash says.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import attrs
from blake3 import blake3

from agent_world.errors import DecodeError, LocalError
from agent_world.wire import cbor
from agent_world.wire.cid import HASH_BYTES, Cid, Codec, ContentHash
from agent_world.wire.limits import BLOB_BYTES_MAX, STATE_KEY_BYTES_MAX

HASH_ALG: Final = 0x1E
"""Multicodec of BLAKE3; the root block names it."""
BIT_WIDTH: Final = 5
"""Bits of the key's hash a level uses: 32 slots a node (D6)."""
SLOTS: Final = 1 << BIT_WIDTH
BUCKET_SIZE: Final = 3
"""Entries a slot holds before it becomes a child node (D6); the specification's default."""
LEVELS_MAX: Final = 256 // BIT_WIDTH
"""51 levels use 255 of the 256 bits; more would need two keys whose hashes agree in 255 bits."""

_MAP_BYTES: Final = SLOTS // 8
_HASH_BITS: Final = 256

_SLOTS_OF_OCTET: Final = [
    [[start + bit for bit in range(8) if octet >> bit & 1] for octet in range(256)] for start in range(0, SLOTS, 8)
]
"""Numbers of the set bits of each octet of a map, for every value it can have."""

# A node is put together from bytes that the codec made once: what changes between two blocks is little of it.
_BODY_HEAD: Final = cbor.encode([bytes(_MAP_BYTES), 0])[: -1 - _MAP_BYTES]
_LIST_HEADS: Final = [cbor.encode([0] * count)[:-count] if count else cbor.encode([]) for count in range(SLOTS + 1)]
_LINK_HEAD: Final = cbor.encode(Cid(Codec.DAG_CBOR, ContentHash(bytes(HASH_BYTES))))[:-HASH_BYTES]
_ROOT_HEAD, _, _ROOT_TAIL = cbor.encode({"hamt": None, "hashAlg": HASH_ALG, "bucketSize": BUCKET_SIZE}).partition(
    cbor.encode(None)
)

Entry: TypeAlias = "tuple[bytes, cbor.Value]"
"""Key and value; a value that is a bare Cid is the link to the blob that holds the value."""


@attrs.define(slots=True, eq=False)
class Bucket:
    """Up to three entries that share a slot. Nobody changes one; only its bytes are filled in when first needed."""

    entries: tuple[Entry, ...]
    """Ascending by key."""
    _encoded: bytes | None = None

    def encoded(self) -> bytes:
        """Canonical bytes; kept, since a block rewrites nodes of which most buckets stay as they are."""
        if self._encoded is None:
            self._encoded = cbor.encode([list(entry) for entry in self.entries])
        return self._encoded


@attrs.frozen(slots=True, eq=False)
class Node:
    """A trie node. A child is a Cid once it has been stored, and a Node while it exists only in memory."""

    bitmap: int
    """Bit i is set when slot i is taken."""
    elements: tuple[Bucket | Cid | Node, ...]
    """The taken slots, ascending."""

    def element(self, slot: int) -> Bucket | Cid | Node | None:
        """What is in a slot, None if nothing."""
        bit = 1 << slot
        if not self.bitmap & bit:
            return None
        return self.elements[(self.bitmap & (bit - 1)).bit_count()]

    def by_slot(self) -> dict[int, Bucket | Cid | Node]:
        """The taken slots by number."""
        return dict(zip(taken_slots(self.bitmap), self.elements, strict=True))


EMPTY: Final = Node(0, ())


def taken_slots(bitmap: int) -> list[int]:
    """Numbers of the set bits, ascending."""
    return [slot for start, slots in enumerate(_SLOTS_OF_OCTET) for slot in slots[bitmap >> 8 * start & 0xFF]]


def key_hash(key: bytes) -> int:
    """BLAKE3-256 of a key as a number; its leading bits choose the slots."""
    return int.from_bytes(blake3(key).digest(), "big")


def slot_at(hashed: int, level: int) -> int:
    """Slot of a hashed key at a level; level 0 is the root."""
    return hashed >> (_HASH_BITS - BIT_WIDTH * (level + 1)) & (SLOTS - 1)


def encode_node(node: Node, *, is_root: bool) -> bytes:
    """Bytes of a node whose children are all stored."""
    parts = [_BODY_HEAD, node.bitmap.to_bytes(_MAP_BYTES, "little"), _LIST_HEADS[len(node.elements)]]
    for element in node.elements:
        if isinstance(element, Node):
            raise LocalError("a node is encoded after its children are stored")
        parts.append(element.encoded() if isinstance(element, Bucket) else _LINK_HEAD + element.digest)
    if is_root:
        parts = [_ROOT_HEAD, *parts, _ROOT_TAIL]
    return b"".join(parts)


def decode_node(data: bytes, level: int, prefix: int) -> Node:
    """The node of these bytes, met at ``level`` below the slots whose numbers make up ``prefix`` (5 bits each).

    Raises DecodeError whatever the bytes are.
    """
    value = cbor.decode(data, size_max=BLOB_BYTES_MAX)
    if level == 0:
        value = _body_of_root(value)
    if type(value) is not list or len(value) != 2:
        raise DecodeError("T1", "a trie node is a list of map and data")
    bits, elements = value
    if type(bits) is not bytes or len(bits) != _MAP_BYTES or type(elements) is not list:
        raise DecodeError("T1", f"a trie node has a map of {_MAP_BYTES} bytes and a list of elements")
    bitmap = int.from_bytes(bits, "little")
    if bitmap.bit_count() != len(elements):
        raise DecodeError("T1", f"the map names {bitmap.bit_count()} slots, there are {len(elements)} elements")
    slots = zip(taken_slots(bitmap), elements, strict=True)
    node = Node(bitmap, tuple(_element(item, level, prefix << BIT_WIDTH | slot) for slot, item in slots))
    if level > 0 and collapsed(node) is not node:
        raise DecodeError("T2", f"a child node of at most {BUCKET_SIZE} entries must be a bucket")
    return node


def collapsed(node: Node) -> Node | Bucket | None:
    """Canonical form of a child: itself, or the bucket of its last few entries, or None if it is empty."""
    entries: list[Entry] = []
    for element in node.elements:
        if not isinstance(element, Bucket):
            return node
        entries.extend(element.entries)
        if len(entries) > BUCKET_SIZE:
            return node
    entries.sort(key=_key_of)
    return Bucket(tuple(entries)) if entries else None


def _key_of(entry: Entry) -> bytes:
    return entry[0]


def _body_of_root(value: cbor.Value) -> cbor.Value:
    if type(value) is not dict or value.keys() != {"hamt", "hashAlg", "bucketSize"}:
        raise DecodeError("T1", "a trie's root block has the keys hamt, hashAlg and bucketSize")
    if value["hashAlg"] != HASH_ALG or value["bucketSize"] != BUCKET_SIZE:
        raise DecodeError("T1", f"the trie is not of hashAlg 0x{HASH_ALG:x} and bucketSize {BUCKET_SIZE}")
    return value["hamt"]


def _element(item: cbor.Value, level: int, position: int) -> Bucket | Cid:
    """A slot's content; ``position`` is the leading bits that every key below it must have."""
    if type(item) is Cid:
        if item.codec is not Codec.DAG_CBOR:
            raise DecodeError("T1", "the link to a child node must be of codec dag-cbor")
        return item
    if type(item) is not list or not 1 <= len(item) <= BUCKET_SIZE:
        raise DecodeError("T1", f"a slot holds a link or a bucket of 1-{BUCKET_SIZE} entries")
    shift = _HASH_BITS - BIT_WIDTH * (level + 1)
    before: bytes | None = None
    for entry in item:
        if type(entry) is not list or len(entry) != 2 or type(entry[0]) is not bytes or entry[1] is None:
            raise DecodeError("T1", "a bucket's entry is a list of key bytes and a value")
        key = entry[0]
        if len(key) > STATE_KEY_BYTES_MAX:
            raise DecodeError("T1", f"a key of {len(key)} bytes is over the limit of {STATE_KEY_BYTES_MAX}")
        if before is not None and key <= before:
            raise DecodeError("T2", "the keys of a bucket do not ascend")
        if key_hash(key) >> shift != position:
            raise DecodeError("T3", f"key {key[:40]!r} is in a slot that its hash does not say")
        before = key
    return Bucket(tuple([(key, value) for key, value in item]))

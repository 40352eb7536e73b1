"""Canonical hash trie: a persistent map from keys to values whose root names its content (D6).

The same entries give the same root whatever the order of the writes. A ``Trie`` never changes: ``update`` gives
another one that shares every untouched node, and ``flush`` gives the bytes of the nodes that are new.
Values are what ``wire.cbor`` encodes, so that links inside them are found like any other link.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

from agent_world.crypto.hashing import cid_of, verify_blob
from agent_world.errors import BlobNotFound, DecodeError, LocalError
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.limits import BLOB_BYTES_MAX, STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX
from agent_world.world.trie_node import (
    BIT_WIDTH,
    BUCKET_SIZE,
    EMPTY,
    LEVELS_MAX,
    Bucket,
    Node,
    collapsed,
    decode_node,
    encode_node,
    key_hash,
    slot_at,
    taken_slots,
)

NodeSource: TypeAlias = "Callable[[ContentHash], bytes]"
"""Reads a stored blob; raises BlobNotFound. What it returns is hashed and compared here."""
Blobs: TypeAlias = "dict[ContentHash, bytes]"
"""New blobs by their hash."""

CACHE_NODES_MAX: Final = 16_384
"""Decoded nodes one cache keeps, about 6 KB each; above it the node unused for longest is dropped."""
VALUE_DEPTH_MAX: Final = 16
"""Nesting of a value; with the node around it, it stays below CBOR_DEPTH_MAX."""

_Change: TypeAlias = "tuple[int, bytes, cbor.Value]"  # hash of the key, key, value or None to delete


class NodeMissing(BlobNotFound):
    """A node of the trie is not stored here; ``content_hash`` says which blob to fetch before trying again."""

    def __init__(self, content_hash: ContentHash) -> None:
        super().__init__(f"state node {content_hash.hex()} is not stored here")
        self.content_hash = content_hash


class NodeCache:
    """Decoded nodes over a source, shared by all tries of one world. For use by one thread at a time."""

    def __init__(self, source: NodeSource, *, nodes_max: int = CACHE_NODES_MAX) -> None:
        self._source = source
        self._nodes_max = nodes_max
        # The place is part of the key: a node that is right in one place of a trie is wrong in any other (T3).
        self._nodes: OrderedDict[tuple[ContentHash, int, int], Node] = OrderedDict()
        self.loads = 0
        """Nodes read from the source so far."""

    def node(self, cid: Cid, level: int, prefix: int) -> Node:
        """The node of a link. Raises NodeMissing, BlobHashMismatch, or DecodeError (T1-T4)."""
        place = (cid.digest, level, prefix)
        found = self._nodes.get(place)
        if found is not None:
            self._nodes.move_to_end(place)
            return found
        if level >= LEVELS_MAX:
            raise DecodeError("T4", f"a trie has at most {LEVELS_MAX} levels")
        self.loads += 1
        node = decode_node(self.blob(cid.digest), level, prefix)
        self.keep(cid, level, prefix, node)
        return node

    def keep(self, cid: Cid, level: int, prefix: int, node: Node) -> None:
        """Remember a decoded node."""
        self._nodes[cid.digest, level, prefix] = node
        if len(self._nodes) > self._nodes_max:
            self._nodes.popitem(last=False)

    def blob(self, content_hash: ContentHash) -> bytes:
        """Verified bytes from the source. Raises NodeMissing or BlobHashMismatch."""
        try:
            data = self._source(content_hash)
        except NodeMissing:
            raise
        except BlobNotFound:
            raise NodeMissing(content_hash) from None
        return verify_blob(data, content_hash)

    def value(self, stored: cbor.Value) -> cbor.Value:
        """A value as it was written: itself, or what its link leads to."""
        if type(stored) is not Cid:
            return stored
        if stored.codec is not Codec.DAG_CBOR:
            raise DecodeError("T1", "the link to a value must be of codec dag-cbor")
        data = self.blob(stored.digest)
        if len(data) <= STATE_VALUE_BYTES_MAX:
            raise DecodeError("T2", f"a value of {len(data)} bytes must be inline")
        return cbor.decode(data, size_max=BLOB_BYTES_MAX)


class Trie:
    """A map from keys (1-256 bytes) to values, as of one root. Values handed out must not be changed."""

    __slots__ = ("_nodes", "_root", "_values")

    def __init__(self, root: Cid | None, nodes: NodeCache) -> None:
        """The trie under ``root``, read when needed; None is the empty trie."""
        self._root: Cid | Node = EMPTY if root is None else root
        self._nodes = nodes
        self._values: Blobs = {}

    def get(self, key: bytes) -> cbor.Value | None:
        """The value of a key, None if it has none. Raises NodeMissing, BlobHashMismatch or DecodeError."""
        hashed = key_hash(key)
        element: Bucket | Cid | Node | None = self._root
        level = prefix = 0
        while element is not None and not isinstance(element, Bucket):
            slot = slot_at(hashed, level) if level < LEVELS_MAX else 0
            element = _load(self._nodes, element, level, prefix).element(slot)
            prefix = prefix << BIT_WIDTH | slot
            level += 1
        for found, value in () if element is None else element.entries:
            if found == key:
                return self._resolve(value)
        return None

    def update(self, changes: Mapping[bytes, cbor.Value | None]) -> Trie:
        """The trie after these writes; None deletes. Costs O(m log n) for m changes, each node touched once.

        Raises LocalError for a key, depth or size beyond the bounds, and whatever ``get`` raises.
        """
        values = dict(self._values)
        prepared = [(key_hash(key), key, _storable(key, value, values)) for key, value in changes.items()]
        root = _load(self._nodes, self._root, 0, 0)
        changed = self._apply(root, 0, 0, prepared)
        if changed is root:
            return self
        result = Trie(None, self._nodes)
        result._root, result._values = changed, values
        return result

    def flush(self) -> tuple[Cid, Blobs]:
        """The root, and the bytes of every node and large value that is new since the last stored trie."""
        if isinstance(self._root, Cid):
            return self._root, {}
        blobs = dict(self._values)
        return self._store(self._root, 0, 0, blobs), blobs

    def items(self) -> Iterator[tuple[bytes, cbor.Value]]:
        """All entries, in the order of their places: by slot from the root down, in a bucket by key."""
        for key, value in entries_below(self._nodes, self._root, 0, 0):
            yield key, self._resolve(value)

    def _resolve(self, stored: cbor.Value) -> cbor.Value:
        if type(stored) is Cid and stored.digest in self._values:
            return cbor.decode(self._values[stored.digest], size_max=BLOB_BYTES_MAX)
        return self._nodes.value(stored)

    def _apply(self, node: Node, level: int, prefix: int, changes: list[_Change]) -> Node:
        if level >= LEVELS_MAX:
            raise LocalError("keys whose hashes agree in all bits")
        groups: dict[int, list[_Change]] = {}
        for change in changes:
            groups.setdefault(slot_at(change[0], level), []).append(change)
        slots = node.by_slot()
        is_changed = False
        for slot, group in groups.items():
            before = slots.get(slot)
            after = self._apply_element(before, level, prefix << BIT_WIDTH | slot, group)
            if after is before:
                continue
            is_changed = True
            if after is None:
                del slots[slot]
            else:
                slots[slot] = after
        if not is_changed:
            return node
        bitmap = sum(1 << slot for slot in slots)
        return Node(bitmap, tuple(slots[slot] for slot in taken_slots(bitmap)))

    def _apply_element(
        self, element: Bucket | Cid | Node | None, level: int, prefix: int, changes: list[_Change]
    ) -> Bucket | Cid | Node | None:
        """A slot's content after the changes; the very same object if nothing changes."""
        if element is not None and not isinstance(element, Bucket):
            child = _load(self._nodes, element, level + 1, prefix)
            changed = self._apply(child, level + 1, prefix, changes)
            return element if changed is child else collapsed(changed)
        entries = {} if element is None else dict(element.entries)
        is_changed = False
        for _, key, value in changes:
            if value is None:
                is_changed |= entries.pop(key, None) is not None
            elif key not in entries or not is_same(entries[key], value):
                entries[key] = value
                is_changed = True
        if not is_changed:
            return element
        if len(entries) <= BUCKET_SIZE:
            return Bucket(tuple(sorted(entries.items(), key=lambda entry: entry[0]))) if entries else None
        hashed = [(key_hash(key), key, value) for key, value in entries.items()]
        return self._apply(EMPTY, level + 1, prefix, hashed)

    def _store(self, node: Node, level: int, prefix: int, blobs: Blobs) -> Cid:
        elements = tuple(
            self._store(element, level + 1, prefix << BIT_WIDTH | slot, blobs) if type(element) is Node else element
            for slot, element in node.by_slot().items()
        )
        clean = Node(node.bitmap, elements)
        data = encode_node(clean, is_root=level == 0)
        cid = cid_of(data)
        blobs[cid.digest] = data
        self._nodes.keep(cid, level, prefix, clean)
        return cid


def entries_below(
    nodes: NodeCache, element: Bucket | Cid | Node | None, level: int, prefix: int
) -> Iterator[tuple[bytes, cbor.Value]]:
    """Stored entries under an element whose node, if it is one, belongs at ``level`` and ``prefix``."""
    if element is None:
        return
    if isinstance(element, Bucket):
        yield from element.entries
        return
    for slot, below in _load(nodes, element, level, prefix).by_slot().items():
        yield from entries_below(nodes, below, level + 1, prefix << BIT_WIDTH | slot)


def is_same(one: cbor.Value, other: cbor.Value) -> bool:
    """Whether two values have the same encoding; Python's 1 == True does not decide that."""
    return bool(one == other) and cbor.encode(one) == cbor.encode(other)


def _load(nodes: NodeCache, element: Cid | Node, level: int, prefix: int) -> Node:
    return nodes.node(element, level, prefix) if isinstance(element, Cid) else element


def _storable(key: bytes, value: cbor.Value | None, values: Blobs) -> cbor.Value | None:
    """What stands in the bucket: the value, or its link if it is large; its blob is then put into ``values``."""
    if not 1 <= len(key) <= STATE_KEY_BYTES_MAX:
        raise LocalError(f"a state key has 1-{STATE_KEY_BYTES_MAX} bytes, not {len(key)}")
    if value is None:
        return None
    if type(value) is Cid:
        raise LocalError("a bare link as a value would be taken for the link to a large value; put it into a record")
    if _depth(value) > VALUE_DEPTH_MAX:
        raise LocalError(f"a state value is nested deeper than {VALUE_DEPTH_MAX}")
    data = cbor.encode(value)
    if len(data) <= STATE_VALUE_BYTES_MAX:
        return value
    if len(data) > BLOB_BYTES_MAX:
        raise LocalError(f"a state value of {len(data)} bytes is over the limit of {BLOB_BYTES_MAX}")
    cid = cid_of(data)
    values[cid.digest] = data
    return cid


def _depth(value: cbor.Value) -> int:
    level, row = 0, [value]
    while row and level <= VALUE_DEPTH_MAX:
        level += 1
        row = [
            child
            for item in row
            if type(item) in (dict, list)
            for child in (item.values() if type(item) is dict else item)
        ]
    return level

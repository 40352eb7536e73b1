"""The world state as of one root: typed reads, buffered writes in nested transactions, proofs (D6)."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

import attrs

from agent_world.crypto.hashing import cid_of, hash32, verify_blob
from agent_world.errors import BlobHashMismatch, BlobNotFound, ChainError, DecodeError, LocalError
from agent_world.wire import cbor, record
from agent_world.wire.block import NamespaceRoot, StateRoot
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.consensus import ValidatorSetRecord
from agent_world.wire.ids import Hash32, Label
from agent_world.wire.limits import BLOB_BYTES_MAX
from agent_world.world.records import CLOCK, VALIDATORS, WORLD, ClockRecord, Table, WorldRecord
from agent_world.world.trie import Blobs, NodeCache, NodeSource, Trie
from agent_world.world.trie_proof import Proof, prove, verify_proof

R = TypeVar("R")

READ_RECORDS_MAX: Final = 8_192
"""Records remembered after they were read or written; above it all are forgotten. Every block copies the list."""
STATE_ROOTS_CACHED_MAX: Final = 32
"""State roots kept decoded: proposing, judging and committing a block all open the state of its parent."""

SET_HASHES_MAX: Final = 32
"""Validator sets whose hash is remembered: every block names two, which are almost always the same."""

_Place = tuple[Table[Any], tuple[str, ...]]


@attrs.frozen(slots=True)
class StateProof:
    """Shows what one key of one namespace holds under a state root."""

    state_root: bytes
    """Encoded StateRoot."""
    nodes: tuple[bytes, ...]
    """The namespace's part, as in ``trie_proof.Proof``; empty if there is no such namespace."""


class WorldState:
    """The state under ``state_root``. Writes are kept apart until ``flush`` and never touch stored nodes.

    Reads raise NodeMissing when a node is not stored here, DecodeError or BlobHashMismatch when it is damaged.
    """

    def __init__(self, state_root: Cid, source: NodeSource | NodeCache) -> None:
        """Open a state; share one NodeCache between the states of a world to read each node once."""
        self._nodes = source if isinstance(source, NodeCache) else NodeCache(source)
        self._read: dict[_Place, Any] = {}
        self._layers: list[dict[_Place, Any]] = [{}]
        self._open(state_root, read_state_root(self._nodes.blob(state_root.digest)))

    @property
    def root(self) -> Cid:
        """The state root as of the last flush."""
        return self._root

    @property
    def roots(self) -> Mapping[Label, Cid]:
        """Root of every namespace's trie as of the last flush."""
        return self._roots

    def fork(self) -> WorldState:
        """Another view of the same flushed state; writes to one are not seen by the other."""
        if any(self._layers):
            raise LocalError("a state with unflushed writes cannot be forked")
        view = copy.copy(self)  # what was read is shared as long as both are of this root
        view._layers = [{}]
        return view

    def get(self, table: Table[R], *parts: str) -> R | None:
        """A record, with all writes so far; None if there is none."""
        place = (table, parts)
        for layer in reversed(self._layers):
            if place in layer:
                return cast("R | None", layer[place])
        if place in self._read:
            return cast("R | None", self._read[place])
        trie = self._tries.get(table.namespace)
        value = None if trie is None else trie.get(table.key(*parts))
        found = None if value is None else record.structure(value, table.record)
        if len(self._read) >= READ_RECORDS_MAX:
            self._read.clear()
        self._read[place] = found
        return found

    def need(self, table: Table[R], *parts: str) -> R:
        """A record that every sound state has; raises ChainError without it."""
        found = self.get(table, *parts)
        if found is None:
            raise ChainError(0, "state", f"{table.key(*parts)!r} is missing under {self._root}")
        return found

    def put(self, table: Table[R], value: R, *parts: str) -> None:
        """Write a record."""
        self._layers[-1][table, parts] = value

    def delete(self, table: Table[Any], *parts: str) -> None:
        """Delete a record, if there is one."""
        self._layers[-1][table, parts] = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Writes inside are kept if the block ends normally and dropped if it raises; may be nested."""
        self._layers.append({})
        try:
            yield
        except BaseException:
            self._layers.pop()
            raise
        self._layers[-2].update(self._layers.pop())

    def flush(self) -> tuple[Cid, Blobs]:
        """Write everything into the tries; returns the new root and the new blobs, which this object does not store.

        Raises LocalError inside a transaction or when a key or value is beyond its bound.
        """
        if len(self._layers) != 1:
            raise LocalError("flush inside a transaction")
        changes: dict[Label, dict[bytes, cbor.Value | None]] = {}
        for (table, parts), value in self._layers[0].items():
            unstructured = None if value is None else record.unstructure(value)
            changes.setdefault(table.namespace, {})[table.key(*parts)] = unstructured
        blobs: Blobs = {}
        roots = dict(self._roots)
        for namespace, writes in changes.items():
            trie = self._tries.get(namespace) or Trie(None, self._nodes)
            roots[namespace], new = trie.update(writes).flush()
            blobs.update(new)
        if roots != self._roots:
            state_root = _state_root(roots)
            data = record.to_bytes(state_root)
            blobs[cid_of(data).digest] = data
            self._open(cid_of(data), state_root)
        known = {**self._read, **self._layers[0]}
        self._read = known if len(known) <= READ_RECORDS_MAX else {}  # forks go on reading the state before
        self._layers[0] = {}
        return self._root, blobs

    def value(self, namespace: Label, key: bytes) -> cbor.Value | None:
        """The stored value under a raw key as of the last flush; None if there is none."""
        trie = self._tries.get(namespace)
        return None if trie is None else trie.get(key)

    def items(self, namespace: Label) -> Iterator[tuple[bytes, cbor.Value]]:
        """Every key and value of a namespace as of the last flush, in the trie's order."""
        trie = self._tries.get(namespace)
        return iter(()) if trie is None else trie.items()

    def rows(self, table: Table[R], parts: int) -> Iterator[tuple[tuple[str, ...], R]]:
        """Every entry of a table whose keys have ``parts`` parts, as of the last flush; walks the namespace."""
        for key, value in self.items(table.namespace):
            names = table.parts(key, parts)
            if names is not None:
                yield names, record.structure(value, table.record)

    def prove(self, namespace: Label, key: bytes) -> StateProof:
        """Proof of what ``key`` holds as of the last flush."""
        state_root = self._nodes.blob(self._root.digest)
        root = self._roots.get(namespace)
        if root is None:
            return StateProof(state_root, ())
        return StateProof(state_root, prove(root, key, self._nodes.blob).nodes)

    @property
    def world(self) -> WorldRecord:
        """The world's constants."""
        return self.need(WORLD)

    @property
    def clock(self) -> ClockRecord:
        """Height, time and last event of this state."""
        return self.need(CLOCK)

    @property
    def validators_hash(self) -> Hash32:
        """Hash of the validator set that decides the height after this state."""
        return _set_hash(self.need(VALIDATORS))

    def _open(self, state_root: Cid, content: StateRoot) -> None:
        self._root = state_root
        self._roots = {entry.name: entry.root for entry in content.namespaces}
        self._tries = {name: Trie(root, self._nodes) for name, root in self._roots.items()}


@functools.lru_cache(maxsize=SET_HASHES_MAX)
def _set_hash(validators: ValidatorSetRecord) -> Hash32:
    return hash32(record.to_bytes(validators))


def _state_root(roots: Mapping[Label, Cid]) -> StateRoot:
    return StateRoot(namespaces=tuple(NamespaceRoot(name=name, root=roots[name]) for name in sorted(roots)))


def empty_state(namespaces: Sequence[Label]) -> tuple[Cid, Blobs]:
    """State root and blobs of a state that has these namespaces and nothing in them."""
    return state_of({namespace: {} for namespace in namespaces})


def state_of(values: Mapping[Label, Mapping[bytes, cbor.Value | None]]) -> tuple[Cid, Blobs]:
    """State root and blobs of the state that has exactly these entries; raises LocalError as ``Trie.update``."""
    blobs: Blobs = {}
    roots = {}
    for namespace, entries in values.items():
        roots[namespace], nodes = Trie(None, NodeCache(_nothing_stored)).update(entries).flush()
        blobs.update(nodes)
    data = record.to_bytes(_state_root(roots))
    blobs[cid_of(data).digest] = data
    return cid_of(data), blobs


def _nothing_stored(content_hash: ContentHash) -> bytes:
    raise BlobNotFound(content_hash.hex())


@functools.lru_cache(maxsize=STATE_ROOTS_CACHED_MAX)
def read_state_root(data: bytes) -> StateRoot:
    """A stored StateRoot; raises DecodeError (T6: namespaces do not ascend)."""
    content = record.from_bytes(StateRoot, data, size_max=BLOB_BYTES_MAX)
    names = [entry.name for entry in content.namespaces]
    if any(first >= second for first, second in itertools.pairwise(names)):
        raise DecodeError("T6", "the namespaces of a state root do not ascend")
    return content


def verify_state_proof(state_root: Cid, namespace: Label, key: bytes, proof: StateProof) -> bytes | None:
    """The encoded value of a key under a trusted state root, None if it has none; raises DecodeError."""
    try:
        verify_blob(proof.state_root, state_root.digest)
    except BlobHashMismatch as error:
        raise DecodeError("T5", f"the proof is of another state: {error}") from None
    for entry in read_state_root(proof.state_root).namespaces:
        if entry.name == namespace:
            return verify_proof(entry.root, key, Proof(proof.nodes))
    if proof.nodes:
        raise DecodeError("T5", "the proof holds more nodes than the path needs")
    return None

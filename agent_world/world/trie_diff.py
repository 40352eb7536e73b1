"""What changed between two roots, found by walking only the nodes that differ (D6)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from agent_world.wire import cbor
from agent_world.wire.cid import Cid
from agent_world.world.trie import NodeCache, NodeSource, entries_below, is_same
from agent_world.world.trie_node import BIT_WIDTH, Bucket, Node


@attrs.frozen(slots=True)
class Change:
    """A key whose value differs; None where it has none."""

    key: bytes
    before: cbor.Value | None
    after: cbor.Value | None


def diff(before: Cid, after: Cid, source: NodeSource | NodeCache) -> Iterator[Change]:
    """The keys that differ, in the order of ``Trie.items``. Raises what ``Trie.get`` raises."""
    nodes = source if isinstance(source, NodeCache) else NodeCache(source)
    for change in _elements(nodes, (before, after), 0, 0):
        yield Change(change.key, nodes.value(change.before), nodes.value(change.after))


def _elements(
    nodes: NodeCache, pair: tuple[Bucket | Cid | Node | None, Bucket | Cid | Node | None], level: int, prefix: int
) -> Iterator[Change]:
    before, after = pair
    if before == after and isinstance(before, Cid):
        return
    if isinstance(before, Cid) and isinstance(after, Cid):
        old, new = nodes.node(before, level, prefix), nodes.node(after, level, prefix)
        slots_old, slots_new = old.by_slot(), new.by_slot()
        for slot in sorted(slots_old.keys() | slots_new.keys()):
            below = slots_old.get(slot), slots_new.get(slot)
            yield from _elements(nodes, below, level + 1, prefix << BIT_WIDTH | slot)
        return
    # A bucket or nothing on one side: at most three entries there, so the other side differs almost throughout.
    entries_old = dict(entries_below(nodes, before, level, prefix))
    entries_new = dict(entries_below(nodes, after, level, prefix))
    for key in {**entries_old, **entries_new}:
        old_value, new_value = entries_old.get(key), entries_new.get(key)
        if old_value is None or new_value is None or not is_same(old_value, new_value):
            yield Change(key, old_value, new_value)

"""node/challenge_draw.py: lists of a block at once, content of its objects once it had the time to be fetched."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

from agent_world.crypto.hashing import cid_of
from agent_world.node.challenge_draw import ContentDraw
from agent_world.sync.keepers import Keepers
from agent_world.wire.cid import Cid
from agent_world.wire.ids import PeerId

NOW_MS, SETTLE_MS = 1_000_000, 60_000
CHAIN = [cid_of(name) for name in (b"actions", b"receipts", b"journal")]
HELD, MISSING = cid_of(b"held"), cid_of(b"missing")


def draw_from(block_ms: int | None) -> set[tuple[Cid, bool] | None]:
    """All that is drawn in a world of one block of that time; None: that is not here."""
    header = SimpleNamespace(
        timestamp_ms=block_ms,
        action_root=CHAIN[0],
        receipts_root=CHAIN[1],
        journal_ref=CHAIN[2],
        state_root=cid_of(b"s"),
    )
    ledger: Any = SimpleNamespace(
        height=1,
        stored=lambda _height: None if block_ms is None else SimpleNamespace(header=header),
        stated_sizes=lambda _height: {HELD: 1, MISSING: 1},
    )
    blobs: Any = SimpleNamespace(has_many=lambda digests: frozenset(digests) & {HELD.digest})
    clock: Any = SimpleNamespace(wall_ms=lambda: NOW_MS)
    draw = ContentDraw(ledger, blobs, Keepers(), clock, lambda _wanted: [], settle_ms=SETTLE_MS)
    random = Random(1)
    return {draw.content(PeerId("target"), None, random) for _ in range(100)}


def test_content_of_objects_is_drawn_from_its_settling_on() -> None:
    lists = {(cid, True) for cid in CHAIN}
    assert draw_from(NOW_MS) == draw_from(NOW_MS - SETTLE_MS + 1) == lists
    assert draw_from(NOW_MS - SETTLE_MS) == {*lists, (HELD, False)}


def test_nothing_is_drawn_where_no_block_is_left() -> None:
    assert draw_from(None) == {None}

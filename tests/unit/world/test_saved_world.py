from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_world.errors import ChainError, DataError
from agent_world.testing.node_swarm import make_genesis
from agent_world.testing.stack import make_key
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import U64, Label
from agent_world.wire.limits import CHUNK_BYTES
from agent_world.world.genesis import genesis_hash, initial_state
from agent_world.world.journal import event_root
from agent_world.world.records import RULES, SYSTEM
from agent_world.world.saved_world import (
    Entry,
    SavedHead,
    check_world,
    head_json,
    pack_state,
    parse_head,
    parse_journal,
    parse_snapshot,
    rebuild_state,
    snapshot_lines,
    state_entries,
    unpack_state,
)
from agent_world.world.state import WorldState, state_of
from agent_world.world.trie import Blobs

GENESIS = make_genesis(make_key("authority"), {"v1": make_key("v1")})
GENESIS_ROOT, GENESIS_BLOBS = initial_state(GENESIS)


def world_with(extra: dict[bytes, object]) -> tuple[SavedHead, Blobs]:
    """The state of genesis with more entries in the namespace of the rules, as a saved world without events."""
    state = WorldState(GENESIS_ROOT, lambda digest: GENESIS_BLOBS[digest])
    root, blobs = state_of({SYSTEM: dict(state.items(SYSTEM)), RULES: {**dict(state.items(RULES)), **extra}})  # type: ignore[dict-item]
    head = SavedHead(
        world_id=GENESIS.world_id,
        genesis_hash=genesis_hash(GENESIS),
        height=U64(0),
        block_hash=genesis_hash(GENESIS),
        state_root=root,
        first_event_id=U64(0),
        events=U64(0),
        event_root=event_root(()),
    )
    return head, blobs


def opened(head: SavedHead, blobs: Blobs) -> WorldState:
    return WorldState(head.state_root, lambda digest: blobs[digest])


values = st.dictionaries(st.binary(min_size=1, max_size=12), st.binary(max_size=4_000) | st.integers(0, 2**64 - 1))


@given(values)
def test_both_forms_give_the_state_back(extra: dict[bytes, object]) -> None:
    head, blobs = world_with(extra)
    found_head, entries = parse_snapshot("".join(snapshot_lines(head, opened(head, blobs))), "snapshot.json")
    assert found_head == head
    assert rebuild_state(head, reversed(entries)) == blobs
    stored: Blobs = {}
    packs, loose = [], []
    for part, data, is_pack in pack_state(head.state_root, lambda digest: blobs[digest]):
        stored[part.content.digest] = data
        (packs if is_pack else loose).append(part)
    assert unpack_state(head, packs, loose, lambda digest: stored[digest]) == blobs
    check_world(head, blobs, ())


def test_a_value_larger_than_a_pack_is_kept_beside_the_packs() -> None:
    head, blobs = world_with({b"large": bytes(CHUNK_BYTES)})
    parts = list(pack_state(head.state_root, lambda digest: blobs[digest]))
    assert [is_pack for _part, _data, is_pack in parts] == [True, False]
    stored = {part.content.digest: data for part, data, _ in parts}
    assert unpack_state(head, [parts[0][0]], [parts[1][0]], lambda digest: stored[digest]) == blobs


@pytest.mark.parametrize("change", ["value", "key", "twice", "namespace", "missing"])
def test_other_entries_are_another_state(change: str) -> None:
    head, blobs = world_with({b"a": 1})
    entries: list[Entry] = list(state_entries(opened(head, blobs)))
    place = next(number for number, entry in enumerate(entries) if entry[1] == b"a")
    namespace, key, value = entries[place]
    entries[place : place + 1] = {
        "value": [(namespace, key, b"\x02")],
        "key": [(namespace, b"b", value)],
        "twice": [(namespace, key, value)] * 2,
        "namespace": [(Label("other"), key, value)],
        "missing": [],
    }[change]
    with pytest.raises(ChainError):
        rebuild_state(head, entries)


def test_parts_that_do_not_fit_the_head_are_refused() -> None:
    head, blobs = world_with({b"a": 1})
    digest = next(iter(blobs))
    other = {**blobs, ContentHash(bytes(32)): b""}
    with pytest.raises(ChainError, match="hash"):
        check_world(head, other, ())
    with pytest.raises(ChainError, match="missing"):
        check_world(head, {key: data for key, data in blobs.items() if key != digest}, ())
    spare = world_with({b"b": 2})[1]
    with pytest.raises(ChainError, match="not of this state"):
        check_world(head, {**spare, **blobs}, ())
    for wrong in (
        attrs.evolve(head, height=U64(1)), attrs.evolve(head, world_id="other"), attrs.evolve(head, events=U64(1)),
        attrs.evolve(head, first_event_id=U64(1)), attrs.evolve(head, event_root=head.block_hash),
    ):  # fmt: skip
        with pytest.raises(ChainError):
            check_world(wrong, blobs, ())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2), ("version", True), ("height", -1), ("height", "1"), ("height", True), ("block_hash", "ab"),
        ("block_hash", "AB" * 32), ("state_root", "bafy"), ("state_root", None), ("events", 2**64), ("genesis_hash", 5),
    ],
)  # fmt: skip
def test_a_head_that_is_none_is_refused(field: str, value: object) -> None:
    shown = head_json(world_with({})[0])
    assert parse_head(shown, "x") == world_with({})[0]
    with pytest.raises(DataError, match="x: "):
        parse_head({**shown, field: value}, "x")
    if field != "version":
        del shown[field]
        with pytest.raises(DataError, match="x: "):
            parse_head(shown, "x")


@given(st.text() | st.sampled_from(["[]", "{}", "null", '{"version":1}', '{"version":1,"entries":[]}']))
def test_any_text_is_refused_with_a_typed_error(text: str) -> None:
    for parse in (parse_snapshot, parse_journal):
        with pytest.raises(DataError):
            parse(text, "x.json")

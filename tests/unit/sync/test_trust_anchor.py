from __future__ import annotations

import json

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.crypto.hashing import hash32
from agent_world.errors import UsageError
from agent_world.sync.trust_anchor import (
    ANCHOR_CHARS_MAX,
    TrustAnchor,
    anchor_text,
    parse_anchor,
    parse_given,
    trust_anchor,
)
from agent_world.testing.certified_chain import EPOCH_HEIGHTS, CertifiedChain, set_of_epoch
from agent_world.wire import record
from agent_world.wire.ids import WorldId

CHAIN = CertifiedChain(2 * EPOCH_HEIGHTS)
LINK = CHAIN.links[EPOCH_HEIGHTS - 1]
ANCHOR = TrustAnchor(
    world_id=CHAIN.genesis.world_id,
    genesis_hash=CHAIN.genesis_hash,
    block_hash=hash32(LINK.data),
    height=EPOCH_HEIGHTS,
    state_root=str(LINK.header.state_root),
    block=LINK.data,
    validators=record.to_bytes(LINK.coming),
)
TEXT = anchor_text(ANCHOR)
WORLD, GENESIS = ANCHOR.world_id, ANCHOR.genesis_hash


def test_an_anchor_comes_back_from_its_file_and_is_a_trusted_head() -> None:
    assert parse_anchor(TEXT, "x") == ANCHOR
    head = trust_anchor(ANCHOR, WORLD, GENESIS, "x")
    assert (head.height, head.block_hash, head.validators.record) == (3, ANCHOR.block_hash, set_of_epoch(1))


@pytest.mark.parametrize(("changes", "words"), [
    ({"world_id": WorldId("w2")}, "of world 'w2'"),
    ({"genesis_hash": hash32(b"x")}, "with genesis"),
    ({"block_hash": hash32(b"x")}, "do not fit"),
    ({"block": CHAIN.links[0].data}, "do not fit"),
    ({"block": b"\xa0"}, "do not fit"),
    ({"validators": record.to_bytes(set_of_epoch(0))}, "do not fit"),
    ({"validators": b""}, "do not fit"),
    ({"height": 4}, "of height 3, not 4"),
])  # fmt: skip
def test_an_anchor_whose_parts_do_not_fit_is_not_trusted(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        trust_anchor(attrs.evolve(ANCHOR, **changes), WORLD, GENESIS, "x")


def test_what_is_given_by_hand() -> None:
    assert parse_given(f"7:{'ab' * 32}") == (7, bytes.fromhex("ab" * 32))


@pytest.mark.parametrize("text", [
    "", "7", f":{'ab' * 32}", f"7:{'AB' * 32}", f"7:{'ab' * 31}", f"-7:{'ab' * 32}", f"{2**64}:{'ab' * 32}",
    f"7:{'ab' * 32}\n", f"٧:{'ab' * 32}",
])  # fmt: skip
def test_what_is_not_a_height_and_a_hash(text: str) -> None:
    with pytest.raises(UsageError, match="--trust"):
        parse_given(text)


FIELDS = json.loads(TEXT)


@pytest.mark.parametrize("text", [
    "", "{", "[]", "7", "null", "[" * 100_000, "{}", json.dumps({**FIELDS, "more": 1}), " " * (ANCHOR_CHARS_MAX + 1),
    *(json.dumps({name: value for name, value in FIELDS.items() if name != missing}) for missing in FIELDS),
    *(json.dumps({**FIELDS, name: wrong}) for name in FIELDS for wrong in (None, True, -1, 0.5, [])),
    *(json.dumps({**FIELDS, name: "A" * 64}) for name in FIELDS if name not in ("world_id", "state_root")),
])  # fmt: skip
def test_what_is_not_an_anchor(text: str) -> None:
    with pytest.raises(UsageError, match="x: "):
        parse_anchor(text, "x")


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_whatever_the_file_holds_it_is_an_anchor_or_a_usage_error(data: st.DataObject) -> None:
    text = TEXT
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 40))
        text = (
            text[:place]
            + data.draw(st.text(max_size=4) | st.sampled_from(["{", "}", '"', "0", "9" * 30]))
            + text[place + cut :]
        )
    try:
        found = parse_anchor(text, "x")
        trust_anchor(found, WORLD, GENESIS, "x")
    except UsageError:
        return
    assert attrs.evolve(found, state_root=ANCHOR.state_root) == ANCHOR, "nothing but the right parts fit the hashes"

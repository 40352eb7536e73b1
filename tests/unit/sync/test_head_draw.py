from agent_world.crypto.hashing import hash32
from agent_world.sync.head_draw import DRAWN, drawn
from agent_world.wire.ids import PublicKey

GENESIS = hash32(b"genesis")
KEYS = [PublicKey(hash32(bytes([number]))) for number in range(10)]


def test_everybody_draws_the_same_few() -> None:
    assert len(drawn(GENESIS, 7, KEYS)) == DRAWN
    assert drawn(GENESIS, 7, reversed(KEYS)) == drawn(GENESIS, 7, KEYS)
    assert drawn(GENESIS, 7, KEYS[:2]) == frozenset(KEYS[:2])
    assert drawn(GENESIS, 7, []) == frozenset()


def test_the_turn_goes_round() -> None:
    turns = [drawn(GENESIS, height, KEYS) for height in range(200)]
    for key in KEYS:
        assert 30 <= sum(key in turn for turn in turns) <= 90
    assert drawn(hash32(b"other"), 7, KEYS) != drawn(GENESIS, 7, KEYS)


def test_the_draw_is_what_the_protocol_says() -> None:
    lowest = min(KEYS, key=lambda key: hash32(GENESIS + (7).to_bytes(8, "big") + key))
    assert lowest in drawn(GENESIS, 7, KEYS)

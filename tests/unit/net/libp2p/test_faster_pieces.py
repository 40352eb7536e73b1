import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.net.libp2p.faster.pieces import Pieces

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("extend"), st.binary(max_size=20)),
        st.tuples(st.sampled_from(["take", "slice", "delete"]), st.integers(0, 25)),
        st.tuples(st.just("clear"), st.just(0)),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=200)
@given(STEPS)
def test_it_is_a_bytearray_to_the_library(steps: list[tuple[str, bytes | int]]) -> None:
    pieces, plain = Pieces(b"begin"), bytearray(b"begin")
    for step, value in steps:
        if isinstance(value, bytes):
            pieces.extend(value)
            plain.extend(value)
        elif step == "take":
            taken = pieces.take(value)
            assert bytes(taken) == plain[: len(taken)]
            assert bool(taken) == bool(value and plain)
            del plain[: len(taken)]
        elif step == "slice":
            assert bytes(pieces[:value]) == plain[:value]
        elif step == "delete":
            del pieces[:value]
            del plain[:value]
        else:
            pieces.clear()
            plain.clear()
        assert (len(pieces), bytes(pieces), bool(pieces)) == (len(plain), bytes(plain), bool(plain))


@pytest.mark.parametrize("part", [slice(1, 3), slice(0, 3, 2)])
def test_other_parts_are_refused(part: slice) -> None:
    pieces = Pieces(b"begin")
    with pytest.raises(IndexError):
        pieces[part]
    with pytest.raises(IndexError):
        del pieces[part]


def test_a_piece_is_handed_on_as_it_came() -> None:
    piece = bytes(1_000)
    pieces = Pieces()
    pieces.extend(piece)
    assert pieces.take(2_000) is piece

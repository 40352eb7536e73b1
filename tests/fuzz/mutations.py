"""Valid bytes with a few edits: they find most, since they get past the first checks."""

from __future__ import annotations

from hypothesis import strategies as st


@st.composite
def mutated(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """One to four edits of valid bytes: a bit, a byte, a cut, a piece doubled, inserted bytes, two of them joined."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("bit", "byte", "cut", "double", "insert", "join"))):
            case "bit" if place < len(data):
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "byte" if place < len(data):
                data[place] = draw(st.sampled_from((0x00, 0x18, 0x1B, 0x5F, 0x7F, 0x9F, 0xBF, 0xD8, 0xF6, 0xF9, 0xFF)))
            case "cut":
                del data[place : place + draw(st.integers(1, 40))]
            case "double":
                data[place:place] = data[place : place + draw(st.integers(1, 40))]
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=9))
            case _:
                data[place:] = draw(st.sampled_from(originals))[place:]
    return bytes(data)

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_world.cli.printable import printable, say


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("naïve 文.txt", "naïve 文.txt"),
        ("a\\b", "a\\b"),
        ("red\x1b[31m", "red\\x1b[31m"),
        ("one\ntwo\r", "one\\ntwo\\r"),
        ("\x9b2J", "\\x9b2J"),
        ("txt.\u202eexe", "txt.\\u202eexe"),
        ("half \udcff", "half \\udcff"),
        ("", ""),
    ],
)
def test_what_drives_a_terminal_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(alphabet=st.characters()))
def test_any_text_is_one_line_of_signs(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)


def test_a_line_goes_where_it_should(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1bb")
    say("c\nd", err=True)
    assert capsys.readouterr() == ("a\\x1bb\n", "c\\nd\n")

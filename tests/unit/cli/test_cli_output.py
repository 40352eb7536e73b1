from __future__ import annotations

import json
from typing import Any

import pytest

from agent_world.cli.output import flatten, show, show_rows, text_of
from agent_world.crypto.hashing import cid_of


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (True, "True"), (0, "0"), ("", ""), ([], "[]"), ({"a": 1}, '{"a": 1}'), ("x", "x")],
)
def test_cells(value: Any, text: str) -> None:
    assert text_of(value) == text


def test_nested_mappings_become_dotted_keys_in_order() -> None:
    assert flatten({"b": {"y": 1, "x": {"z": None}}, "a": {}}) == [("b.y", "1"), ("b.x.z", "-"), ("a", "{}")]


def test_json_has_hashes_as_hex_and_links_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    link = cid_of(b"")
    show({"hash": b"\xab", "link": link, "rows": ({"n": 2**64 - 1},)}, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"hash": "ab", "link": str(link), "rows": [{"n": 2**64 - 1}]}
    show_rows([{"a": b"\x00"}], ("a",), as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"a": "00"}]


def test_tables_show_what_is_missing_as_a_dash_and_markup_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([{"a": "[red]x"}, {"b": 2}], ("a", "b"), as_json=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["a", "b"], ["[red]x", "-"], ["-", "2"]]


def test_tables_show_what_drives_a_terminal_as_an_escape(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([{"path": "a\x1b[2Jb\nc"}], ("path",), as_json=False)
    show({"na\x1bme": "va\x07lue"}, as_json=False)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["path"], ["a\\x1b[2Jb\\nc"], ["na\\x1bme", "va\\x07lue"],
    ]  # fmt: skip

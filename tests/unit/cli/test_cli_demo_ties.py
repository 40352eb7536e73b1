from __future__ import annotations

from pathlib import Path

import pytest

from agent_world.cli.demo_ties import PURSE, Tie, characters, final_balances, read_ties, ties_file
from agent_world.errors import UsageError


def test_the_data_file_is_what_the_demo_says() -> None:
    ties = read_ties(ties_file())
    assert (len(characters(ties)), sum(tie.weight for tie in ties)) == (77, 820)
    spent = {name: sum(tie.weight for tie in ties if tie.payer == name) for name in characters(ties)}
    assert max(spent.values()) <= PURSE


def test_balances_by_plain_calculation() -> None:
    ties = [Tie("a", "b", 3), Tie("b", "c", 1)]
    assert characters(ties) == ["a", "b", "c"]
    assert final_balances(ties) == {"a": PURSE - 3, "b": PURSE + 2, "c": PURSE + 1}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", ":1"),
        ("payer,payee\n", ":1"),
        ("payer,payee,weight\na,b,0\n", ":2"),
        ("payer,payee,weight\na,b,1\na,b,x\n", ":3"),
        ("payer,payee,weight\na,a,1\n", ":2"),
        ("payer,payee,weight\na,b\n", ":2"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, place: str) -> None:
    file = tmp_path / "ties.csv"
    file.write_text(text)
    with pytest.raises(UsageError, match=f"ties.csv{place}"):
        read_ties(file)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_ties(tmp_path / "nothing.csv")

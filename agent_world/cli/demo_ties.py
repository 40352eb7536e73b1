"""The demo's input: who pays whom in the co-appearance network of Les Misérables, and what must come out of it.

``final_balances`` is a plain calculation from the data file; it knows nothing of the world's code.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Final

import attrs

from agent_world.errors import UsageError

PURSE: Final = 200
"""Units every character is granted; the most any of them pays is 158 (Valjean)."""
_IN_CHECKOUT: Final = Path(__file__).parents[2] / "examples" / "les_miserables" / "ties.csv"
_IN_PACKAGE: Final = Path(__file__).parent / "les_miserables.csv"


@attrs.frozen(slots=True)
class Tie:
    """``weight`` single units that ``payer`` pays to ``payee``."""

    payer: str
    payee: str
    weight: int


def ties_file() -> Path:
    """The data file, in a checkout or in an installed package."""
    return _IN_CHECKOUT if _IN_CHECKOUT.is_file() else _IN_PACKAGE


def read_ties(path: Path) -> list[Tie]:
    """Rows payer,payee,weight under that header; raises UsageError naming the line."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from None
    if not rows or rows[0] != ["payer", "payee", "weight"]:
        raise UsageError(f"{path}:1: expected the header payer,payee,weight")
    ties = []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != 3 or not row[2].isdigit() or int(row[2]) < 1 or row[0] == row[1]:
            raise UsageError(f"{path}:{number}: expected two names and a weight of 1 or more")
        ties.append(Tie(row[0], row[1], int(row[2])))
    return ties


def characters(ties: list[Tie]) -> list[str]:
    """Everybody who is in a tie, by name."""
    return sorted({name for tie in ties for name in (tie.payer, tie.payee)})


def final_balances(ties: list[Tie]) -> dict[str, int]:
    """What everybody must own in the end: the purse, less what was paid, plus what was got."""
    balance = Counter(dict.fromkeys(characters(ties), PURSE))
    for tie in ties:
        balance[tie.payer] -= tie.weight
        balance[tie.payee] += tie.weight
    return dict(balance)

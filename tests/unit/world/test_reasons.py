from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent_world.wire.ids import check_label
from agent_world.world import reasons
from agent_world.world.reasons import OK, REASONS, TOO_FAST, RuleRefusal, refuse_unless

RULES = Path(reasons.__file__).parent / "rules"


def test_every_code_is_a_label_with_a_meaning() -> None:
    for code, meaning in REASONS.items():
        assert check_label(code) == code
        assert meaning


def test_every_code_but_ok_is_given_by_a_rule() -> None:
    source = "".join(path.read_text() for path in RULES.glob("*.py"))
    names = {name for name, value in vars(reasons).items() if isinstance(value, str) and value in REASONS}
    assert {name for name in names if re.search(rf"\b{name}\b", source)} == names - {"OK"}


def test_refuse_unless() -> None:
    refuse_unless(True, TOO_FAST)
    with pytest.raises(RuleRefusal, match="speed limit") as caught:
        refuse_unless(False, TOO_FAST)
    assert caught.value.code == TOO_FAST != OK

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent_world.consensus.set_change import Unfit
from agent_world.sequencer import lease
from agent_world.wire.ids import check_label
from agent_world.world import reasons
from agent_world.world.reasons import OK, REASONS, TOO_FAST, RuleRefusal, refuse_unless

RULES = Path(reasons.__file__).parent / "rules"


def test_every_code_is_a_label_with_a_meaning() -> None:
    for code, meaning in REASONS.items():
        assert check_label(code) == code
        assert meaning


def test_every_code_but_ok_is_given_by_a_rule() -> None:
    source = "".join(path.read_text() for path in (*RULES.glob("*.py"), RULES.with_name("epochs.py")))
    names = {name for name, value in vars(reasons).items() if isinstance(value, str) and value in REASONS}
    assert {name for name in names if re.search(rf"\b{name}\b", source)} | {"OK"} == names


def test_every_word_of_the_pure_cores_is_a_code() -> None:
    words = {str(why) for why in Unfit}
    words |= {value for name, value in vars(lease).items() if name.isupper() and isinstance(value, str)}
    assert words <= REASONS.keys()


def test_refuse_unless() -> None:
    refuse_unless(True, TOO_FAST)
    with pytest.raises(RuleRefusal, match="speed limit") as caught:
        refuse_unless(False, TOO_FAST)
    assert caught.value.code == TOO_FAST != OK

from __future__ import annotations

from typing import get_args

from agent_world.consensus import events


def test_every_effect_and_input_is_frozen_and_explained() -> None:
    for kind in (*get_args(events.Input), *get_args(events.Effect)):
        assert kind.__doc__, kind
        assert kind.__setattr__ is not object.__setattr__, kind


def test_effects_compare_by_value() -> None:
    assert events.Dropped(events.Drop.DUPLICATE) == events.Dropped(events.Drop.DUPLICATE, "")
    assert events.BuildBlock(1, 0, 1) != events.BuildBlock(1, 1, 2)

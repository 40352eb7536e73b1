from __future__ import annotations

import inspect

from agent_world.wire.ids import check_label
from agent_world.world import events
from agent_world.world.events import EVENTS, KIND_OF


def test_every_event_record_has_one_kind() -> None:
    records = {item for _, item in inspect.getmembers(events, inspect.isclass) if item.__module__ == events.__name__}
    assert set(EVENTS.values()) == records
    assert {kind: record for record, kind in KIND_OF.items()} == EVENTS
    assert all(check_label(kind) == kind for kind in EVENTS)


def test_a_record_says_its_kind() -> None:
    for kind, record in EVENTS.items():
        assert str(record.__doc__).startswith(f"{kind}: ")

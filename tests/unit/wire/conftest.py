"""What every record of wire/ must do, as one fixture that the test of each module calls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings

from agent_world.errors import DecodeError
from agent_world.testing.broken import broken_copies
from agent_world.testing.record_catalogue import size_max_of
from agent_world.testing.record_strategies import records
from agent_world.wire import record


def check_record(kind: type) -> None:
    """Round trip over the whole range of every field; each broken copy fails with the rule that it breaks."""
    size_max = size_max_of(kind.__name__)

    @settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck), database=None)
    @given(records(kind))
    def round_trip(item: object) -> None:
        data = record.to_bytes(item)
        assert record.from_bytes(kind, data, size_max=size_max) == item
        assert record.to_bytes(record.from_bytes(kind, data, size_max=size_max)) == data

    round_trip()
    for what, data, rule in broken_copies(kind):
        with pytest.raises(DecodeError) as refused:
            record.from_bytes(kind, data, size_max=size_max)
        assert refused.value.rule == rule, f"{kind.__name__}, {what}: {refused.value}"


@pytest.fixture(name="check_record")
def check_record_fixture() -> Callable[[type], None]:
    return check_record

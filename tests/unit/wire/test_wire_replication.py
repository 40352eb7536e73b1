from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from agent_world.wire import replication

KINDS = [
    kind
    for kind in vars(replication).values()
    if isinstance(kind, type) and attrs.has(kind) and kind.__module__ == replication.__name__
]


@pytest.mark.parametrize("kind", KINDS)
def test_records(kind: type, check_record: Callable[[type], None]) -> None:
    check_record(kind)


def test_every_record_is_checked() -> None:
    assert len(KINDS) == 7

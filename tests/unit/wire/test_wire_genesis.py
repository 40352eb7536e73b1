"""wire/genesis.py: what the nodes of a world agree on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent_world.testing.examples import example
from agent_world.wire import record
from agent_world.wire.genesis import Genesis, WorldParams


@pytest.mark.parametrize("kind", [Genesis, WorldParams])
def test_records(kind: type, check_record: Callable[[type], None]) -> None:
    check_record(kind)


def test_every_part_of_the_genesis_changes_its_bytes() -> None:
    genesis = example(Genesis, "typical")
    value = record.unstructure(genesis)
    others = record.unstructure(example(Genesis, "highest")) | {"slash_equivocation": False}
    for field in value.keys() - {"v"}:
        assert record.to_bytes(record.structure({**value, field: others[field]}, Genesis)) != record.to_bytes(genesis)

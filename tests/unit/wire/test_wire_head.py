"""wire/head.py: the head and its proof."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent_world.errors import DecodeError
from agent_world.testing.examples import example
from agent_world.wire import limits, record
from agent_world.wire.head import CertifiedHead, GetWorldHeadRequest, WorldHead


@pytest.mark.parametrize("kind", [CertifiedHead, GetWorldHeadRequest, WorldHead])
def test_records(kind: type, check_record: Callable[[type], None]) -> None:
    check_record(kind)


def test_a_head_without_blocks_has_an_empty_proof() -> None:
    head = example(WorldHead, "lowest")
    assert head.height == 0
    data = record.to_bytes(CertifiedHead(head=head, block=b"", certificate=b""))
    assert record.from_bytes(CertifiedHead, data, size_max=1000).head == head


def test_the_largest_head_fits_into_a_gossip_message() -> None:
    head = CertifiedHead(
        head=example(WorldHead, "highest"),
        block=bytes(limits.HEADER_BYTES_MAX),
        certificate=bytes(limits.CERTIFICATE_BYTES_MAX),
    )
    assert len(record.to_bytes(head)) < limits.GOSSIP_BYTES_MAX


def test_a_head_inside_another_record_is_checked_too() -> None:
    value = record.unstructure(example(CertifiedHead, "typical"))
    with pytest.raises(DecodeError) as refused:
        record.structure({**value, "head": {**value["head"], "v": 2}}, CertifiedHead)
    assert refused.value.rule == "D10"

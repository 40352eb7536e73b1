"""wire/submit.py: actions handed in."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent_world.errors import DecodeError
from agent_world.testing.examples import example
from agent_world.wire import limits, record
from agent_world.wire.submit import (
    GetActorRequest,
    GetActorResponse,
    GetReceiptRequest,
    GetReceiptResponse,
    SubmitActionRequest,
    SubmitActionResponse,
)


@pytest.mark.parametrize(
    "kind",
    [
        GetActorRequest,
        GetActorResponse,
        GetReceiptRequest,
        GetReceiptResponse,
        SubmitActionRequest,
        SubmitActionResponse,
    ],
)
def test_records(kind: type, check_record: Callable[[type], None]) -> None:
    check_record(kind)


def test_the_largest_action_fits_into_a_frame() -> None:
    request = SubmitActionRequest(action=bytes(limits.ENVELOPE_BYTES_MAX))
    assert len(record.to_bytes(request)) < limits.RPC_FRAME_BYTES_MAX


def test_a_receipt_is_checked_inside_its_answer() -> None:
    value = record.unstructure(example(GetReceiptResponse, "typical"))
    with pytest.raises(DecodeError) as refused:
        record.structure({**value, "receipt": {**value["receipt"], "outcome": "perhaps"}}, GetReceiptResponse)
    assert refused.value.rule == "D8"

"""Whatever bytes a peer sends as a bitswap message, or somebody stores as a dag-pb node: a value or a DecodeError."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import mutated

from agent_world.distfs.unixfs import links_of_node
from agent_world.errors import DecodeError
from agent_world.testing.vectors_bitswap import bitswap_message_vectors, chunks_of, unixfs_of
from agent_world.wire.bitswap import Want, open_answer, open_message, want_message
from agent_world.wire.limits import BITSWAP_MESSAGE_BYTES_MAX, BITSWAP_WANTS_MAX
from agent_world.wire.protobuf import octets

FUZZ = settings(deadline=None, max_examples=500, suppress_health_check=list(HealthCheck))
VALID = [bytes.fromhex(case["bytes"]) for case in bitswap_message_vectors()["cases"] if len(case["bytes"]) < 2_000]
NODE = unixfs_of(chunks_of(3, 4, 4))[-1][1]
DECODE_S_MAX = 2.0
"""For 1 MiB of the worst bytes known here; they take about 0.3 s."""


T = TypeVar("T")


def outcome(read: Callable[[bytes], T], data: bytes, rules: set[str]) -> T | None:
    """What was read; None for bytes that were refused in the right way."""
    try:
        return read(data)
    except DecodeError as error:
        refused = error
    assert refused.rule in rules
    assert len(str(refused)) < 200, "an error must not echo what a peer sent at length"
    return None


@FUZZ
@given(st.binary(max_size=200) | mutated(VALID))
def test_a_message_is_read_or_refused(data: bytes) -> None:
    message = outcome(open_message, data, {"X1", "X2"})
    if message is None:
        return
    assert len(message.wants) <= BITSWAP_WANTS_MAX
    again = open_message(want_message(message.wants, full=message.full))
    assert (again.wants, again.full) == (message.wants, message.full)
    for want in message.wants:
        assert want.digest is None or want.cid == want.prefix + want.digest


@FUZZ
@given(st.binary(max_size=200) | mutated(VALID))
def test_an_answer_is_read_or_refused(data: bytes) -> None:
    outcome(open_answer, data, {"X1"})


@FUZZ
@given(st.binary(max_size=200) | mutated([NODE]))
def test_a_node_is_read_or_refused(data: bytes) -> None:
    outcome(links_of_node, data, {"X5"})


def test_the_worst_messages_of_the_largest_size_take_no_longer_than_a_moment() -> None:
    size = BITSWAP_MESSAGE_BYTES_MAX
    worst = (
        octets(1, octets(1, b"") * (size // 2 - 10)),
        octets(1, octets(1, octets(1, b"x")) * (size // 5 - 10)),
        b"\x08\x00" * (size // 2),
        octets(1, b"\x10\x00" * (size // 2 - 10)),
        octets(3, b"") * (size // 2),
        want_message([Want(b"x")] * (size // 8)),
    )
    for data in worst:
        started = time.process_time()
        try:
            message = open_message(data)
        except DecodeError:
            pass
        else:
            assert len(message.wants) <= BITSWAP_WANTS_MAX
        assert time.process_time() - started < DECODE_S_MAX

"""wire/hello.py: who is at the other end."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from agent_world.testing.examples import example
from agent_world.wire import limits, record
from agent_world.wire.hello import Hello, PeerAddress, Role
from agent_world.wire.ids import PeerId


@pytest.mark.parametrize("kind", [Hello, PeerAddress])
def test_records(kind: type, check_record: Callable[[type], None]) -> None:
    check_record(kind)


def test_roles() -> None:
    assert [role.value for role in Role] == ["sequencer", "storage", "observer"]


def test_a_hello_of_the_largest_size_fits_into_a_request() -> None:
    peer = PeerAddress(peer_id=example(PeerId, "highest"), address="a" * limits.ADDRESS_CHARS_MAX, validator=True)
    hello = attrs.evolve(
        example(Hello, "highest"),
        listen=(peer.address,) * limits.HELLO_PEERS_MAX,
        peers=(peer,) * limits.HELLO_PEERS_MAX,
    )
    assert len(record.to_bytes(hello)) < limits.RPC_INLINE_BYTES_MAX

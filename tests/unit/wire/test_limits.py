"""wire/limits.py: the bounds fit into one another."""

from __future__ import annotations

from agent_world.wire import limits


def test_every_limit_is_a_positive_integer() -> None:
    names = [name for name in vars(limits) if name.isupper()]
    assert len(names) > 25
    for name in names:
        assert type(getattr(limits, name)) is int, name
        assert getattr(limits, name) > 0, name


def test_what_is_inside_is_smaller_than_what_is_around_it() -> None:
    assert limits.PAYLOAD_BYTES_MAX < limits.ENVELOPE_BYTES_MAX < limits.GOSSIP_BYTES_MAX
    assert limits.ENVELOPE_BYTES_MAX <= limits.BLOCK_ACTION_BYTES_MAX < limits.RANGE_BYTES_MAX
    assert limits.VOTE_BYTES_MAX < limits.PROPOSAL_BYTES_MAX < limits.GOSSIP_BYTES_MAX
    assert limits.CERTIFICATE_BYTES_MAX + limits.HEADER_BYTES_MAX < limits.GOSSIP_BYTES_MAX
    assert limits.RPC_INLINE_BYTES_MAX < limits.RPC_FRAME_BYTES_MAX < limits.RPC_BODY_BYTES_MAX
    assert limits.RANGE_BYTES_MAX < limits.RPC_BODY_BYTES_MAX
    assert limits.CHUNK_BYTES <= limits.BLOB_BYTES_MAX < limits.RPC_BODY_BYTES_MAX
    assert limits.STATE_VALUE_BYTES_MAX < limits.BLOB_BYTES_MAX


def test_names_of_64_characters_fit_into_a_state_key() -> None:
    assert 2 + 32 + limits.NAME_CHARS_MAX < limits.STATE_KEY_BYTES_MAX


def test_integer_bounds() -> None:
    assert limits.U64_MAX == 18_446_744_073_709_551_615
    assert limits.I64_MAX == 9_223_372_036_854_775_807

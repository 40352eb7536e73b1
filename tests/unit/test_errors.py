"""errors.py: whose fault it is, one exit code and one wire code a class."""

from __future__ import annotations

import pytest

from agent_world import errors
from agent_world.errors import AgentWorldError, ChainError, ErrorCode, Refused, RemoteError

CLASSES = [
    item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, AgentWorldError)
]  # fmt: skip

TABLE = {
    "ERR_NOT_FOUND": False,
    "ERR_BAD_REQUEST": False,
    "ERR_INVALID_HASH": False,
    "ERR_STATE_MISMATCH": False,
    "ERR_UNSUPPORTED": False,
    "ERR_UNAUTHORIZED": False,
    "ERR_BUSY": True,
    "ERR_RATE_LIMITED": True,
    "ERR_TIMEOUT": True,
    "ERR_NOT_AVAILABLE": True,
}
"""Source: the table of error codes in protocols/README.md."""


def test_t_1_3_the_full_table() -> None:
    assert {code.value: code.retryable for code in ErrorCode} == TABLE


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_has_its_codes(kind: type[AgentWorldError]) -> None:
    assert isinstance(kind.wire_code, ErrorCode)
    if kind is not Refused:
        assert kind.exit_code in {64, 65, 69, 70, 71, 74, 75, 76, 79}


@pytest.mark.parametrize("kind", CLASSES)
def test_the_tree_at_the_top_of_the_module_names_every_class(kind: type[AgentWorldError]) -> None:
    assert kind.__name__ in str(errors.__doc__)


def test_a_remote_error_names_its_rule() -> None:
    error = RemoteError("A3", "payload_hash")
    assert (error.rule, error.detail, str(error)) == ("A3", "payload_hash", "A3: payload_hash")


def test_a_chain_error_names_its_place() -> None:
    error = ChainError(7, "state_root", "differs")
    assert (error.height, error.what, error.detail) == (7, "state_root", "differs")
    assert str(error) == "height 7: state_root: differs"


@pytest.mark.parametrize("code", list(ErrorCode))
def test_a_refusal_is_retryable_as_its_code_unless_it_says_otherwise(code: ErrorCode) -> None:
    assert Refused(code, "").retryable is code.retryable
    for said in (True, False):
        assert Refused(code, "", retryable=said).retryable is said


def test_a_refusal_exits_with_try_again_or_refused() -> None:
    assert Refused(ErrorCode.BUSY, "").exit_code == 75
    assert Refused(ErrorCode.NOT_FOUND, "").exit_code == 69
    assert Refused(ErrorCode.NOT_FOUND, "", retryable=True).exit_code == 75

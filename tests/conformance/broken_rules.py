"""Which rule of the contract an action breaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent_world.errors import Refused, RemoteError

Case = Mapping[str, Any]


def rule_of(action: Callable[[], object]) -> str | None:
    """The rule that an action breaks, None if it goes well. Any other exception is a failure of the test."""
    try:
        action()
    except RemoteError as error:
        return error.rule
    except Refused as error:
        return error.rule
    return None

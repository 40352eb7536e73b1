"""Options of ``node run`` for storage challenges; names and error texts are those of the reference system."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from agent_world.errors import UsageError
from agent_world.wire.limits import I64_MAX

F = TypeVar("F", bound=Callable[..., Any])
_U32_MAX: Final = 2**32 - 1
_PREFIX: Final = "--reward-distfs-"
_REASONS: Final = ("hash-mismatch", "missing-sample", "timeout", "read-io-error", "signature-invalid", "unknown")
OPTIONS: Final[dict[str, tuple[str, int, int, str]]] = {
    "probe-max-sample-bytes": ("max_sample_bytes", 1, _U32_MAX, "Longest range of a storage challenge."),
    "probe-per-tick": ("challenges_per_tick", 1, _U32_MAX, "Challenges in a round."),
    "probe-ttl-ms": ("challenge_ttl_ms", 1, I64_MAX, "Time for an answer."),
    "probe-allowed-clock-skew-ms": ("allowed_clock_skew_ms", 0, I64_MAX, "Difference of clocks that is allowed."),
    "adaptive-max-checks-per-round": ("max_checks_per_round", 1, _U32_MAX, "Upper bound of a round."),
    "adaptive-backoff-base-ms": ("failure_backoff_base_ms", 0, I64_MAX, "Rest after a failed round; 0 for none."),
    "adaptive-backoff-max-ms": ("failure_backoff_max_ms", 0, I64_MAX, "Longest rest."),
    **{
        f"adaptive-multiplier-{reason}": (
            f"backoff_multiplier_{reason.replace('-', '_')}", 1, _U32_MAX, f"The rest is so often as long: {reason}.",
        )
        for reason in _REASONS
    },
}  # fmt: skip
"""Option without its prefix -> (key of [challenge], least, greatest, help)."""


def challenge_options(function: F) -> F:
    """All of them, as texts: ``apply_challenge_options`` says what is wrong with one."""
    for name, (key, _least, _most, text) in reversed(OPTIONS.items()):
        function = click.option(_PREFIX + name, key, metavar="N", help=text)(function)
    return function


def apply_challenge_options(table: dict[str, Any], options: dict[str, Any]) -> None:
    """Put them over [challenge] of node.toml; raises UsageError naming the option. Bounds between them are checked
    when all are known, by ``ChallengeConfig``."""
    given = {
        key: (name, least, most) for name, (key, least, most, _text) in OPTIONS.items() if options.get(key) is not None
    }
    section = table.setdefault("challenge", {}) if given else None
    if not isinstance(section, dict):
        return  # none given, or build_settings says what is wrong with the section
    for key, (name, least, most) in given.items():
        text = options[key]
        value = int(text) if text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 20 else None
        if value is None or not least <= value <= most:
            what = "a positive integer" if least else "a non-negative integer"
            raise UsageError(f"{_PREFIX}{name} must be {what}, not {text!r}")
        section[key] = value

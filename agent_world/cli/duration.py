"""Durations on the command line: 90s, 10m, 12h, 7d."""

from __future__ import annotations

import re
from typing import Any, Final

import click

from agent_world.wire.limits import I64_MAX

_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_FORM: Final = re.compile(r"([0-9]{1,15})(ms|s|m|h|d)")


class _Duration(click.ParamType[int]):
    """To milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = _FORM.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is no duration; write a number and one of {', '.join(_UNITS_MS)}", param, ctx)
        return min(int(found[1]) * _UNITS_MS[found[2]], I64_MAX // 4)


DURATION: Final = _Duration()

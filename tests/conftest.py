"""No test hangs on the speed of the machine: neither a property test nor one on a virtual clock."""

from __future__ import annotations

import pytest
import trio
from hypothesis import HealthCheck, settings

# Both limits measure real time, an example or the drawing of ten: on a busy machine they fail what is right.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def _no_thread_on_a_virtual_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock jumps while a thread works, so what it does is done after a time that comes by chance."""
    if "autojump_clock" in request.fixturenames:

        def refuse(*_arguments: object, **_options: object) -> None:
            raise AssertionError("a thread on a virtual clock: its end comes by chance")

        monkeypatch.setattr(trio.to_thread, "run_sync", refuse)

"""Property tests take as long as the machine needs, and say how a failure is had again."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Both limits measure real time, an example or the drawing of ten: on a busy machine they fail what is right.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("steady")

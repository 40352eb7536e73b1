"""Type of trio's ``task_status``: the stubs that come with py-libp2p (trio-typing) lack trio.TaskStatus."""

from __future__ import annotations

from typing import Protocol, TypeVar

T_contra = TypeVar("T_contra", contravariant=True)


class TaskStatus(Protocol[T_contra]):
    """What ``nursery.start`` hands to a task."""

    def started(self, value: T_contra, /) -> None:
        """The task is ready; ``value`` is what ``start`` returns."""
        ...

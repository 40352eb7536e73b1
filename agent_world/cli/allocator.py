"""What the process of a node keeps of memory that it has freed.

glibc hands the top of the heap back to the system when more than 128 KiB of it are free, and has to ask for it page by
page when the next large answer is put together: a page costs 2.5 us on a virtual machine, and an answer of 300 KiB had
240 of them. A node that serves content frees and takes as much again all the time.
"""

from __future__ import annotations

import ctypes
from typing import Final

from agent_world.wire.limits import MIB

KEPT_BYTES: Final = 16 * MIB
"""Free memory that the process keeps; what is above goes back to the system."""
MAPPED_ABOVE_BYTES: Final = 2 * MIB
"""Larger pieces are mapped and given back one by one; no blob and no part of a body is larger."""
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
"""Source: glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Set this for the whole process; False where the C library is another one and nothing was set."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    trimmed = mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
    return bool(mallopt(_M_MMAP_THRESHOLD, MAPPED_ABOVE_BYTES) and trimmed)

"""cli/allocator.py: what is freed is not handed back to the system and asked for again."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

CODE = """
import resource, sys
from agent_world.cli.allocator import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit(3)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def take():
    return [bytes(300_000) for _ in range(8)]
for _ in range(10):
    take()
before = faults()
for _ in range(20):
    take()
print(faults() - before)
"""


def faults(how: str) -> int:
    ran = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_memory_that_is_taken_again_costs_no_pages() -> None:
    assert faults("kept") < 100
    assert faults("given back") > 1_000, "then there is no need for it any more"

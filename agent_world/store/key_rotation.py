"""The validator key of a home gives way to the next one, with its guard (docs/guard.md).

Whatever step a crash follows, doing it again from the start finishes it: until the last step validator.key is the old
key, and what was signed with it stays in ``*.retired-<height>``.
"""

from __future__ import annotations

from typing import Final

from agent_world.crypto.keys import KeyPair
from agent_world.store import guard_files
from agent_world.store.durable import FaultHook, no_fault
from agent_world.store.guard import GuardStore
from agent_world.store.home import Home

ROTATION_STEPS: Final = ("guard_retired", "guard_made", "key_exchanged")
"""What the fault hook is called with, in order."""


def take_over(home: Home, successor: KeyPair, committed_height: int, fault: FaultHook = no_fault) -> GuardStore:
    """Make ``successor``, the key in validator.next.key, the home's validator key; the old guard must be closed.

    Returns the open guard of the new key, which signs above ``committed_height``. Raises HomeError.
    """
    if guard_files.made_for(home) != successor.public_key:
        guard_files.retire_guard(home, committed_height)
        fault("guard_retired")
    # No set before this height has named the key, so it has signed nothing: a new guard is right.
    store = GuardStore.open(home, successor, committed_height=committed_height, was_seated=False)
    try:
        fault("guard_made")
        guard_files.exchange_key(home, committed_height)
        fault("key_exchanged")
    except BaseException:
        store.close()
        raise
    return store

"""How often the process of a node looks for garbage in reference cycles.

Python looks by default after every 700 new objects. An action or vote makes dozens that live for a few blocks, and the
modules of libp2p hundreds of thousands that live for ever: walking over them took a tenth of the time of a start and 3
to 8 % of that of a busy node. Most of a node's garbage is in no cycle and is freed at once, whatever is set here.
"""

from __future__ import annotations

import gc
from typing import Final

NEW_OBJECTS: Final = 10_000
"""Objects made and not freed between two looks at them: a few MiB at most wait so long."""


def relax_collector() -> None:
    """Look less often, for the rest of this process; call it before the large imports."""
    gc.set_threshold(NEW_OBJECTS, 10, 10)


def spare_what_stays() -> None:
    """Never again look at what there is now: modules, and what a start has made. Call it once all is up."""
    gc.collect()
    gc.freeze()

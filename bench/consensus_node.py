"""One of our validators, as ``agent-world node run``, that also notes when it committed each height.

    python -m bench.consensus_node HOME TIMES.json

At the end (SIGINT) it writes [[height, nanoseconds, processor nanoseconds], ...]; the first clock is the system's
monotonic one, which all processes of a machine share, the second that of this process.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from agent_world.cli.collector import relax_collector, spare_what_stays
from agent_world.cli.node_options import set_up_logging
from agent_world.cli.node_run import run_until_stopped
from agent_world.node.node import Node
from agent_world.node.runner import load_home, run_nodes


def main(home: Path, times_file: Path) -> None:
    times: list[tuple[int, int, int]] = []

    def watch(nodes: list[Node]) -> None:
        (node,) = nodes
        assert node.voting is not None
        carry_on = node.voting.committed

        def committed() -> None:
            times.append((node.ledger.height, time.monotonic_ns(), time.process_time_ns()))
            carry_on()

        node.voting.committed = committed
        spare_what_stays()

    relax_collector()
    set_up_logging(verbose=False, as_json=False)
    run_until_stopped(run_nodes, [load_home(home)], watch)
    times_file.write_text(json.dumps(times))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

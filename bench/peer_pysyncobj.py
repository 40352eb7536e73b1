"""One process of a pysyncobj cluster (Raft in Python); the one that leads commits entries one after the other.

    python -m bench.peer_pysyncobj JOURNAL SECONDS CLIENTS OWN_ADDRESS OTHER_ADDRESS...

The leader has CLIENTS threads that put, prints {"seconds": [...], "elapsed_s": ...}, and all processes run until they
are killed. Everything is pysyncobj's default but the journal file, since our blocks are on disk too (pysyncobj does not
fsync its own).
"""

from __future__ import annotations

import json
import sys
import threading
import time

from pysyncobj import SyncObj, SyncObjConf, replicated

ENTRY = b"x" * 322
"""As large as a signed action of ours."""
WARM_UP = 3


class Register(SyncObj):
    def __init__(self, own: str, others: list[str], journal: str) -> None:
        super().__init__(own, others, SyncObjConf(journalFile=journal))
        self.value = b""

    @replicated
    def put(self, value: bytes) -> None:
        self.value = value


def _put_until(register: Register, end: float, taken: list[float]) -> None:
    while (before := time.monotonic()) < end:
        register.put(ENTRY, sync=True)
        taken.append(time.monotonic() - before)


def main(journal: str, seconds: float, clients: int, own: str, *others: str) -> None:
    register = Register(own, list(others), journal)
    while not (register.isReady() and register.isNodeConnected(next(iter(register.otherNodes)))):
        time.sleep(0.02)
    measured = False
    while True:
        if not measured and register.getStatus()["leader"] == register.selfNode:
            for _ in range(WARM_UP):
                register.put(ENTRY, sync=True)
            taken: list[float] = []
            started = time.monotonic()
            how = (register, started + seconds, taken)
            threads = [threading.Thread(target=_put_until, args=how) for _ in range(clients)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            print(json.dumps({"seconds": taken, "elapsed_s": time.monotonic() - started}), flush=True)
            measured = True
        time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])

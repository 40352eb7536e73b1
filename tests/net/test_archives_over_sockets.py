"""Archives between real processes: out of one node by command, into another, as blobs and as files of other tools."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

from swarm import Swarm, run_command

from agent_world.errors import Unavailable
from agent_world.node.provision import NodeSpec, SwarmSpec, make_swarm
from agent_world.wire.hello import Role
from agent_world.wire.ids import TimeMs, WorldId

SIZE = 3 * 2**20 + 7
HELIA = Path(__file__).parents[1] / "unit" / "store" / "helia" / "cid_v1.car"


def ran(swarm: Swarm, name: str, *arguments: str) -> Any:
    done = run_command(*arguments, "--home", str(swarm.home(name)), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_file_goes_out_for_other_tools_and_comes_in_as_the_same_content(tmp_path: Path) -> None:
    """The nodes are not linked: all that the second has came in an archive."""
    source, unixfs_car, plain_car = tmp_path / "file", tmp_path / "unixfs.car", tmp_path / "plain.car"
    source.write_bytes(random.Random(1).randbytes(SIZE))
    nodes = tuple(
        NodeSpec(name=name, role=Role.SEQUENCER if name == "v1" else Role.OBSERVER, validator=name == "v1")
        for name in ("v1", "o1")
    )
    now_ms = TimeMs(time.time_ns() // 1_000_000)
    made = make_swarm(tmp_path / "swarm", SwarmSpec(world_id=WorldId("cars"), nodes=nodes, genesis_time_ms=now_ms))
    with Swarm(made.nodes) as swarm:
        swarm.start("v1")
        swarm.wait_all_linked()
        stored = ran(swarm, "v1", "blob", "put", str(source))
        shown = ran(swarm, "v1", "blob", "stat", stored["cid"])
        ran(swarm, "v1", "blob", "export", stored["cid"], "--unixfs", "-o", str(unixfs_car))
        ran(swarm, "v1", "blob", "export", stored["cid"], "-o", str(plain_car))
        assert unixfs_car.read_bytes() != plain_car.read_bytes()
        # A damaged chunk is found only when it is read, in the middle of the answer, and nobody else has it.
        max((swarm.home("v1") / "blobs").rglob("*"), key=lambda path: path.stat().st_size).write_bytes(b"damaged")
        lacking = tmp_path / "lacking.car"
        done = run_command("blob", "export", stored["cid"], "-o", str(lacking), "--home", str(swarm.home("v1")))
        assert (done.returncode, lacking.exists()) == (Unavailable.exit_code, False), done.stderr
        swarm.interrupt("v1")

        swarm.start("o1")
        swarm.wait_all_linked()
        found = ran(swarm, "o1", "blob", "import", str(unixfs_car))
        assert found["roots"] == [shown["ipfs_cid"]]
        assert [(row["cid"], row["size_bytes"]) for row in found["files"]] == [(stored["cid"], SIZE)]
        assert ran(swarm, "o1", "blob", "stat", stored["cid"])["ipfs_cid"] == shown["ipfs_cid"]
        ran(swarm, "o1", "blob", "get", stored["cid"], "-o", str(tmp_path / "again"))
        assert (tmp_path / "again").read_bytes() == source.read_bytes()
        assert ran(swarm, "o1", "blob", "import", str(plain_car))["missing"] == 0

        into = ran(swarm, "o1", "blob", "import", str(HELIA), "--into", "helia")
        assert len(into["files"]) == 44
        ran(swarm, "o1", "fs", "stat", "helia/äöü/deep/blocks.bin")
        done = run_command("fs", "cat", "helia/hello.txt", "--home", str(swarm.home("o1")))
        assert done.stdout == "hello from Helia\n"
        swarm.interrupt("o1")

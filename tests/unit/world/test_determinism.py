"""T-9.4: the same actions give the same roots in processes with different hash seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PROGRAM = """
from small_world import *
from agent_world.crypto.hashing import cid_of
from agent_world.wire.action import CreateObject, MoveAgent, TransferResource
from agent_world.world.genesis import genesis_head, initial_state

genesis = small_genesis()
world = SmallWorld(genesis, Blobs(initial_state(genesis)[1]), genesis_head(genesis))
agents = [key(number) for number in range(2, 42)]
for agent in agents:
    world.join(agent, gold=10)
for turn in range(3):
    actions = []
    for number, agent in enumerate(agents):
        peer = actor_id_of(agents[(number * 7 + turn) % 40].public_key)
        payment = TransferResource(resource=Name("gold"), to_actor_id=peer, amount=U64(number % 5))
        actions.append(world.sign(agent, payment))
        actions.append(world.sign(agent, MoveAgent(x_cm=number * turn, y_cm=-number, z_cm=0)))
        book = Name(f"book {number} {turn}")
        actions.append(world.sign(agent, CreateObject(object_id=book, content=cid_of(b"x"), size_bytes=U64(4000))))
    block = world.commit(*actions).block
    print(block.action_root, block.event_root.hex(), block.receipts_root, block.journal_ref, block.state_root)
print(world.head.block_hash.hex(), [digest.hex() for digest in world.sealed[-1].blobs])
"""


def run(hash_seed: str) -> str:
    paths = os.pathsep.join((str(HERE), str(HERE.parents[2])))
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_two_processes_with_different_hash_seeds_agree() -> None:
    first, second = run("1"), run("4242")
    assert first == second
    assert len(first.splitlines()) == 4

"""Signs one agent's actions, for tests and benchmarks."""

from __future__ import annotations

import time

from agent_world.crypto.hashing import actor_id_of
from agent_world.crypto.keys import KeyPair
from agent_world.node.provision import MadeSwarm
from agent_world.store import keyfile
from agent_world.wire.ids import Hash32, WorldId
from agent_world.world.admission import build_action


class Signer:
    """One agent, which signs from nonce 1 on and nowhere else."""

    def __init__(self, world_id: str, genesis_hash: bytes, key: KeyPair) -> None:
        self._world_id = WorldId(world_id)
        self._genesis_hash = Hash32(genesis_hash)
        self._key = key
        self.nonce = 0
        """Of the last signed action."""
        self.actor_id = actor_id_of(key.public_key)
        self.public_key = key.public_key

    @classmethod
    def authority(cls, made: MadeSwarm) -> Signer:
        """The authority of a swarm that was just made."""
        return cls(made.world_id, made.genesis_hash, keyfile.read(made.authority_key))

    def sign(self, payload: object) -> bytes:
        """The next action, dated now."""
        self.nonce += 1
        return build_action(
            self._key,
            self._genesis_hash,
            self._world_id,
            payload,
            nonce=self.nonce,
            timestamp_ms=time.time_ns() // 1_000_000,
        )

"""What the demo does in the world: registers the characters, gives them purses and lets them pay."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from rich.progress import Progress, TaskID

from agent_world.cli.client import NodeClient
from agent_world.cli.demo_swarm import POLL_S, DemoSwarm
from agent_world.cli.demo_ties import PURSE, Tie, characters
from agent_world.crypto.hashing import actor_id_of
from agent_world.crypto.keys import KeyPair
from agent_world.errors import DataError, Refused, Unavailable
from agent_world.store import keyfile
from agent_world.wire.action import GrantResource, RegisterAgent, TransferResource
from agent_world.wire.ids import U64, Hash32, Name, WorldId
from agent_world.world.admission import build_action

RESOURCE: Final = Name("sou")
SUBMIT_TRIES: Final = 200
"""Tries for one action while a node says it is busy, POLL_S apart."""
RECEIPTS_S: Final = 60.0
"""Longest time for the receipts of one phase."""


class Payments:
    """Signs and submits; every character has a key of its own."""

    def __init__(self, swarm: DemoSwarm, ties: list[Tie]) -> None:
        self._swarm = swarm
        self._ties = ties
        self._authority = keyfile.read(swarm.made.authority_key)
        self._keys = {name: KeyPair(os.urandom(32)) for name in characters(ties)}
        self._nonces: dict[bytes, int] = {}
        self.count = 0
        """Actions submitted so far."""

    def run(self, bar: Progress) -> None:
        """All three phases; raises DataError if any receipt is not ``applied``."""
        clients = list(self._swarm.clients.values())
        self._phase(bar, "register", [(clients[0], self._register(name)) for name in self._keys])
        self._phase(bar, "grant purses", [(clients[0], self._grant(name)) for name in self._keys])
        # Every node takes some; an actor's actions all go to one, so that they are executable as they arrive.
        node_of = {name: clients[index % len(clients)] for index, name in enumerate(self._keys)}
        payments = [(node_of[tie.payer], self._pay(tie)) for tie in self._ties for _unit in range(tie.weight)]
        self._phase(bar, "pay", payments)

    def balances(self) -> dict[str, int]:
        """What every character owns, as the storage node's state has it."""
        entries = self._swarm.clients["storage"].get("/state/rules", limit=10_000)["entries"]
        amounts = {entry["key"]: entry["value"].get("amount", 0) for entry in entries}
        return {
            name: amounts.get(f"balance/{actor_id_of(key.public_key)}/{RESOURCE}", 0)
            for name, key in self._keys.items()
        }

    def _register(self, name: str) -> Callable[[], bytes]:
        payload = RegisterAgent(name=Name(name), public_key=self._keys[name].public_key, registration_quota=U64(0))
        return lambda: self._sign(self._authority, payload)

    def _grant(self, name: str) -> Callable[[], bytes]:
        to = actor_id_of(self._keys[name].public_key)
        payload = GrantResource(resource=RESOURCE, to_actor_id=to, amount=U64(PURSE))
        return lambda: self._sign(self._authority, payload)

    def _pay(self, tie: Tie) -> Callable[[], bytes]:
        to = actor_id_of(self._keys[tie.payee].public_key)
        payload = TransferResource(resource=RESOURCE, to_actor_id=to, amount=U64(1))
        return lambda: self._sign(self._keys[tie.payer], payload)

    def _sign(self, key: KeyPair, payload: object) -> bytes:
        nonce = self._nonces.get(key.public_key, 0) + 1
        self._nonces[key.public_key] = nonce
        made = self._swarm.made
        now_ms = time.time_ns() // 1_000_000
        return build_action(
            key, Hash32(made.genesis_hash), WorldId(made.world_id), payload, nonce=nonce, timestamp_ms=now_ms
        )

    def _phase(self, bar: Progress, name: str, actions: list[tuple[NodeClient, Callable[[], bytes]]]) -> None:
        sent = bar.add_task(f"{name}: submitted", total=len(actions))
        done = bar.add_task(f"{name}: committed", total=len(actions))
        waiting = []
        for client, sign in actions:
            waiting.append((self._submit(client, sign()), client))
            bar.advance(sent)
        self.count += len(waiting)
        self._await_receipts(bar, done, waiting)

    def _submit(self, client: NodeClient, data: bytes) -> str:
        for _attempt in range(SUBMIT_TRIES):
            try:
                answer: str = client.post_bytes("/actions", data)["action_id"]
            except Refused as error:
                if not error.retryable:
                    raise
                time.sleep(POLL_S)
            else:
                return answer
        raise Unavailable("a node stayed busy")

    def _await_receipts(self, bar: Progress, task: TaskID, waiting: list[tuple[str, NodeClient]]) -> None:
        deadline = time.monotonic() + RECEIPTS_S
        for action_id, client in waiting:
            self._swarm.check_alive()
            left_ms = max(1, int((deadline - time.monotonic()) * 1000))
            receipt = client.get(f"/receipts/{action_id}", wait_ms=min(left_ms, 30_000))
            if receipt["outcome"] != "applied":
                raise DataError(f"action {action_id} was {receipt['outcome']}: {receipt['code']}")
            bar.advance(task)

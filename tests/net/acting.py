"""Agents that pay each other through running nodes, and the record of what they were promised."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import attrs
from swarm import POLL_S, Client

from agent_world.crypto.keys import KeyPair
from agent_world.errors import AgentWorldError, Refused, Unavailable
from agent_world.testing.signer import Signer
from agent_world.wire.action import GrantResource, RegisterAgent, TransferResource
from agent_world.wire.ids import U64, ActorId, Name

RESOURCE: Final = Name("sou")
PURSE: Final = 1_000_000
BURST: Final = 5
"""Payments that one payer has under way at once."""
RECEIPT_WAIT_MS: Final = 1_000
SETTLE_S: Final = 30.0
"""An action has its receipt within this, also if its node is killed and started again meanwhile."""


@attrs.frozen(slots=True)
class Promised:
    """A receipt as a node gave it."""

    action_id: str
    height: int
    outcome: str


def settle(client: Client, data: bytes, seconds: float = SETTLE_S) -> Promised:
    """Hand one action in, again if the node forgot it, until there is a receipt; raises Refused if it is refused."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            action_id = client.post_bytes("/actions", data)["action_id"]
            receipt = client.get(f"/receipts/{action_id}", wait_ms=RECEIPT_WAIT_MS)
        except Refused as error:
            if not (error.retryable or error.rule == "S2"):
                raise
            time.sleep(POLL_S)
        else:
            return Promised(action_id, receipt["height"], receipt["outcome"])
    raise Unavailable(f"no receipt within {seconds} s")


def make_payers(client: Client, authority: Signer, names: list[str]) -> dict[str, Signer]:
    """Register one agent for each name and fill its purse."""
    status = client.get("/status")
    payers = {
        name: Signer(status["world_id"], bytes.fromhex(status["genesis_hash"]), KeyPair(os.urandom(32)))
        for name in names
    }
    waiting = []
    for name, payer in payers.items():
        for payload in (
            RegisterAgent(name=Name(name), public_key=payer.public_key, registration_quota=U64(0)),
            GrantResource(resource=RESOURCE, to_actor_id=payer.actor_id, amount=U64(PURSE)),
        ):
            waiting.append(authority.sign(payload))
            client.post_bytes("/actions", waiting[-1])
    assert [settle(client, data).outcome for data in waiting] == ["applied"] * len(waiting)
    return payers


class Load:
    """One thread a node, each paying through its node as fast as receipts come; a dead node is waited for."""

    def __init__(self, payers: dict[str, Signer], homes: dict[str, Path]) -> None:
        self._stop = threading.Event()
        self.promised: dict[str, list[Promised]] = {name: [] for name in homes}
        """Receipts by the node that gave them."""
        self.errors: list[str] = []
        to = {name: payers[other].actor_id for name, other in zip(homes, [*homes][1:] + [*homes][:1], strict=True)}
        self._threads = [
            threading.Thread(target=self._run, args=(name, home, payers[name], to[name]))
            for name, home in homes.items()
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, name: str, home: Path, payer: Signer, to: ActorId) -> None:
        try:
            with Client(home) as client:
                while not self._stop.is_set():
                    payment = TransferResource(resource=RESOURCE, to_actor_id=to, amount=U64(1))
                    self._burst(name, client, [payer.sign(payment) for _ in range(BURST)])
        except AgentWorldError as error:
            self.errors.append(f"{name}: {error}")

    def _burst(self, name: str, client: Client, actions: list[bytes]) -> None:
        """Hand in until each has its receipt, also after the stop: a nonce left out would block the payer for good."""
        waiting = dict.fromkeys(actions)
        deadline = time.monotonic() + SETTLE_S
        while waiting:
            try:
                for data in waiting:
                    client.post_bytes("/actions", data)
                for data in list(waiting):
                    self.promised[name].append(settle(client, data))
                    del waiting[data]
            except (Unavailable, Refused) as error:
                if time.monotonic() > deadline or (isinstance(error, Refused) and not error.retryable):
                    raise
                time.sleep(POLL_S)  # the node is dead, or cannot reach a quorum just now

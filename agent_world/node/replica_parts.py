"""What the parts of replication need of their node."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from agent_world.config import ReplicationConfig
from agent_world.crypto.keys import KeyPair
from agent_world.net.interface import DistributedNetwork
from agent_world.node.clock import Clock
from agent_world.node.distributed_client import DistributedClient
from agent_world.node.heal import Healer
from agent_world.node.ledger import Ledger
from agent_world.store.blobs import LocalCasStore
from agent_world.store.home import Home
from agent_world.wire.ids import PeerId


@attrs.frozen(slots=True, kw_only=True)
class ReplicationParts:
    """Of one node."""

    home: Home
    ledger: Ledger
    blobs: LocalCasStore
    network: DistributedNetwork
    client: DistributedClient
    healer: Healer
    clock: Clock
    config: ReplicationConfig
    neighbours: Callable[[], list[PeerId]]
    """Connected peers of this world."""
    voter: Callable[[], KeyPair | None]
    """This node's validator key, if it has one."""
    ask_proof: Callable[[PeerId], None]
    """Ask a neighbour for its certified head."""

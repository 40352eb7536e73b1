"""A libp2p host for one command, which needs no home and no running node."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from agent_world.config import NetConfig
from agent_world.crypto.keys import KeyPair
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.node.asked_peers import AskedPeers
from agent_world.wire.genesis import Genesis
from agent_world.wire.ids import PeerId


@asynccontextmanager
async def open_peers(genesis: Genesis, addresses: Iterable[tuple[PeerId, str]]) -> AsyncIterator[AskedPeers]:
    """Peers over libp2p, from a host that listens nowhere and whose key is forgotten with it."""
    # Whoever cannot be reached is named by the command, once: the library's own lines say it again at every redial.
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)
    async with Libp2pNetwork.open(NetConfig(listen=()), KeyPair(os.urandom(32))) as network:
        yield AskedPeers(network, genesis, addresses)

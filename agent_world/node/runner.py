"""Starts nodes from their home directories: one in a process, or several in one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import structlog
import trio

from agent_world.errors import HomeError
from agent_world.net.libp2p.dht import Libp2pDht
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.node.bridge import Bridge
from agent_world.node.control import serve_control
from agent_world.node.node import Node
from agent_world.node.node_routes import node_routes
from agent_world.node.settings import NodeSettings, build_settings, check_topology, read_settings
from agent_world.node.task_status import TaskStatus
from agent_world.node.validator_views import ValidatorControl
from agent_world.node.views import NodeViews
from agent_world.store import keyfile
from agent_world.store.home import Home, HomeLayout
from agent_world.wire.genesis import Genesis
from agent_world.wire.ids import peer_id_of
from agent_world.world.genesis import genesis_hash, parse_genesis

_log = structlog.get_logger("agent_world.node")


@attrs.frozen(slots=True, kw_only=True)
class LoadedHome:
    """Settings, genesis and paths of a home, read but not opened."""

    files: HomeLayout
    settings: NodeSettings
    genesis: Genesis


def load_home(path: Path, overrides: Callable[[dict[str, Any]], None] = lambda _table: None) -> LoadedHome:
    """Read node.toml (changed by ``overrides``) and genesis.toml; raises HomeError or UsageError."""
    files = HomeLayout(path)
    for needed in (files.node_toml, files.genesis_toml, files.node_key):
        if not needed.is_file():
            raise HomeError(f"{path} is not a node's home: {needed.name} is missing; make one with: testnet init DIR")
    table = read_settings(files.node_toml)
    overrides(table)
    settings = build_settings(table, str(files.node_toml))
    try:
        text = files.genesis_toml.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HomeError(f"{files.genesis_toml} cannot be read: {error}") from None
    genesis = parse_genesis(text, str(files.genesis_toml))
    check_topology(settings, peer_id_of(keyfile.read(files.node_key).public_key))
    return LoadedHome(files=files, settings=settings, genesis=genesis)


async def run_node(loaded: LoadedHome, *, task_status: TaskStatus[Node] = trio.TASK_STATUS_IGNORED) -> None:
    """Run one node with its control API until cancelled."""
    files = loaded.files
    node_key = keyfile.read(files.node_key)
    validator_key = keyfile.read(files.validator_key) if files.validator_key.exists() else None
    with Home.open(files.path, genesis_hash(loaded.genesis)) as home:
        async with Libp2pNetwork.open(loaded.settings.config.net, node_key) as network:
            node = Node(loaded.settings, loaded.genesis, home, network, validator_key=validator_key)
            async with Libp2pDht.open(network, node.discovery.records.rules) as dht, trio.open_nursery() as nursery:
                node.discovery.join(dht, node_key)
                node.challenges.use(node_key)
                await nursery.start(node.run)
                bitswap = loaded.settings.config.bitswap
                if bitswap.enabled:
                    bridge = Bridge(node.blobs, node.unixfs.table, node.find_blobs)
                    network.serve_bitswap(bridge, bitswap.bytes_per_s)
                    looks = partial(node.unixfs.run, bitswap.look_every_s)
                    nursery.start_soon(node.disk.endure, "unixfs", looks)
                if loaded.settings.config.net.mdns:
                    nursery.start_soon(network.run_mdns, node.ledger.genesis_hash, node.peering.heard_of)
                views, validator = NodeViews(node), ValidatorControl(node)
                await nursery.start(partial(serve_control, views, validator, files.control_socket, node_routes(node)))
                task_status.started(node)


async def run_nodes(homes: list[LoadedHome], ready: Callable[[list[Node]], None]) -> None:
    """Run several nodes in this process until cancelled; ``ready`` is called once all are up."""
    async with trio.open_nursery() as nursery:
        ready([await nursery.start(run_node, loaded) for loaded in homes])

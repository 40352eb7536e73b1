"""Makes the files of a new swarm: genesis, authority key and one home a node."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

import attrs

from agent_world.config import MAINNET, NodeConfig
from agent_world.crypto.keys import KeyPair
from agent_world.errors import UsageError
from agent_world.net.address import format_peer, parse_address
from agent_world.node.settings import NodeSettings, Topology
from agent_world.store import keyfile
from agent_world.store.home import Home
from agent_world.wire.consensus import ValidatorEntry, ValidatorSetRecord
from agent_world.wire.genesis import Genesis, WorldParams
from agent_world.wire.hello import Role
from agent_world.wire.ids import U64, TimeMs, ValidatorId, WorldId, peer_id_of
from agent_world.world.genesis import genesis_hash, genesis_toml

AUTHORITY_KEY: Final = "authority.key"
"""File of the genesis authority's agent key, beside the homes."""
DEFAULT_PARAMS: Final = WorldParams(
    move_speed_max_cm_per_s=U64(1_000), actor_storage_quota_bytes=U64(1024 * 1024 * 1024)
)
"""10 m/s, and 1 GiB of stated content an agent."""
EQUAL_STAKE: Final = 100
"""Stake of every validator of a test swarm."""
EPOCH_LENGTH_SLOTS: Final = 32
"""Source: the reference system"""


@attrs.frozen(slots=True, kw_only=True)
class NodeSpec:
    """One node of a swarm to be."""

    name: str
    role: Role
    validator: bool


@attrs.frozen(slots=True, kw_only=True)
class SwarmSpec:
    """A swarm to be. The first node needs no bootstrap; the others get its address and nothing else."""

    world_id: WorldId
    nodes: tuple[NodeSpec, ...]
    genesis_time_ms: TimeMs
    host: str = "127.0.0.1"
    base_port: int = 0
    """Listen port of the first node, the others follow; 0 chooses free ones."""
    topology: Topology = Topology.SINGLE
    config: NodeConfig = MAINNET


@attrs.frozen(slots=True, kw_only=True)
class MadeNode:
    """A home that was made."""

    name: str
    role: Role
    home: Path
    multiaddr: str


@attrs.frozen(slots=True, kw_only=True)
class MadeSwarm:
    """What ``make_swarm`` left on disk."""

    world_id: WorldId
    genesis_hash: bytes
    authority_key: Path
    nodes: tuple[MadeNode, ...]


def triad_nodes(prefix: str = "") -> tuple[NodeSpec, ...]:
    """Sequencer, storage and observer, all validators."""
    return tuple(NodeSpec(name=f"{prefix}{role.value}", role=role, validator=True) for role in Role)


PORT_MAX: Final = 65_535


def free_ports(host: str, count: int) -> list[int]:
    """Ports that nobody listened on a moment ago."""
    sockets = []
    try:
        for _ in range(count):
            probe = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
            sockets.append(probe)
            probe.bind((host, 0))
        return [probe.getsockname()[1] for probe in sockets]
    except OSError as error:
        raise UsageError(f"cannot listen on {host}: {error}") from None
    finally:
        for probe in sockets:
            probe.close()


def make_swarm(directory: Path, spec: SwarmSpec) -> MadeSwarm:
    """Write genesis, authority key and homes below ``directory``, which must be absent or empty (UsageError)."""
    if not any(node.validator for node in spec.nodes):
        raise UsageError("a world needs at least one validator")
    if len({node.name for node in spec.nodes}) < len(spec.nodes):
        raise UsageError("two nodes of the swarm have the same name")
    parse_address(_listen(spec.host, spec.base_port))
    if spec.base_port + len(spec.nodes) - 1 > PORT_MAX:
        raise UsageError(f"{len(spec.nodes)} nodes from port {spec.base_port} on have no room below {PORT_MAX + 1}")
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise UsageError(f"{directory} exists and is not empty; choose another directory")
        directory.mkdir(parents=True, exist_ok=True)
        return _write_swarm(directory, spec)
    except OSError as error:
        raise UsageError(f"{directory} cannot be written: {error.strerror}; choose another directory") from None


def _listen(host: str, port: int) -> str:
    return f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}"


def _write_swarm(directory: Path, spec: SwarmSpec) -> MadeSwarm:
    authority = KeyPair(os.urandom(32))
    validator_keys = {node.name: KeyPair(os.urandom(32)) for node in spec.nodes if node.validator}
    genesis = _genesis(spec, authority, validator_keys)
    keyfile.write(directory / AUTHORITY_KEY, authority)
    (directory / "genesis.toml").write_text(genesis_toml(genesis), encoding="utf-8")
    ports = (
        [spec.base_port + index for index in range(len(spec.nodes))]
        if spec.base_port
        else free_ports(spec.host, len(spec.nodes))
    )
    made: list[MadeNode] = []
    for node, port in zip(spec.nodes, ports, strict=True):
        bootstrap = (made[0].multiaddr,) if made else ()
        made.append(_make_home(directory, spec, node, (port, bootstrap), (genesis, validator_keys.get(node.name))))
    return MadeSwarm(
        world_id=spec.world_id,
        genesis_hash=genesis_hash(genesis),
        authority_key=directory / AUTHORITY_KEY,
        nodes=tuple(made),
    )


def _genesis(spec: SwarmSpec, authority: KeyPair, validator_keys: dict[str, KeyPair]) -> Genesis:
    entries = [
        ValidatorEntry(validator_id=ValidatorId(name), public_key=key.public_key, stake=U64(EQUAL_STAKE))
        for name, key in sorted(validator_keys.items())
    ]
    return Genesis(
        world_id=spec.world_id,
        genesis_time_ms=spec.genesis_time_ms,
        authority=authority.public_key,
        epoch_length_slots=U64(EPOCH_LENGTH_SLOTS),
        validators=ValidatorSetRecord(
            validators=tuple(entries), supermajority_numerator=U64(2), supermajority_denominator=U64(3)
        ),
        slash_equivocation=True,
        params=DEFAULT_PARAMS,
    )


def _make_home(
    directory: Path,
    spec: SwarmSpec,
    node: NodeSpec,
    link: tuple[int, tuple[str, ...]],
    world: tuple[Genesis, KeyPair | None],
) -> MadeNode:
    port, bootstrap = link
    genesis, validator_key = world
    listen = _listen(spec.host, port)
    net = attrs.evolve(spec.config.net, listen=(listen,), bootstrap=bootstrap)
    settings = NodeSettings(
        node_id=node.name,
        role=node.role,
        topology=spec.topology,
        config=attrs.evolve(spec.config, net=net),
    )
    node_key = KeyPair(os.urandom(32))
    home = directory / node.name
    Home.create(
        home,
        genesis_hash=genesis_hash(genesis),
        genesis_toml=genesis_toml(genesis),
        node_toml=settings.to_toml(),
        node_key=node_key,
        validator_key=validator_key,
    )
    multiaddr = format_peer(peer_id_of(node_key.public_key), listen)
    return MadeNode(name=node.name, role=node.role, home=home, multiaddr=multiaddr)

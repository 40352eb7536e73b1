"""A node's frozen settings: defaults, then node.toml, then the command line (the later wins)."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs
import tomli_w

from agent_world.config import MAINNET, NodeConfig
from agent_world.errors import UsageError
from agent_world.net.address import parse_address, parse_peer
from agent_world.wire.hello import Role


class Topology(StrEnum):
    """How this node came to its peers; source: the reference system"""

    SINGLE = "single"
    TRIAD_DISTRIBUTED = "triad_distributed"


@attrs.frozen(slots=True, kw_only=True)
class NodeSettings:
    """What ``node run`` needs besides the keys and the genesis in the home."""

    node_id: str
    """Name for people, logs and reports."""
    role: Role
    topology: Topology = Topology.SINGLE
    config: NodeConfig = MAINNET

    def to_toml(self) -> str:
        """The effective settings as node.toml has them."""
        plain = attrs.asdict(self, recurse=True)
        config = plain.pop("config")
        return tomli_w.dumps(_listed({**plain, **config}))


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, StrEnum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def read_settings(path: Path) -> dict[str, Any]:
    """node.toml as a mapping; raises UsageError naming file and place."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None


def build_settings(table: Mapping[str, Any], source: str) -> NodeSettings:
    """Settings from a mapping such as ``read_settings`` gives; unknown keys and wrong types are UsageErrors."""
    table = dict(table)
    node_id = table.pop("node_id", "node")
    if not isinstance(node_id, str) or not node_id:
        raise UsageError(f"{source}: node_id must be a non-empty text")
    role = _choice(Role, table.pop("role", None), "role", source)
    topology = _choice(Topology, table.pop("topology", Topology.SINGLE.value), "topology", source)
    sections = {field.name: field for field in attrs.fields(NodeConfig)}
    unknown = sorted(table.keys() - sections.keys())
    if unknown:
        raise UsageError(f"{source}: unknown key {unknown[0]!r}; known sections: {', '.join(sections)}")
    parts = {name: _section(getattr(MAINNET, name), table[name], name, source) for name in table}
    return NodeSettings(node_id=node_id, role=role, topology=topology, config=attrs.evolve(MAINNET, **parts))


def _choice(kind: Any, value: object, name: str, source: str) -> Any:
    known = ", ".join(item.value for item in kind)
    if value is None:
        raise UsageError(f"{source}: {name} is missing; choose one of {known} (option --{name})")
    try:
        return kind(str(value).lower())
    except ValueError:
        raise UsageError(f"{source}: {name} {value!r} is not one of {known}") from None


def _section(default: Any, table: object, section: str, source: str) -> Any:
    if not isinstance(table, Mapping):
        raise UsageError(f"{source}: {section} must be a table")
    known = {field.name: getattr(default, field.name) for field in attrs.fields(type(default))}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise UsageError(f"{source}: unknown key {section}.{key}; known: {', '.join(known)}")
        values[key] = _typed(known[key], value, f"{section}.{key}", source)
    return attrs.evolve(default, **values)


def _typed(default: object, value: Any, name: str, source: str) -> Any:
    if isinstance(default, tuple):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise UsageError(f"{source}: {name} must be a list of texts")
    if isinstance(default, float) and type(value) in (int, float):
        if not math.isfinite(value):
            raise UsageError(f"{source}: {name} must be a finite number, not {value!r}")
        return float(value)
    if type(value) is not type(default):
        raise UsageError(f"{source}: {name} must be a {type(default).__name__}, not {value!r}")
    return value


def check_topology(settings: NodeSettings, own_peer_id: str) -> None:
    """The rules of minimal bootstrap (Gap 5): a sequencer may start alone, the others need one other node, or mDNS.

    Raises UsageError, also for an address to listen on or to dial that is none.
    """
    bootstrap = settings.config.net.bootstrap
    listen = {str(parse_address(address)) for address in settings.config.net.listen}
    for address in bootstrap:
        peer, dialled = parse_peer(address)
        if peer == own_peer_id or dialled in listen:
            raise UsageError(f"--bootstrap {address} is this node's own address; give the address of another node")
    finds_others = bool(bootstrap) or settings.config.net.mdns
    if settings.topology is Topology.TRIAD_DISTRIBUTED and settings.role is not Role.SEQUENCER and not finds_others:
        raise UsageError(
            f"a {settings.role} node in triad_distributed needs --bootstrap with the sequencer's multiaddr"
            " (agent-world node status --home SEQUENCER_HOME shows it), or --set net.mdns=true on one local network"
        )

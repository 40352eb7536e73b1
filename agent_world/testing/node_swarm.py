"""A swarm of whole nodes of one world in one process: real homes, any network, every commit and vote watched.

Which network is a subclass's affair: ``stack.Stack`` joins them in memory, ``sim_libp2p.node_swarm`` by libp2p hosts.
Wall time is trio's clock on top of the genesis time, so that nothing of a run in virtual time depends on the day.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Final, Self, cast

import attrs
import trio

from agent_world.config import NetConfig, NodeConfig
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.keys import KeyPair
from agent_world.net.address import format_peer
from agent_world.net.dht_records import RecordRules
from agent_world.net.interface import DistributedDht, DistributedNetwork
from agent_world.node.clock import Clock
from agent_world.node.node import Node
from agent_world.node.provision import DEFAULT_PARAMS, NodeSpec
from agent_world.node.settings import NodeSettings
from agent_world.node.storing import at_once
from agent_world.node.task_status import TaskStatus
from agent_world.node.views import NodeViews
from agent_world.store.home import Home
from agent_world.testing.checkers import ChainChecker
from agent_world.testing.tapped_network import TappedNetwork
from agent_world.wire import record
from agent_world.wire.consensus import ValidatorEntry, ValidatorSetRecord
from agent_world.wire.genesis import Genesis
from agent_world.wire.hello import Role
from agent_world.wire.ids import U64, Hash32, PeerId, TimeMs, ValidatorId, WorldId, peer_id_of
from agent_world.wire.limits import RPC_INLINE_BYTES_MAX
from agent_world.world.admission import build_action
from agent_world.world.genesis import genesis_hash, genesis_toml

WORLD_ID: Final = WorldId("stack")
GENESIS_TIME_MS: Final = 1_700_000_000_000
POLL_S: Final = 0.02
"""Virtual pause between two looks at a condition that is waited for."""
EPOCH_LENGTH_SLOTS: Final = 32
WAIT_S: Final = 120.0
"""Virtual time after which a condition counts as never met."""


@attrs.define(slots=True, eq=False)
class Member:
    """One node of the swarm: its home and keys stay over restarts, the rest is that of the running process."""

    name: str
    role: Role
    home: Path
    node_key: KeyPair
    validator_key: KeyPair | None
    node: Node | None = None
    network: TappedNetwork | None = None
    _scope: trio.CancelScope | None = None
    _ended: trio.Event = attrs.Factory(trio.Event)

    @property
    def peer_id(self) -> PeerId:
        """Network identity."""
        return peer_id_of(self.node_key.public_key)


def specs(*, validators: int, storage: int = 0, observers: int = 0) -> tuple[NodeSpec, ...]:
    """``v1``, ``v2``, ... with a vote; ``s1``, ... and ``o1``, ... without."""
    wanted = (("v", Role.SEQUENCER, validators), ("s", Role.STORAGE, storage), ("o", Role.OBSERVER, observers))
    return tuple(
        NodeSpec(name=f"{letter}{number}", role=role, validator=letter == "v")
        for letter, role, count in wanted
        for number in range(1, count + 1)
    )


def make_key(*parts: object) -> KeyPair:
    """The key of a name; everybody can make it."""
    return KeyPair(Random(" ".join(map(str, parts))).randbytes(32))


class NodeSwarm(ABC):
    """Made by ``open``; members are started one by one or with ``start_all``."""

    def __init__(
        self,
        directory: Path,
        nodes: tuple[NodeSpec, ...],
        config: NodeConfig,
        seed: int,
        *,
        epoch_length_slots: int = EPOCH_LENGTH_SLOTS,
    ) -> None:
        self.directory = directory
        self.config = config
        self.seed = seed
        self.authority = make_key("authority", seed)
        voters = {spec.name: make_key("validator", spec.name, seed) for spec in nodes if spec.validator}
        self.genesis = make_genesis(self.authority, voters, epoch_length_slots)
        self.members = {
            spec.name: Member(
                spec.name, spec.role, directory / spec.name, make_key("node", spec.name, seed), voters.get(spec.name)
            )
            for spec in nodes
        }
        self.nonces: dict[bytes, int] = {}
        self.clock_error_ms: dict[str, int] = {}
        """By how much a member's wall clock is wrong; its monotonic clock is right."""
        self.history: dict[str, list[tuple[int, str]]] = {name: [] for name in self.members}
        """(height, state root) in the order in which each member committed them, over restarts."""
        first_set = ValidatorSet(self.genesis.validators)
        self.sets = {first_set.hash: first_set}
        """Validator sets by their hash, as blocks have named them."""
        self.checker = ChainChecker(WORLD_ID, self.genesis_hash, first_set.hash, self.sets.__getitem__)
        self.built: Callable[[Member, Node], None] = lambda _member, _node: None
        """Told of every node that is about to run: where hooks are put."""
        self._nursery: trio.Nursery | None = None
        for member in self.members.values():
            self.make_home(member)

    @abstractmethod
    def listen_addresses(self, member: Member) -> tuple[str, ...]:
        """Where the member can be dialled, also while it does not run."""

    @abstractmethod
    def open_network(self, member: Member, config: NetConfig) -> AbstractAsyncContextManager[DistributedNetwork]:
        """The network of a member's process, from its start to its end."""

    @abstractmethod
    def open_dht(
        self, member: Member, network: DistributedNetwork, rules: RecordRules
    ) -> AbstractAsyncContextManager[DistributedDht]:
        """The member's part in the DHT, for as long; ``network`` is what ``open_network`` gave."""

    @abstractmethod
    def sever(self, member: Member) -> None:
        """The member's process is about to be gone: nothing that it still sends may arrive."""

    def sent(self, name: str, data: bytes) -> None:
        """A member lets a consensus message out."""
        self.checker.signed(name, data)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        """Members may be started inside; leaving stops all."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            yield self
            nursery.cancel_scope.cancel()

    @property
    def genesis_hash(self) -> Hash32:
        """Hash of the world's genesis."""
        return genesis_hash(self.genesis)

    def make_home(self, member: Member) -> None:
        """Write the member's home; the bootstrap node is the first member."""
        settings = self._settings(member)
        Home.create(
            member.home,
            genesis_hash=self.genesis_hash,
            genesis_toml=genesis_toml(self.genesis),
            node_toml=settings.to_toml(),
            node_key=member.node_key,
            validator_key=member.validator_key,
        )

    def _settings(self, member: Member) -> NodeSettings:
        first = next(iter(self.members.values()), member)
        bootstrap = () if member is first else (self.address_of(first.name),)
        net = attrs.evolve(self.config.net, listen=self.listen_addresses(member), bootstrap=bootstrap)
        return NodeSettings(node_id=member.name, role=member.role, config=attrs.evolve(self.config, net=net))

    def address_of(self, name: str) -> str:
        """A member's multiaddr with /p2p."""
        member = self.members[name]
        return format_peer(member.peer_id, self.listen_addresses(member)[0])

    def peers(self, *names: str) -> tuple[PeerId, ...]:
        """Peer ids, for partitions."""
        return tuple(self.members[name].peer_id for name in names)

    def node(self, name: str) -> Node:
        """The running node."""
        node = self.members[name].node
        assert node is not None, f"{name} does not run"
        return node

    def network(self, name: str) -> TappedNetwork:
        """The running node's network, which can be made to lie."""
        network = self.members[name].network
        assert network is not None, f"{name} does not run"
        return network

    def status(self, name: str) -> dict[str, Any]:
        """What ``node status`` shows."""
        return NodeViews(self.node(name)).status()

    def counters(self, name: str) -> dict[str, int]:
        """The counters in ``node status``."""
        counters: dict[str, int] = self.status(name)["counters"]
        return counters

    async def start(self, name: str) -> Node:
        """Start a member from its home, as often as it was stopped."""
        assert self._nursery is not None, "use open()"
        node: Node = await self._nursery.start(self._run, self.members[name])
        return node

    async def start_all(self) -> None:
        """Start everybody, in order."""
        for name in self.members:
            await self.start(name)

    async def stop(self, name: str) -> None:
        """End a member's process: cancelled in the middle of whatever it does."""
        member = self.members[name]
        assert member._scope is not None, f"{name} does not run"
        self.sever(member)
        member._scope.cancel()
        await member._ended.wait()

    async def _run(self, member: Member, *, task_status: TaskStatus[Node]) -> None:
        member._ended = trio.Event()
        try:
            with trio.CancelScope() as member._scope:
                await self._live(member, task_status)
        finally:
            member.node = member.network = member._scope = None
            member._ended.set()

    async def _live(self, member: Member, task_status: TaskStatus[Node]) -> None:
        settings = self._settings(member)
        with Home.open(member.home, self.genesis_hash) as home:
            async with self.open_network(member, settings.config.net) as inner:
                member.network = TappedNetwork(inner, lambda data: self.sent(member.name, data))
                member.node = node = Node(
                    settings,
                    self.genesis,
                    home,
                    cast(DistributedNetwork, member.network),
                    validator_key=home.validator_key(),
                    clock=Clock(lambda: self.wall_ms() + self.clock_error_ms.get(member.name, 0)),
                )
                node.large.aside = node.archives.aside = at_once
                node.replication.gate.draw = Random(f"gate {self.seed} {member.name}").randrange
                self.built(member, node)
                async with self.open_dht(member, inner, node.discovery.records.rules) as dht:
                    node.discovery.join(dht, member.node_key)
                    node.challenges.use(member.node_key)
                    self.checker.restarted(member.name, node.ledger.height)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._watch, member.name, node)
                        await nursery.start(node.run)
                        task_status.started(node)

    async def _watch(self, name: str, node: Node) -> None:
        """Tell the checker of every height, in order."""
        while True:
            for height in range(self.checker.heights.get(name, 0) + 1, node.ledger.height + 1):
                stored = node.ledger.stored(height)
                assert stored is not None, "a committed height is stored"
                for boundary in node.ledger.boundaries(height, 1):
                    found = record.from_bytes(ValidatorSetRecord, boundary.validators, size_max=RPC_INLINE_BYTES_MAX)
                    self.sets[ValidatorSet(found).hash] = ValidatorSet(found)
                self.checker.committed(name, stored.block, stored.certificate)
                self.history[name].append((height, str(stored.header.state_root)))
            await node.ledger.wait_above(node.ledger.height)

    @staticmethod
    def wall_ms() -> int:
        """Virtual wall time; every node has the same."""
        return GENESIS_TIME_MS + int(trio.current_time() * 1000)

    def sign(self, key: KeyPair, payload: object, *, nonce: int | None = None) -> bytes:
        """An action with the key's next nonce, or with any."""
        if nonce is None:
            nonce = self.nonces[key.public_key] = self.nonces.get(key.public_key, 0) + 1
        return build_action(key, self.genesis_hash, WORLD_ID, payload, nonce=nonce, timestamp_ms=self.wall_ms())

    def submit(self, name: str, key: KeyPair, payload: object) -> Hash32:
        """Sign and hand in at a node, as its control API does."""
        return NodeViews(self.node(name)).submit(self.sign(key, payload))

    async def receipt(self, name: str, action_id: Hash32) -> dict[str, Any]:
        """The receipt at a node, waited for."""
        return await NodeViews(self.node(name)).receipt(action_id, int(WAIT_S * 1000))

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Let virtual time pass until the condition holds; AssertionError after WAIT_S."""
        for _look in range(int(WAIT_S / POLL_S)):
            if condition():
                return
            await trio.sleep(POLL_S)
        heights = {name: m.node.ledger.height for name, m in self.members.items() if m.node is not None}
        raise AssertionError(f"not within {WAIT_S} virtual s: {what}; heights {heights}")

    async def until_height(self, height: int, *names: str) -> None:
        """Until these members (all running ones if none are named) have committed ``height``."""
        chosen = names or tuple(name for name, member in self.members.items() if member.node is not None)
        await self.until(lambda: all(self.node(name).ledger.height >= height for name in chosen), f"height {height}")

    def top(self) -> int:
        """The highest committed height of any running member."""
        return max(member.node.ledger.height for member in self.members.values() if member.node is not None)

    def agree(self) -> bool:
        """Whether every member's history is the same as far as it goes."""
        longest = max(self.history.values(), key=len)
        return all(history == longest[: len(history)] for history in self.history.values())


def make_genesis(
    authority: KeyPair, voters: dict[str, KeyPair], epoch_length_slots: int = EPOCH_LENGTH_SLOTS
) -> Genesis:
    """A world of equal validators."""
    entries = tuple(
        ValidatorEntry(validator_id=ValidatorId(name), public_key=key.public_key, stake=U64(100))
        for name, key in sorted(voters.items())
    )
    return Genesis(
        world_id=WORLD_ID,
        genesis_time_ms=TimeMs(GENESIS_TIME_MS),
        authority=authority.public_key,
        epoch_length_slots=U64(epoch_length_slots),
        slash_equivocation=True,
        validators=ValidatorSetRecord(
            validators=entries, supermajority_numerator=U64(2), supermajority_denominator=U64(3)
        ),
        params=DEFAULT_PARAMS,
    )

"""One simulated cluster from one seed: a time of faults, then healing, then the chain must grow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final

import attrs

from agent_world.config import ConsensusConfig
from agent_world.testing.adversary import BACK_MS, PRECOMMITTED, Adversary
from agent_world.testing.bus import CALM, Bus, LinkFaults, Partition
from agent_world.testing.bus_messages import Submitted
from agent_world.testing.byzantine import InvalidNode, LiarNode, SilentNode, TwinNode, Vice, WithholdNode
from agent_world.testing.checkers import ChainChecker, Violation
from agent_world.testing.opened_messages import OpenedMessages
from agent_world.testing.schemer import SchemerNode
from agent_world.testing.sim_node import SimNode, Surroundings
from agent_world.testing.toy_world import WORLD_ID, make_world
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import ValidatorId

FAULTS_MS: Final = 8_000
"""Virtual time with faults."""
HEAL_MS: Final = 120_000
"""Virtual time in which the healed cluster must have grown; it is left as soon as it has."""
GROWTH_BLOCKS: Final = 3
"""Blocks above the highest head at healing that every honest node must reach."""
NODE_OF: Final[Mapping[Vice, type[SimNode]]] = {
    Vice.SILENT: SilentNode,
    Vice.TWIN: TwinNode,
    Vice.INVALID: InvalidNode,
    Vice.WITHHOLD: WithholdNode,
    Vice.LIAR: LiarNode,
    Vice.SCHEMER: SchemerNode,
}
"""Which node plays which part; a TWIN is made twice."""
ADVERSARIAL_EVERY: Final = 10
"""Seeds divisible by this run the adversarial schedule (D8)."""


@attrs.frozen(kw_only=True)
class Faults:
    """What is done to one cluster."""

    nodes: int
    vices: tuple[Vice, ...] = ()
    """One for each Byzantine validator."""
    links: LinkFaults = CALM
    partitions: bool = False
    crash_permille: int = 0
    """Chance of dying at each persistence step."""
    down_max: int = 1
    """Honest validators that may be down at once."""
    drift_permille_max: int = 0
    change_sets: bool = False
    create_empty_blocks: bool = True
    adversarial: bool = False
    ruses: bool = False
    """Schemers also vote in the names of honest validators without their keys, and who holds a lock dies with it."""


@attrs.frozen(kw_only=True)
class Report:
    """How one simulation went."""

    seed: int
    faults: Faults
    violations: tuple[Violation, ...]
    digest: str
    """Equal for equal seeds on every machine."""
    heights: Mapping[str, int]
    virtual_ms: int
    counters: Mapping[str, int]


def draw_faults(seed: int, nodes: int | None = None) -> Faults:
    """The faults of a seed; ``nodes`` fixes the number of validators."""
    rng = Random(f"faults {seed}")
    drawn = rng.randint(4, 7)  # drawn also if it is not used: naming the drawn number changes nothing
    count = nodes or drawn
    adversarial = seed % ADVERSARIAL_EVERY == 0
    bad_max = (count - 1) // 3
    bad = bad_max if adversarial else rng.randint(0, bad_max)
    choices = [Vice.SCHEMER] if adversarial else [vice for vice in Vice if vice is not Vice.SCHEMER]
    drawn_faults = Faults(
        nodes=count,
        vices=tuple(rng.choice(choices) for _ in range(bad)),
        links=LinkFaults(
            delay_min_ms=1,
            delay_max_ms=rng.choice((5, 20, 60)),
            spike_percent=rng.choice((0, 2, 10)),
            loss_percent=rng.choice((0, 1, 5, 20)),
            duplicate_percent=rng.choice((0, 5)),
        ),
        partitions=rng.randrange(2) == 0,
        crash_permille=rng.choice((0, 2, 10)),
        down_max=count if rng.randrange(5) == 0 else max(1, (count - 1) // 3),
        drift_permille_max=rng.choice((0, 10)),
        change_sets=rng.randrange(5) < 2,
        create_empty_blocks=rng.randrange(2) == 0,
        adversarial=adversarial,
        ruses=adversarial and seed // ADVERSARIAL_EVERY % 2 == 1,
    )
    if adversarial:  # other faults would only spoil the schemes
        calm = attrs.evolve(drawn_faults.links, loss_percent=0, spike_percent=0, delay_max_ms=20)
        return attrs.evolve(drawn_faults, links=calm, partitions=False, crash_permille=0)
    return drawn_faults


class Cluster:
    """The nodes of one simulation with everything that happens to them."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.seed = seed
        self.faults = faults
        self.rng = Random(f"cluster {seed}")
        self.bus = Bus(Random(f"bus {seed}"), faults.links)
        bad = len(faults.vices)
        world = make_world(Random(f"world {seed}"), faults.nodes, bad, change_sets=faults.change_sets)
        names = list(world.keys)
        self.checker = ChainChecker(WORLD_ID, world.genesis_hash, world.sets[0].hash, world.set_by_hash)
        self.counters: Counter[str] = Counter()
        honest = frozenset(names[: faults.nodes - bad])
        self.crashing = True
        self.crash_plan: Callable[[SimNode, str], bool] = lambda _node, _step: False
        """Deaths at chosen steps, for scenarios; besides those by chance."""
        self.around = Surroundings(
            bus=self.bus,
            world=world,
            checker=self.checker,
            config=ConsensusConfig(
                block_interval_ms=50,
                create_empty_blocks=faults.create_empty_blocks,
                empty_block_interval_ms=200,
                propose_timeout_ms=300,
                vote_timeout_ms=150,
                timeout_delta_ms=100,
                rebroadcast_ms=150,
            ),
            rng=self.rng,
            honest=honest,
            crash=self._crashes,
            opened=OpenedMessages(),
            counters=self.counters,
        )
        self.adversary = Adversary(self.bus, self.rng, honest, self.counters) if faults.adversarial else None
        if self.adversary is not None:
            self.adversary.ruses = faults.ruses
        self.nodes = self._make_nodes(names)
        self.honest = [node for node in self.nodes if node.is_honest]
        if self.adversary is not None:
            self.adversary.nodes = self.nodes
            self.bus.filters.append(self.adversary.passes)

    def _make_nodes(self, names: Sequence[ValidatorId]) -> list[SimNode]:
        faults, nodes = self.faults, list[SimNode]()
        for index, name in enumerate(names):
            drift = self.rng.randint(-faults.drift_permille_max, faults.drift_permille_max)
            liar = index - (faults.nodes - len(faults.vices))
            kind = SimNode if liar < 0 else NODE_OF[faults.vices[liar]]
            node = kind(self.around, name, str(name), drift_permille=drift)
            nodes.append(node)
            if isinstance(node, SchemerNode):
                node.adversary = self.adversary
            if isinstance(node, TwinNode):
                twin = TwinNode(self.around, name, f"{name}'", drift_permille=drift)
                twin.side = 1
                nodes.append(twin)
        return [*nodes, SimNode(self.around, None, "watcher")]

    def run(self) -> None:
        """Faults, healing, growth."""
        for node in self.nodes:
            self.bus.after(self.rng.randrange(100), node.start)
        self._submit()
        if self.faults.partitions:
            self.bus.after(self.rng.randint(200, 1_500), self._cut)
        self.bus.run_until(FAULTS_MS)
        self.heal()
        self.check_growth()

    def heal(self) -> None:
        """From now on nothing fails any more, but the Byzantine stay what they are."""
        self.crashing = False
        self.bus.filters.clear()
        self.bus.faults = CALM
        self.bus.partition(Partition.NONE)
        for node in self.nodes:
            if isinstance(node, SchemerNode):
                node.adversary = None
            if not node.up:
                node.start()

    def check_growth(self) -> None:
        """Let every honest node reach GROWTH_BLOCKS above the highest head of now, or report I6."""
        before = {node.name: node.height for node in self.honest}
        wanted = max(before.values()) + GROWTH_BLOCKS
        end_ms = self.bus.now_ms + HEAL_MS
        self.bus.run_until(end_ms, lambda: all(node.height >= wanted for node in self.honest))
        for node in self.honest:
            self.checker.grown(node.name, before=before[node.name], wanted=wanted)

    def report(self) -> Report:
        """What came of it."""
        return Report(
            seed=self.seed,
            faults=self.faults,
            violations=tuple(self.checker.violations),
            digest=self.bus.digest(),
            heights={node.name: node.height for node in self.honest},
            virtual_ms=self.bus.now_ms,
            counters=dict(sorted(self.counters.items())),
        )

    def _crashes(self, node: SimNode, step: str) -> bool:
        if not self.crashing or not node.is_honest or not node.up:
            return False
        plotted = self.adversary is not None and self.adversary.crashes(node, step)
        planned = plotted or self.crash_plan(node, step)
        down = sum(not other.up for other in self.honest if other.own is not None)
        by_chance = self.rng.randrange(1_000) < self.faults.crash_permille and down < self.faults.down_max
        if not (planned or by_chance):
            return False
        # Who is to be turned while a scheme lasts must be back in time for it.
        down_ms = BACK_MS if plotted and step == PRECOMMITTED else self.rng.choice((1, 50, 400, 2_000))
        self.bus.after(down_ms, lambda: None if node.up else node.start())
        return True

    def _cut(self) -> None:
        if self.crashing:
            self.bus.partition(self.rng.choice(list(Partition)))
            self.bus.after(self.rng.randint(200, 2_500), self._cut)

    def _submit(self) -> None:
        action = ContentHash(self.rng.randbytes(32))
        for node in self.nodes:
            if node.up and self.rng.randrange(5):
                node.receive(node.number, Submitted((action,)))
        self.bus.after(self.rng.randint(20, 300), self._submit)


def simulate(seed: int, faults: Faults | None = None, *, nodes: int | None = None) -> Report:
    """Run the cluster of a seed; equal arguments give an equal ``Report.digest``."""
    cluster = Cluster(seed, faults or draw_faults(seed, nodes))
    cluster.run()
    return cluster.report()

"""What is done to a swarm on the simulated internet: partitions and crashes one after the other, and bad links."""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import Enum
from typing import Final, Protocol

import attrs
import trio

from agent_world.testing.sim_libp2p.internet import SimInternet, Weather

CALM: Final = Weather()
STORM: Final = Weather(stall_probability=0.002, cut_probability=0.0005)
"""A lost segment in 500 pieces of data, a broken connection in 2,000."""


class Fault(Enum):
    """Kinds; each lasts for a while and is over then."""

    HALVES = "halves"
    """Two halves that do not reach each other."""
    ALONE = "alone"
    """One that reaches nobody."""
    ONE_WAY = "one_way"
    """What a third sends does not arrive at the others, who are heard."""
    CRASH = "crash"
    """Processes end; their kernels tell the others."""
    POWER = "power"
    """Machines go without a word."""
    CRASH_APART = "crash_apart"
    """Processes end and come back while half of the others are behind a wall."""


class Sufferers(Protocol):
    """A swarm that things can be done to; members are named by their IP addresses."""

    internet: SimInternet

    def addresses(self) -> Sequence[str]:
        """Of all members, whether they run or not."""

    async def crash(self, address: str, *, silently: bool) -> None:
        """End a member's process."""

    async def restart(self, address: str) -> None:
        """Start it again: same key, and nothing of what it had in memory."""


@attrs.frozen(slots=True, kw_only=True)
class FaultPlan:
    """Each of ``kinds`` once, in an order drawn by the seed, each for ``each_s`` virtual seconds."""

    kinds: tuple[Fault, ...] = tuple(Fault)
    each_s: float = 6.0

    def drawn(self, rng: random.Random) -> tuple[Fault, ...]:
        """The kinds in their order."""
        return tuple(rng.sample(self.kinds, len(self.kinds)))


EVERY_FAULT: Final = FaultPlan()
"""The plan of a full run."""


async def suffer(fault: Fault, swarm: Sufferers, rng: random.Random, duration_s: float) -> None:
    """One fault, from its beginning to its end."""
    internet = swarm.internet
    internet.note("fault", fault.value)
    addresses = list(swarm.addresses())
    rng.shuffle(addresses)
    half = len(addresses) // 2
    victims = addresses[: rng.randint(1, max(1, len(addresses) // 3))]
    match fault:
        case Fault.HALVES | Fault.CRASH_APART:
            internet.partition(addresses[:half], addresses[half:])
        case Fault.ALONE:
            internet.partition(addresses[:1], addresses[1:])
        case Fault.ONE_WAY:
            internet.wall(victims, addresses[len(victims) :])
    dies = fault in (Fault.CRASH, Fault.POWER, Fault.CRASH_APART)
    for victim in victims if dies else ():
        await swarm.crash(victim, silently=fault is Fault.POWER)
    await trio.sleep(duration_s)
    if fault is not Fault.CRASH_APART:
        internet.heal()
    for victim in victims if dies else ():
        await swarm.restart(victim)
    if fault is Fault.CRASH_APART:
        await trio.sleep(duration_s / 2)
        internet.heal()

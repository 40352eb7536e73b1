"""What one seed does to a swarm of whole nodes: drawn at once, so that it can be looked at without a run."""

from __future__ import annotations

from random import Random
from typing import Final

import attrs

from agent_world.net.memory import LinkSettings
from agent_world.store.chain import COMMIT_STEPS
from agent_world.store.guard import GUARD_STEPS
from agent_world.store.replication import ACCEPT_STEPS, NOTE_STEPS
from agent_world.testing.bus import Partition
from agent_world.testing.sim_memory.traitors import Treason

LOSS: Final = 0.2
"""Of gossip and of one-way messages; as many frames of requests are sent again, which takes time."""
SHAPES: Final = tuple(shape for shape in Partition if shape is not Partition.NONE)
STEPS: Final = (*GUARD_STEPS, *(step for step in COMMIT_STEPS if not step.startswith("blob_files")))
"""Where processes die. Blobs of these worlds are too small for files of their own."""
LOG_STEPS: Final = (*NOTE_STEPS, *ACCEPT_STEPS)
"""Where they die while they write or follow the record log; …"""
LOG_STEPS_EACH: Final = 3
"""… at so many of these places in each seed, as a writer is rarely drawn."""
ERROR_MS_MAX: Final = 1_000
DRIFT_MS_PER_S_MAX: Final = 50
HOUR_MS: Final = 3_600_000
VALIDATORS: Final = (4, 5, 6, 7)
FEWER_EVERY: Final = 5
"""Seeds divisible by this may have fewer traitors than there may be, or none."""
CALM: Final = LinkSettings()


@attrs.frozen(slots=True, kw_only=True)
class MemoryPlan:
    """The faults of one seed. Every seed has all shapes of partitions, the loss, and a death at every step of chain
    and guard."""

    seed: int
    validators: int
    """In the genesis; one more waits for a seat."""
    treasons: tuple[Treason, ...]
    """Of the last validators: less than a third of them."""
    shapes: tuple[Partition, ...]
    """In their order."""
    steps: tuple[str, ...]
    """Of persistence, in the order in which somebody dies there."""
    weather: LinkSettings
    drift_ms_per_s: tuple[int, ...]
    """How fast each validator's wall clock runs away."""
    error_ms: tuple[int, ...]
    """How wrong it is at first; of some seeds one is wrong by an hour."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the validators of the genesis."""
        return tuple(f"v{number}" for number in range(1, self.validators + 1))

    @property
    def traitors(self) -> dict[str, Treason]:
        """Who does what."""
        count = len(self.treasons)
        return dict(zip(self.names[self.validators - count :], self.treasons, strict=True))


def draw_plan(seed: int, validators: int = 0) -> MemoryPlan:
    """The plan of a seed; ``validators`` fixes how many there are, else the seed draws it."""
    rng = Random(f"memory plan {seed}")
    drawn = rng.choice(VALIDATORS)  # drawn also if it is not used: naming the drawn number changes nothing
    count = validators or drawn
    faulty = rng.randint(0, (count - 1) // 3) if seed % FEWER_EVERY == 0 else (count - 1) // 3
    kinds = list(Treason)
    errors = [rng.randint(-ERROR_MS_MAX, ERROR_MS_MAX) for _ in range(count)]
    if rng.randrange(4) == 0:
        errors[0] = rng.choice((-HOUR_MS, HOUR_MS))
    return MemoryPlan(
        seed=seed,
        validators=count,
        treasons=tuple(kinds[(seed + number) % len(kinds)] for number in range(faulty)),
        shapes=tuple(rng.sample(SHAPES, len(SHAPES))),
        steps=(
            *rng.sample(STEPS, len(STEPS)),
            *Random(f"record log {seed}").sample(LOG_STEPS, LOG_STEPS_EACH),
        ),
        weather=LinkSettings(
            delay_max_s=rng.choice((0.005, 0.03)),
            gossip_loss=LOSS,
            message_loss=LOSS,
            stall=LOSS,
            gossip_duplicate=0.05,
            gossip_reorder=0.2,
            connection_loss=rng.choice((0.0, 0.001)),
        ),
        drift_ms_per_s=tuple(rng.randint(-DRIFT_MS_PER_S_MAX, DRIFT_MS_PER_S_MAX) for _ in range(count)),
        error_ms=tuple(errors),
    )

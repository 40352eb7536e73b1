"""Each invariant of the checkers, red on its own; and the bus that carries the simulations."""

from __future__ import annotations

from random import Random

import pytest

from agent_world.consensus.certificate import build_certificate
from agent_world.crypto.hashing import hash32
from agent_world.crypto.signing import Domain, sign_record
from agent_world.testing.bus import CALM, Bus, LinkFaults, Partition
from agent_world.testing.checkers import ChainChecker
from agent_world.testing.toy_world import WORLD_ID, StoredBlock, make_world
from agent_world.wire import record
from agent_world.wire.block import WorldBlock
from agent_world.wire.cid import ContentHash
from agent_world.wire.consensus import Step, Vote, VoteSignature
from agent_world.wire.ids import U32, U64, Hash32
from agent_world.wire.signed import Signed

WORLD = make_world(Random(1), 4, 1, change_sets=False)
NAMES = sorted(WORLD.keys)


def checker() -> ChainChecker:
    return ChainChecker(WORLD_ID, WORLD.genesis_hash, WORLD.sets[0].hash, WORLD.set_by_hash)


def vote(who: int, height: int, choice: Hash32 | None, step: Step = Step.PRECOMMIT) -> bytes:
    body = Vote(world_id=WORLD_ID, height=U64(height), round=U32(0), step=step, block_hash=choice)
    return sign_record(Domain.VOTE, WORLD.genesis_hash, body, WORLD.keys[NAMES[who]])


def certificate(height: int, block: bytes, voters: int = 4) -> bytes:
    votes = [record.from_bytes(Signed, vote(who, height, hash32(block)), size_max=1_024) for who in range(voters)]
    return build_certificate(votes[0].body, [VoteSignature(key=item.key, sig=item.sig) for item in votes])


def block_on(parent: bytes | None, action: int = 1) -> bytes:
    tip = None
    if parent is not None:
        header = record.from_bytes(WorldBlock, parent, size_max=4_096)
        tip = StoredBlock(block=parent, certificate=b"", header=header, block_hash=hash32(parent))
    context = WORLD.context_after(tip)
    return WORLD.build(context, 0, 0, (ContentHash(bytes([action]) * 32),))


ONE = block_on(None)
TWO = block_on(ONE)


def violated(checked: ChainChecker) -> list[str]:
    return [violation.invariant for violation in checked.violations]


def test_one_root_a_height_over_all_nodes() -> None:
    seen = checker()
    seen.same_roots({"v1": [(1, "a"), (2, "b")], "v2": [(1, "a")], "v3": []})
    assert seen.violations == []
    seen.same_roots({"v1": [(1, "a"), (2, "b")], "v2": [(1, "a"), (2, "c")]})
    assert [(item.invariant, item.node) for item in seen.violations] == [("I10", "v2")]


def test_what_was_handed_in_is_committed_everywhere() -> None:
    seen = checker()
    seen.all_committed("v1", {b"1", b"2"}, {b"2", b"1", b"3"})
    assert seen.violations == []
    seen.all_committed("v2", {b"1", b"2"}, {b"2"})
    assert [(item.invariant, item.node) for item in seen.violations] == [("I11", "v2")]


def test_a_sound_chain_violates_nothing() -> None:
    checked = checker()
    for node in ("a", "b"):
        checked.restarted(node, 0)
        checked.committed(node, ONE, certificate(1, ONE))
        checked.committed(node, TWO, certificate(2, TWO))
        checked.restarted(node, 2)
    checked.signed("a", vote(0, 1, None))
    checked.signed("a", vote(0, 1, None))
    checked.signed("a", vote(0, 1, None, Step.PREVOTE))
    checked.accused("a", "v3", honest=False)
    checked.grown("a", before=0, wanted=2)
    assert violated(checked) == []
    assert checked.heights == {"a": 2, "b": 2}


def test_i1_two_blocks_of_one_height() -> None:
    checked = checker()
    other = block_on(None, action=2)
    checked.committed("a", ONE, certificate(1, ONE))
    checked.committed("b", other, certificate(1, other))
    assert violated(checked) == ["I1"]


@pytest.mark.parametrize("bad", [b"", certificate(1, ONE, voters=1), certificate(2, ONE)])
def test_i2_a_certificate_that_proves_nothing(bad: bytes) -> None:
    checked = checker()
    checked.committed("a", ONE, bad)
    assert violated(checked) == ["I2"]


def test_i3_two_bodies_in_one_place() -> None:
    checked = checker()
    checked.signed("a", vote(0, 1, None))
    checked.signed("a, after a restart", vote(0, 1, hash32(ONE)))
    assert violated(checked) == ["I3"]


def test_i4_a_gap_or_a_foreign_parent() -> None:
    checked = checker()
    checked.committed("a", TWO, certificate(2, TWO))
    assert "I4" in violated(checked)
    checked = checker()
    other = block_on(block_on(None, action=2))
    checked.committed("a", ONE, certificate(1, ONE))
    checked.committed("a", other, certificate(2, other))
    assert violated(checked) == ["I4"]


def test_i5_a_height_that_fell() -> None:
    checked = checker()
    checked.committed("a", ONE, certificate(1, ONE))
    checked.restarted("a", 0)
    assert violated(checked) == ["I5"]


def test_i6_a_chain_that_does_not_grow() -> None:
    checked = checker()
    checked.grown("a", before=0, wanted=1)
    assert violated(checked) == ["I6"]


def test_i8_an_honest_validator_accused() -> None:
    checked = checker()
    checked.accused("a", "v0", honest=True)
    assert violated(checked) == ["I8"]


class Ear:
    def __init__(self) -> None:
        self.heard: list[object] = []

    def receive(self, source: int, message: object) -> None:
        self.heard.append((source, message))


def bus_of(count: int, faults: LinkFaults = CALM, seed: int = 1) -> tuple[Bus, list[Ear]]:
    bus = Bus(Random(seed), faults)
    ears = [Ear() for _ in range(count)]
    for ear in ears:
        bus.attach(ear)
    return bus, ears


def reached(shape: Partition, seed: int) -> set[tuple[int, int]]:
    bus, ears = bus_of(5, seed=seed)
    bus.partition(shape)
    for source in range(5):
        for target in range(5):
            if source != target:
                bus.send(source, target, "x", b"x")
    bus.run_until(1_000)
    return {(source, target) for target, ear in enumerate(ears) for source, _ in ear.heard}


@pytest.mark.parametrize(
    ("shape", "links"),
    [
        (Partition.NONE, 20),
        (Partition.HALF, 8),
        (Partition.RING, 10),
        (Partition.SINGLE, 12),
        (Partition.ASYMMETRIC, 16),
    ],
)
def test_partitions(shape: Partition, links: int) -> None:
    for seed in range(5):
        assert len(reached(shape, seed)) == links


def test_loss_duplicates_and_reorder() -> None:
    bus, ears = bus_of(2, LinkFaults(loss_percent=20, duplicate_percent=20, spike_percent=20))
    for number in range(500):
        bus.send(0, 1, number, b"")
    bus.run_until(10_000)
    numbers = [message for _, message in ears[1].heard]
    assert 300 < len(set(numbers)) < 480
    assert len(numbers) > len(set(numbers))
    assert numbers != sorted(numbers)  # type: ignore[type-var]
    assert bus.delivered == len(numbers)
    assert bus.lost > 0


def test_a_filter_stops_a_message_and_a_stop_ends_the_run() -> None:
    bus, ears = bus_of(2)
    bus.filters.append(lambda _source, _target, message: message != "secret")
    for message in ("secret", "public"):
        bus.send(0, 1, message, message.encode())
    bus.run_until(1_000, lambda: bool(ears[1].heard))
    assert [message for _, message in ears[1].heard] == ["public"]
    assert bus.now_ms < 1_000


def test_actions_of_one_time_run_in_the_order_they_were_asked_for() -> None:
    bus, _ = bus_of(1)
    ran: list[int] = []
    for number in range(5):
        bus.after(10, lambda number=number: ran.append(number))  # type: ignore[misc]
    bus.run_until(10)
    assert ran == [0, 1, 2, 3, 4]

from __future__ import annotations

from random import Random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_world.config import ReplicationConfig
from agent_world.distfs.storage_gate import SampleOutcome, decide_gate, draw_positions, required_matches

CONFIG = ReplicationConfig(gate_grace_records=16)
MATCH, MISMATCH, NOT_FOUND, TIMEOUT = (
    SampleOutcome.MATCH,
    SampleOutcome.HASH_MISMATCH,
    SampleOutcome.NOT_FOUND,
    SampleOutcome.TIMEOUT,
)


@pytest.mark.parametrize(("available", "required"), [(0, 1), (1, 1), (2, 2), (3, 2)])
def test_required_is_two_of_those_that_exist_and_at_least_one(available: int, required: int) -> None:  # G2.1
    assert required_matches(available, CONFIG) == required


def test_two_of_three_are_enough_and_one_is_not() -> None:  # T-8.5
    good = decide_gate([[MATCH], [MISMATCH, NOT_FOUND], [TIMEOUT, MATCH]], 3, CONFIG)
    assert (good.passed, good.samples, good.required, good.matches) == (True, 3, 2, 2)
    assert good.reasons == {"hash_mismatch": 1, "not_found": 1, "timeout": 1}
    bad = decide_gate([[MATCH], [MISMATCH], [TIMEOUT]], 3, CONFIG)
    assert (bad.passed, bad.detail) == (False, "network threshold unmet: 1 of 2 required matches")


def test_peers_that_do_not_answer_do_not_lower_what_is_required() -> None:  # G2.2: available = samples, not answers
    silent = decide_gate([[MATCH], [TIMEOUT], [TIMEOUT]], 3, CONFIG)
    assert (silent.passed, silent.samples, silent.required) == (False, 3, 2)


def test_without_a_peer_the_gate_fails() -> None:  # K-8.8
    for samples in ([], [[]], [[], [], []]):
        alone = decide_gate(samples, 0, CONFIG)
        assert (alone.passed, alone.detail, alone.reasons) == (False, "no peer to ask", {"no_peer": 1})


def test_with_nothing_to_sample_yet_it_passes() -> None:
    first = decide_gate([], 1, CONFIG)
    assert (first.passed, first.required, first.detail) == (True, 0, "nothing old enough to sample")


@pytest.mark.parametrize("fault", [SampleOutcome.LOCAL_MISSING, SampleOutcome.LOCAL_DAMAGED])
def test_a_fault_of_the_own_store_fails_it_whatever_peers_have(fault: SampleOutcome) -> None:  # T-8.5
    result = decide_gate([[MATCH], [MATCH], [fault]], 3, CONFIG)
    assert (result.passed, result.reasons) == (False, {fault.value: 1})


@given(st.integers(1, 60), st.integers(0, 80), st.integers(0, 20), st.integers(1, 5), st.integers())
def test_samples_are_old_different_and_as_many_as_there_are(
    first: int, count: int, grace: int, wanted: int, seed: int
) -> None:
    config = attrs.evolve(CONFIG, gate_grace_records=grace, network_samples_per_check=wanted)
    last = first + count - 1
    drawn = draw_positions(first, last, config, Random(seed).randrange)
    assert len(set(drawn)) == len(drawn) == min(wanted, max(0, count - grace))
    assert all(first <= place <= last - grace for place in drawn)


def test_samples_are_drawn_over_the_whole_history() -> None:  # K-8.8
    random = Random(1)
    drawn = [place for _ in range(400) for place in draw_positions(1, 116, CONFIG, random.randrange)]
    assert set(drawn) == set(range(1, 101))


def test_it_ends_whatever_is_drawn() -> None:
    assert draw_positions(1, 19, CONFIG, lambda _count: 0) == (1, 2, 3)

from __future__ import annotations

import attrs

from agent_world.consensus.terms import genesis_term
from agent_world.consensus.validators import ValidatorSet
from agent_world.testing.vectors_action import example_genesis
from agent_world.wire.ids import U64


def test_terms_follow_each_other_by_the_hash_of_the_set_before() -> None:
    genesis = example_genesis()
    first = genesis_term(ValidatorSet(genesis.validators))
    assert (first.version, first.from_height, first.prev_hash) == (0, 1, None)
    fewer = ValidatorSet(attrs.evolve(genesis.validators, validators=genesis.validators.validators[:3]))
    second = first.successor(U64(33), fewer)
    assert (second.version, second.from_height, second.validators) == (1, 33, fewer)
    assert second.prev_hash == first.validators.hash

from __future__ import annotations

import pytest
from small_world import AUTHORITY, Blobs, SmallWorld, key, small_genesis

from agent_world.crypto.keys import KeyPair
from agent_world.wire.genesis import Genesis
from agent_world.world.genesis import genesis_head, initial_state


@pytest.fixture
def genesis() -> Genesis:
    return small_genesis()


@pytest.fixture
def world() -> SmallWorld:
    genesis = small_genesis()
    return SmallWorld(genesis, Blobs(initial_state(genesis)[1]), genesis_head(genesis))


@pytest.fixture
def authority() -> KeyPair:
    return AUTHORITY


@pytest.fixture
def alice() -> KeyPair:
    return key(2)


@pytest.fixture
def bob() -> KeyPair:
    return key(3)

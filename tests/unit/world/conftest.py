from __future__ import annotations

import pytest
from small_world import AUTHORITY, SmallWorld, key, open_world, small_genesis

from agent_world.crypto.keys import KeyPair
from agent_world.wire.genesis import Genesis


@pytest.fixture
def genesis() -> Genesis:
    return small_genesis()


@pytest.fixture
def world() -> SmallWorld:
    return open_world(small_genesis())


@pytest.fixture
def authority() -> KeyPair:
    return AUTHORITY


@pytest.fixture
def alice() -> KeyPair:
    return key(2)


@pytest.fixture
def bob() -> KeyPair:
    return key(3)

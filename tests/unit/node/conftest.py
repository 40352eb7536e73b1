from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from keepers import CONFIG, QUOTA, Keeper, KeeperNode

from agent_world.config import ReplicasConfig
from agent_world.crypto.hashing import cid_of
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.testing.stack import make_key
from agent_world.testing.stack_actions import create, grant, pay, register
from agent_world.wire.cid import Codec
from agent_world.wire.hello import Role


def grow(chain: LedgerChain) -> None:
    """Five heights: people, gold, payments of which one fails, an object held here and one that is not, and nothing."""
    alice = make_key("alice")
    chain.do(chain.authority, register("alice"), register("bob"))
    chain.do(chain.authority, grant("alice", 100))
    chain.do(alice, pay("bob", 10), pay("bob", 1_000))
    chain.blobs.put(b"content held here")
    chain.do(
        alice,
        create("here", cid_of(b"content held here", Codec.RAW), 17),
        create("elsewhere", cid_of(b"content held elsewhere", Codec.RAW), 22),
    )
    chain.commit()


@pytest.fixture
def empty_chain(tmp_path: Path) -> Iterator[LedgerChain]:
    with LedgerChain(tmp_path / "home") as chain:
        yield chain


@pytest.fixture
def chain(empty_chain: LedgerChain) -> LedgerChain:
    grow(empty_chain)
    return empty_chain


@pytest.fixture(scope="session")
def grown_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed home with the chain of ``grow``; copy it before changing anything."""
    path = tmp_path_factory.mktemp("grown") / "home"
    with LedgerChain(path) as chain:
        grow(chain)
    return path


@pytest.fixture
def keeper_node(empty_chain: LedgerChain) -> Callable[..., KeeperNode]:
    """Makes the parts of one storage node, in a trio run with a virtual clock."""

    def make(
        config: ReplicasConfig = CONFIG, role: Role = Role.STORAGE, quota_bytes: int = QUOTA, others: int = 0
    ) -> KeeperNode:
        node = KeeperNode(empty_chain, config, role, quota_bytes)
        node.link(*[Keeper() for _ in range(others)])
        return node

    return make

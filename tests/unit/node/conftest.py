from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from keepers import CONFIG, QUOTA, SETTLED_S, Keeper, KeeperNode
from leaving import Leaving
from looking import Looking
from planned import Rounds

from agent_world.config import ReplicasConfig
from agent_world.crypto.hashing import cid_of
from agent_world.store.guard import GuardStore
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
        GuardStore.open(chain.home, chain.voter, committed_height=0).close()
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


@pytest.fixture
def leaving(keeper_node: Callable[..., KeeperNode]) -> Callable[..., Awaitable[Leaving]]:
    """Of a node that has run for long."""

    async def make(*numbers: int, keepers: int = 0) -> Leaving:
        made = Leaving(keeper_node(), *numbers)
        made.hold(*[Keeper() for _ in range(keepers)])
        await trio.sleep(SETTLED_S)  # virtual, as in every test that asks for it
        return made

    return make


@pytest.fixture
def looking(keeper_node: Callable[..., KeeperNode]) -> Callable[..., Looking]:
    """Makes a planner among five other storage nodes."""

    def make(**options: Any) -> Looking:
        return Looking(keeper_node(**{"others": 5, **options}))

    return make


@pytest.fixture
def rounds(keeper_node: Callable[..., KeeperNode]) -> Callable[..., Rounds]:
    """Makes rounds of a node of which is said beforehand what is planned."""

    def make(others: int = 5) -> Rounds:
        return Rounds(keeper_node(others=others))

    return make

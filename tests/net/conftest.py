"""Real hosts on loopback, and the ways to wait for them without guessing times."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from multiaddr import Multiaddr

from agent_world.config import MINIMAL, NetConfig
from agent_world.crypto.keys import KeyPair
from agent_world.net.counters import Counters
from agent_world.net.libp2p.host import Host, library_id, open_host
from agent_world.net.libp2p.network import Libp2pNetwork

CONFIG = MINIMAL.net
_seeds = itertools.count(1)


@asynccontextmanager
async def _networks(count: int, *, line: bool = True, config: NetConfig = CONFIG) -> AsyncIterator[list[Libp2pNetwork]]:
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(Libp2pNetwork.open(config, _key())) for _ in range(count)]
        for node, following in itertools.pairwise(nodes):
            if line:
                node.dial(following.peer_id, following.listen_addresses()[0])
                await _until(lambda node=node, other=following: _see_each_other(node, other))
        yield nodes


def _see_each_other(one: Libp2pNetwork, other: Libp2pNetwork) -> bool:
    return other.peer_id in [info.peer for info in one.peers()] and one.peer_id in [info.peer for info in other.peers()]


async def _until(condition: Callable[[], bool], seconds: float = 30) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for is told by no event
            await trio.sleep(0.01)


def _key() -> KeyPair:
    return KeyPair(next(_seeds).to_bytes(32, "big"))


@asynccontextmanager
async def _stranger(*, listen: bool = False) -> AsyncIterator[Host]:
    """A host that speaks none of our protocols; tests make it speak them wrongly."""
    config = attrs.evolve(CONFIG)
    async with open_host(config, _key(), Counters()) as host:
        if listen:
            await host.listen(config.listen)
        try:
            yield host
        finally:
            await host.close()


async def _join(host: Host, network: Libp2pNetwork) -> None:
    await host.network.dial_addr(Multiaddr(network.listen_addresses()[0]), library_id(network.peer_id))
    await _until(lambda: host.peer_id in [info.peer for info in network.peers()])


@pytest.fixture
def networks() -> Callable[..., AbstractAsyncContextManager[list[Libp2pNetwork]]]:
    """``async with networks(3) as (a, b, c)``: hosts, each connected with the next."""
    return _networks


@pytest.fixture
def stranger() -> Callable[..., AbstractAsyncContextManager[Host]]:
    return _stranger


@pytest.fixture
def join() -> Callable[[Host, Libp2pNetwork], Any]:
    """Connect a stranger with a network."""
    return _join


@pytest.fixture
def until() -> Callable[..., Any]:
    """Wait for a condition, 30 s at most: a limit against hanging, not a promise."""
    return _until


@pytest.fixture
def new_key() -> Callable[[], KeyPair]:
    return _key

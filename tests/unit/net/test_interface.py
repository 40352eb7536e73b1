"""Both implementations have what the interface names, with the same parameters."""

import inspect

import pytest

from agent_world.net.inbox import Inbox
from agent_world.net.interface import DistributedDht, DistributedNetwork, Subscription
from agent_world.net.libp2p.dht import Libp2pDht
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.net.memory_dht import InMemoryDht
from agent_world.net.memory_node import InMemoryNode

PAIRS = [
    (InMemoryNode, DistributedNetwork),
    (Libp2pNetwork, DistributedNetwork),
    (InMemoryDht, DistributedDht),
    (Libp2pDht, DistributedDht),
    (Inbox, Subscription),
]


@pytest.mark.parametrize(("implementation", "interface"), PAIRS)
def test_methods_and_parameters_agree(implementation: type, interface: type) -> None:
    names = [name for name, value in vars(interface).items() if callable(value) and not name.startswith("_")]
    assert names
    for name in names:
        ours, theirs = getattr(implementation, name), getattr(interface, name)
        assert inspect.iscoroutinefunction(ours) is inspect.iscoroutinefunction(theirs), name
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters), name
        assert ours.__doc__, name

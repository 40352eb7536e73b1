"""What agents do in the stack tier: come into the world, get gold, pay each other, name content."""

from __future__ import annotations

from typing import Final

from agent_world.crypto.hashing import actor_id_of
from agent_world.testing.node_swarm import NodeSwarm, make_key
from agent_world.wire.action import CreateObject, GrantResource, RegisterAgent, TransferResource
from agent_world.wire.cid import Cid
from agent_world.wire.ids import U64, ActorId, Hash32, Name
from agent_world.world import queries

GOLD: Final = Name("gold")
PEOPLE: Final = ("alice", "bob")


def actor(name: str) -> ActorId:
    """Actor id of the person of this name."""
    return actor_id_of(make_key(name).public_key)


def register(name: str) -> RegisterAgent:
    """Bring a person into the world."""
    return RegisterAgent(name=Name(name), public_key=make_key(name).public_key, registration_quota=U64(0))


def grant(name: str, amount: int) -> GrantResource:
    """Give a person gold."""
    return GrantResource(resource=GOLD, to_actor_id=actor(name), amount=U64(amount))


def pay(to: str, amount: int) -> TransferResource:
    """Pay gold to a person."""
    return TransferResource(resource=GOLD, to_actor_id=actor(to), amount=U64(amount))


def create(object_id: str, content: Cid, size_bytes: int) -> CreateObject:
    """Make an object whose content is stored by those who care."""
    return CreateObject(object_id=Name(object_id), content=content, size_bytes=U64(size_bytes))


async def applied(stack: NodeSwarm, name: str, *action_ids: Hash32) -> None:
    """Wait at a node until these actions are committed; AssertionError unless every receipt says ok."""
    for action_id in action_ids:
        receipt = await stack.receipt(name, action_id)
        assert (receipt["outcome"], receipt["code"]) == ("applied", "ok"), receipt


async def found_people(stack: NodeSwarm, name: str) -> None:
    """Alice and Bob come into the world through this node; Alice gets 100 gold."""
    payloads = (*map(register, PEOPLE), grant("alice", 100))
    await applied(stack, name, *[stack.submit(name, stack.authority, payload) for payload in payloads])


async def trade(stack: NodeSwarm, *at: str) -> None:
    """After ``found_people``, Alice pays Bob 10 gold six times, handing in at these nodes in turn."""
    await found_people(stack, at[0])
    await stack.until_height(stack.top(), *at)
    for turn in range(6):
        name = at[turn % len(at)]
        await applied(stack, name, stack.submit(name, make_key("alice"), pay("bob", 10)))
    await stack.until_height(stack.top(), *at)


def balances(stack: NodeSwarm, name: str) -> dict[str, int]:
    """Gold of the people in a node's state."""
    state = stack.node(name).ledger.state
    return {who: queries.balance(state, actor(who), GOLD) for who in PEOPLE}

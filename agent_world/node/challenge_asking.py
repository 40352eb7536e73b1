"""Putting a question while the own copy, by which the answer is judged, is read."""

from __future__ import annotations

from typing import Final

import trio

from agent_world.distfs.challenge_round import ChallengeRound
from agent_world.errors import Refused
from agent_world.net.interface import DistributedNetwork
from agent_world.wire import rpc

TURNS_UNTIL_SENT: Final = 3
"""Turns of the loop until a question has left: a slot, the queue, the write. Reading sooner would hold it up."""


async def ask_commitment(network: DistributedNetwork, made: ChallengeRound, payload: bytes, timeout_s: float) -> bytes:
    """The target's answer; raises Refused."""
    refused = None
    data = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_read_own_copy, made)
        try:
            data = await network.request(made.target, rpc.CHALLENGE, payload, timeout_s=timeout_s)
        except Refused as error:  # not through the nursery, which would put it into a group
            refused = error
    if refused is not None:
        raise refused
    return data


async def _read_own_copy(made: ChallengeRound) -> None:
    for _ in range(TURNS_UNTIL_SENT):
        await trio.lowlevel.checkpoint()
    made.read_own_copy()

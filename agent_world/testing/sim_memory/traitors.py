"""Validators of the stack tier that do not follow the rules: whole nodes whose network is not honest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from random import Random
from typing import Any, Final

import attrs

from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, sign_record
from agent_world.errors import DecodeError
from agent_world.handlers.consensus import CHANNEL
from agent_world.net.interface import DistributedNetwork, RequestHandler
from agent_world.wire import record, rpc
from agent_world.wire.consensus import Proposal, Vote
from agent_world.wire.ids import Hash32, PeerId, PublicKey
from agent_world.wire.limits import PROPOSAL_BYTES_MAX
from agent_world.wire.signed import Signed

CONSENSUS_TOPICS: Final = (".consensus.proposal", ".consensus.attestation")
LIED_METHODS: Final = (rpc.GET_BLOCKS, rpc.GET_WORLD_HEAD, rpc.FETCH_BLOBS)
HONEST_VOTES: Final = 40
TWINS_MAX: Final = 64
"""Contradictions remembered, so that a repeat contradicts in the same words; above it all are forgotten."""


class Treason(StrEnum):
    """What a Byzantine validator does."""

    SILENT = "silent"
    """Hears everything and says nothing in consensus."""
    WITHHOLD = "withhold"
    """Shows each message to some only."""
    DOUBLE = "double"
    """Votes and proposes twice: one thing to these, another to those, both to some."""
    GARBAGE = "garbage"
    """Sends noise, altered messages and votes in others' names, and answers requests with noise."""


@attrs.define(slots=True)
class Traitor:
    """What the network of a traitor needs to know."""

    treason: Treason
    key: KeyPair
    genesis_hash: Hash32
    rng: Random
    others: tuple[PublicKey, ...]
    """Keys of validators in whose names votes are forged."""
    build: Callable[[int], bytes | None] = lambda _round: None
    """Another block for its turn in this round."""
    told: Counter[str] = attrs.Factory(Counter)
    """Lies so far, by their kind."""
    _patience: int = HONEST_VOTES
    """Votes left in which to wait for a turn to propose: after the first contradiction the seat is soon lost."""
    _twins: dict[bytes, bytes | None] = attrs.Factory(dict)

    def sayings(self, data: bytes, listener: str) -> tuple[bytes, ...]:
        """What is told to this listener in place of an honest message."""
        choice = Random(f"{listener} {hash32(data).hex()}").randrange(3)
        match self.treason:
            case Treason.SILENT:
                self.told["lie.nothing"] += 1
                return ()
            case Treason.WITHHOLD:
                self.told["lie.withheld"] += choice == 0
                return (data,) if choice else ()
            case Treason.DOUBLE:
                twin = self._twin(data)
                return (data,) if twin is None else ((data,), (twin,), (data, twin))[choice]
            case Treason.GARBAGE:
                self.told["lie.noise"] += choice == 0
                return (data, self._noise(data)) if choice == 0 else (data,)

    def _twin(self, data: bytes) -> bytes | None:
        """A message for the same place with another content, signed with the same key."""
        if data not in self._twins:
            if len(self._twins) >= TWINS_MAX:
                self._twins.clear()
            self._twins[data] = self._contradict(record.from_bytes(Signed, data, size_max=PROPOSAL_BYTES_MAX))
        return self._twins[data]

    def _contradict(self, signed: Signed) -> bytes | None:
        if signed.key != self.key.public_key:
            return None  # relayed, and not its own
        try:
            vote = record.from_bytes(Vote, signed.body, size_max=PROPOSAL_BYTES_MAX)
        except DecodeError:
            proposal = record.from_bytes(Proposal, signed.body, size_max=PROPOSAL_BYTES_MAX)
            block = None if proposal.valid_round is not None else self.build(int(proposal.round))
            if block is None:
                return None
            other = attrs.evolve(proposal, block=block, actions=())
            self.told["lie.second_proposal"] += 1
            return sign_record(Domain.PROPOSAL, self.genesis_hash, other, self.key)
        if not self.told["lie.second_proposal"] and self._patience:
            self._patience -= 1
            return None
        choice = None if vote.block_hash is not None else hash32(b"nowhere")
        self.told["lie.second_vote"] += 1
        return sign_record(Domain.VOTE, self.genesis_hash, attrs.evolve(vote, block_hash=choice), self.key)

    def _noise(self, data: bytes) -> bytes:
        kind = self.rng.randrange(3)
        if kind == 0:
            return self.rng.randbytes(self.rng.randint(1, 300))
        if kind == 1:
            place = self.rng.randrange(len(data))
            return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        signed = record.from_bytes(Signed, data, size_max=PROPOSAL_BYTES_MAX)
        return record.to_bytes(attrs.evolve(signed, key=self.rng.choice(self.others)))


class TraitorNetwork:
    """Satisfies ``DistributedNetwork`` over an honest one."""

    def __init__(self, inner: DistributedNetwork, traitor: Traitor) -> None:
        self._inner = inner
        self._traitor = traitor

    async def publish(self, topic: str, data: bytes) -> None:
        """Gossip; of consensus messages what a traitor makes of them."""
        sayings = self._traitor.sayings(data, "") if topic.endswith(CONSENSUS_TOPICS) else (data,)
        for said in sayings:
            await self._inner.publish(topic, said)

    def send(self, peer: PeerId, channel: str, payload: bytes) -> bool:
        """Send; of consensus messages what a traitor makes of them."""
        sayings = self._traitor.sayings(payload, peer) if channel == CHANNEL else (payload,)
        return all(self._inner.send(peer, channel, said) for said in sayings)

    def serve(self, method: str, handler: RequestHandler) -> None:
        """Answer; one that sends garbage answers so, too, every other time."""

        async def answer(peer: PeerId, data: bytes) -> bytes:
            if self._traitor.treason is Treason.GARBAGE and self._traitor.rng.randrange(2):
                self._traitor.told["lie.answer"] += 1
                return self._traitor.rng.randbytes(40)
            return await handler(peer, data)

        self._inner.serve(method, answer if method in LIED_METHODS else handler)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

"""Heads, votes and a quorum of three for the tests of the count-based quorum."""

from __future__ import annotations

import attrs
import pytest

from agent_world.consensus.quorum import QuorumConsensus
from agent_world.consensus.quorum_records import (
    QuorumConfig,
    QuorumDecision,
    QuorumRefusal,
    QuorumRefused,
    QuorumVote,
)
from agent_world.crypto.hashing import hash32
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.head import WorldHead
from agent_world.wire.ids import U64, Name, TimeMs, ValidatorId, WorldId

W = WorldId("w1")
A, B, C, D = (ValidatorId(name) for name in "abcd")


def head(height: int, variant: str = "x", world: WorldId = W) -> WorldHead:
    text = f"{world} {height} {variant}".encode()
    return WorldHead(
        world_id=world,
        height=U64(height),
        block_hash=hash32(text),
        state_root=Cid(Codec.DAG_CBOR, ContentHash(hash32(b"state " + text))),
        timestamp_ms=TimeMs(1_000 + height),
    )


def vote(who: ValidatorId, approve: bool = True, at_ms: int = 5, reason: str | None = None) -> QuorumVote:
    return QuorumVote(
        validator_id=who,
        approve=approve,
        reason=None if reason is None else Name(reason),
        voted_at_ms=TimeMs(at_ms),
    )


def three(max_records: int = 4_096) -> QuorumConsensus:
    return QuorumConsensus(QuorumConfig(validators=("a", "b", "c"), max_records_per_world=max_records))


def propose(quorum: QuorumConsensus, height: int, variant: str = "x", who: ValidatorId = A) -> QuorumDecision:
    return quorum.propose_head(head(height, variant), who, TimeMs(1))


def say(
    quorum: QuorumConsensus, height: int, who: ValidatorId, approve: bool = True, variant: str = "x", attempt: int = 0
) -> QuorumDecision:
    return quorum.vote_head(W, height, head(height, variant).block_hash, vote(who, approve), attempt=attempt)


def commit(quorum: QuorumConsensus, height: int, variant: str = "x") -> QuorumDecision:
    attempt = propose(quorum, height, variant).attempt
    return say(quorum, height, B, variant=variant, attempt=attempt)


def reject(quorum: QuorumConsensus, height: int, variant: str = "x") -> QuorumDecision:
    attempt = propose(quorum, height, variant).attempt
    say(quorum, height, B, False, variant, attempt)
    return say(quorum, height, C, False, variant, attempt)


class Refuses:
    """``with refuses(why, quorum):`` the call inside is refused for that reason and leaves the state as it was."""

    def __init__(self, why: QuorumRefusal, quorum: QuorumConsensus) -> None:
        self._raises = pytest.raises(QuorumRefused)
        self._why, self._quorum, self._before = why, quorum, quorum.state()
        self._refused = quorum.refused[why]

    def __enter__(self) -> None:
        self._caught = self._raises.__enter__()

    def __exit__(self, kind: object, value: object, trace: object) -> bool:
        swallowed = self._raises.__exit__(kind, value, trace)  # type: ignore[arg-type]
        assert self._caught.value.why is self._why
        assert self._quorum.state() == self._before
        assert self._quorum.refused[self._why] == self._refused + 1
        return swallowed


refuses = Refuses


def renamed(found: WorldHead, world: WorldId) -> WorldHead:
    return attrs.evolve(found, world_id=world)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from agent_world.consensus.light import OtherSet
from agent_world.errors import ErrorCode, Refused, RemoteError
from agent_world.handlers.head import HeadHandler
from agent_world.net.interface import Verdict
from agent_world.wire import record
from agent_world.wire.head import CertifiedHead, GetWorldHeadRequest
from agent_world.wire.ids import U64, Hash32, PeerId, TimeMs, WorldId

Make = Callable[..., CertifiedHead]
Learned = list[tuple[PeerId, CertifiedHead]]


@pytest.fixture
def learned() -> Learned:
    return []


@pytest.fixture
def handler(chain: Any, learned: Learned) -> HeadHandler:
    return HeadHandler(chain, lambda peer, certified: learned.append((peer, certified)))


def changed(certified: CertifiedHead, **changes: object) -> CertifiedHead:
    return attrs.evolve(certified, head=attrs.evolve(certified.head, **changes))


def rule_of(handler: HeadHandler, certified: CertifiedHead) -> str:
    with pytest.raises(RemoteError) as caught:
        handler.open_head(record.to_bytes(certified))
    return caught.value.rule


def test_a_certified_head_is_learned(handler: HeadHandler, learned: Learned, head: Make, peer: PeerId) -> None:
    news = head(4)
    assert handler.open_head(record.to_bytes(news)) == news
    assert handler.validate(peer, record.to_bytes(news)) is Verdict.ACCEPT
    assert learned == [(peer, news)]


def test_h1_another_world(handler: HeadHandler, head: Make, peer: PeerId, learned: Learned) -> None:
    foreign = head(4, world=WorldId("another"))
    assert rule_of(handler, foreign) == "H1"
    assert handler.validate(peer, record.to_bytes(foreign)) is Verdict.REJECT
    assert learned == []


@pytest.mark.parametrize(
    "changes",
    [
        {"height": U64(5)},
        {"block_hash": Hash32(bytes(32))},
        {"timestamp_ms": TimeMs(1)},
        {"state_root": None},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_h2_a_head_that_differs_from_its_block(
    handler: HeadHandler, head: Make, changes: dict[str, Any]
) -> None:  # T-8.9, T-8.10
    if "state_root" in changes:
        changes = {"state_root": head(9).head.state_root}
    assert rule_of(handler, changed(head(4), **changes)) == "H2"


def test_h3_no_certificate(handler: HeadHandler, head: Make, chain: Any) -> None:
    assert rule_of(handler, head(4, certificate=b"forged")) == "C1"
    assert chain.certified == [4]
    handler.open_head(record.to_bytes(head(3, certificate=b"forged")))  # not above the committed height
    assert chain.certified == [4]


def test_h4_nothing_new(handler: HeadHandler, head: Make, peer: PeerId, learned: Learned, chain: Any) -> None:
    assert handler.validate(peer, record.to_bytes(head(chain.height))) is Verdict.IGNORE
    assert learned == []


def test_height_0_needs_no_proof(handler: HeadHandler, head: Make) -> None:
    empty = attrs.evolve(changed(head(4), height=U64(0)), block=b"", certificate=b"")
    assert handler.open_head(record.to_bytes(empty)).head.height == 0


@pytest.mark.parametrize("data", [b"", b"\xff", bytes(100_000)])
def test_garbage_is_rejected(handler: HeadHandler, peer: PeerId, data: bytes) -> None:
    assert handler.validate(peer, data) is Verdict.REJECT


async def test_the_head_is_served_to_this_world(handler: HeadHandler, head: Make, peer: PeerId) -> None:
    answer = await handler.serve_head(peer, record.to_bytes(GetWorldHeadRequest(world_id=WorldId("w"))))
    assert handler.open_head(answer) == head(3)
    with pytest.raises(Refused) as caught:
        await handler.serve_head(peer, record.to_bytes(GetWorldHeadRequest(world_id=WorldId("another"))))
    assert (caught.value.code, caught.value.rule) == (ErrorCode.BAD_REQUEST, "H1")


def test_h5_a_head_of_a_set_that_is_not_proved_here(
    handler: HeadHandler, learned: Learned, head: Make, peer: PeerId
) -> None:
    asked: list[PeerId] = []
    handler.unproved = asked.append
    with pytest.raises(OtherSet):
        handler.open_head(record.to_bytes(head(91)))
    assert handler.validate(peer, record.to_bytes(head(91))) is Verdict.IGNORE
    assert asked == [peer]
    assert learned == []

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from agent_world.errors import DecodeError, ErrorCode, Ignored, Refused, RemoteError
from agent_world.handlers.replication import ReplicationHandler, open_commit, open_offered, open_records
from agent_world.net.interface import Verdict
from agent_world.wire import record
from agent_world.wire.ids import U64, PeerId, ValidatorId, WorldId
from agent_world.wire.replication import (
    FetchCommitRequest,
    GetRecordsRequest,
    OfferRecordRequest,
    OfferRecordResponse,
    RecordOutcome,
)

WORLD = WorldId("w")


@attrs.define
class Log:
    """What becomes of every record is said beforehand."""

    outcome: RecordOutcome | Exception = RecordOutcome.TAKEN
    world_id: WorldId = WORLD
    taken: list[tuple[bytes, PeerId]] = attrs.Factory(list)

    def take(self, data: bytes, source: PeerId) -> RecordOutcome:
        self.taken.append((data, source))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def committed_lease(self) -> tuple[U64, ValidatorId | None]:
        return U64(3), ValidatorId("b")

    def place(self) -> tuple[int, int]:
        return (3, 8)

    def records_after(self, place: tuple[int, int]) -> Sequence[bytes]:
        return [b"%d.%d" % (place[0], sequence) for sequence in range(place[1] + 1, 4)]

    def commit_record(self, height: int) -> bytes | None:
        return b"record of 5" if height == 5 else None


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (RecordOutcome.TAKEN, Verdict.ACCEPT),
        (RecordOutcome.MISSING, Verdict.ACCEPT),
        (RecordOutcome.KNOWN, Verdict.IGNORE),
        (RecordOutcome.WAITING, Verdict.IGNORE),
        (RecordOutcome.SUPERSEDED, Verdict.IGNORE),
        (Ignored("W6", "early"), Verdict.IGNORE),
        (RemoteError("W5", "no signature"), Verdict.REJECT),
    ],
)
def test_gossip_is_handed_on_when_it_is_new_and_true(
    peer: PeerId, outcome: RecordOutcome | Exception, verdict: Verdict
) -> None:
    log = Log(outcome)
    assert ReplicationHandler(log).validate(peer, b"record") is verdict
    assert log.taken == [(b"record", peer)]


async def test_who_offers_is_told_what_became_of_it_and_who_is_the_writer(peer: PeerId) -> None:  # K-8.9
    handler = ReplicationHandler(Log(RecordOutcome.SUPERSEDED))
    answer = await handler.serve_offer(peer, record.to_bytes(OfferRecordRequest(record=b"record")))
    assert open_offered(answer) == OfferRecordResponse(
        outcome=RecordOutcome.SUPERSEDED, term=U64(3), holder_id=ValidatorId("b"), last_epoch=U64(3),
        last_sequence=U64(8),
    )  # fmt: skip


async def test_an_offered_record_that_is_none_is_refused_with_its_rule(peer: PeerId) -> None:  # T-8.4
    handler = ReplicationHandler(Log(RemoteError("W7", "no lease")))
    with pytest.raises(RemoteError, match="W7"):
        await handler.serve_offer(peer, record.to_bytes(OfferRecordRequest(record=b"record")))


async def test_records_after_a_place(peer: PeerId) -> None:
    request = GetRecordsRequest(world_id=WORLD, after_epoch=U64(2), after_sequence=U64(1))
    answer = open_records(await ReplicationHandler(Log()).serve_records(peer, record.to_bytes(request)))
    assert (answer.records, answer.term, answer.holder_id) == ((b"2.2", b"2.3"), 3, "b")


async def test_a_commit_that_is_here_and_one_that_is_not(peer: PeerId) -> None:  # T-8.2, K-8.7
    handler = ReplicationHandler(Log())
    wanted = FetchCommitRequest(world_id=WORLD, height=U64(5))
    assert open_commit(await handler.serve_commit(peer, record.to_bytes(wanted))) == b"record of 5"
    with pytest.raises(Refused) as caught:
        await handler.serve_commit(peer, record.to_bytes(attrs.evolve(wanted, height=U64(6))))
    assert (caught.value.code, caught.value.rule) == (ErrorCode.NOT_FOUND, "W12")


async def test_another_world_is_refused(peer: PeerId) -> None:
    handler, other = ReplicationHandler(Log()), WorldId("w2")
    for serve, request in (
        (handler.serve_records, GetRecordsRequest(world_id=other, after_epoch=U64(0), after_sequence=U64(0))),
        (handler.serve_commit, FetchCommitRequest(world_id=other, height=U64(5))),
    ):
        with pytest.raises(Refused) as caught:
            await serve(peer, record.to_bytes(request))
        assert (caught.value.code, caught.value.rule) == (ErrorCode.BAD_REQUEST, "W11")


async def test_requests_and_answers_that_cannot_be_read(peer: PeerId) -> None:
    handler = ReplicationHandler(Log())
    for serve in (handler.serve_offer, handler.serve_records, handler.serve_commit):
        with pytest.raises(DecodeError):
            await serve(peer, b"\xff")
    for opening in (open_offered, open_records, open_commit):
        with pytest.raises(DecodeError):
            opening(b"\xff")

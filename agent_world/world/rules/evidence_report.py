"""evidence.report: two messages by which a validator contradicted itself cost it its seat (D4)."""

from __future__ import annotations

from agent_world.consensus.evidence import verify_evidence
from agent_world.consensus.set_change import without
from agent_world.errors import RemoteError
from agent_world.wire.evidence import EquivocationEvidence
from agent_world.wire.ids import U32, U64
from agent_world.wire.limits import EQUIVOCATIONS_LISTED_MAX
from agent_world.world.epochs import coming_validators, drop_changes_that_seat, put_coming
from agent_world.world.events import EquivocationRecorded
from agent_world.world.reasons import EVIDENCE_INVALID, EVIDENCE_KNOWN, RuleRefusal, refuse_unless
from agent_world.world.records import (
    EQUIVOCATION_LIST,
    EQUIVOCATIONS,
    KEY_OWNERS,
    WORLD,
    EquivocationPlace,
    EquivocationRecord,
    EquivocationsRecord,
)
from agent_world.world.rules.context import RuleContext


def report_evidence(context: RuleContext, payload: EquivocationEvidence) -> None:
    """Put the equivocation on record; with ``slash_equivocation`` the validator is in no set from the next epoch on.

    Anybody may report. The last validator of a world keeps its seat: an empty set could never be changed again.
    """
    state = context.state
    world = state.need(WORLD)
    try:
        proved = verify_evidence(payload, world.world_id, world.genesis_hash)
    except RemoteError:
        raise RuleRefusal(EVIDENCE_INVALID) from None
    owner = state.get(KEY_OWNERS, proved.key.hex())
    refuse_unless(owner is not None and owner.validator_id == payload.validator_id, EVIDENCE_INVALID)
    place = (proved.key.hex(), str(proved.height), str(proved.round))
    refuse_unless(state.get(EQUIVOCATIONS, *place) is None, EVIDENCE_KNOWN)
    found = EquivocationRecord(
        validator_id=payload.validator_id,
        kind=proved.kind,
        evidence=context.action_id,
        recorded_at_height=U64(context.height),
    )
    state.put(EQUIVOCATIONS, found, *place)
    newest = EquivocationPlace(key=proved.key, height=U64(proved.height), round=U32(proved.round))
    listed = state.get(EQUIVOCATION_LIST) or EquivocationsRecord(count=U64(0), newest=())
    state.put(
        EQUIVOCATION_LIST,
        EquivocationsRecord(count=U64(listed.count + 1), newest=(newest, *listed.newest)[:EQUIVOCATIONS_LISTED_MAX]),
    )
    coming = coming_validators(state)
    left = without(coming, payload.validator_id) if world.slash_equivocation else coming
    put_coming(state, left)
    if world.slash_equivocation:
        drop_changes_that_seat(state, payload.validator_id, context.emit)
    context.emit(
        EquivocationRecorded(
            validator_id=payload.validator_id,
            kind=proved.kind,
            height=U64(proved.height),
            round=U32(proved.round),
            loses_seat=left != coming,
        )
    )

from __future__ import annotations

import attrs
from small_world import WORLD_ID, SmallWorld, open_world, small_genesis, validator_key

from agent_world.consensus.evidence import make_evidence
from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, sign_record
from agent_world.wire import record
from agent_world.wire.consensus import Step, Vote
from agent_world.wire.evidence import EquivocationEvidence, EvidenceKind
from agent_world.wire.ids import U32, U64, Label, ValidatorId
from agent_world.wire.limits import EQUIVOCATIONS_LISTED_MAX
from agent_world.wire.membership import ChangeKind, MembershipApproval, MembershipChange
from agent_world.world.epochs import open_changes
from agent_world.world.events import EquivocationRecorded, MembershipDecided
from agent_world.world.records import EQUIVOCATION_LIST, EQUIVOCATIONS, NEXT_VALIDATORS

LIAR = validator_key(4)


def evidence(
    world: SmallWorld, *, who: KeyPair = LIAR, name: str = "v4", round: int = 0, step: Step = Step.PREVOTE
) -> EquivocationEvidence:
    votes = [
        sign_record(
            Domain.VOTE,
            world.genesis_hash,
            Vote(world_id=WORLD_ID, height=U64(3), round=U32(round), step=step, block_hash=hash32(choice)),
            who,
        )
        for choice in (b"a", b"b")
    ]
    return make_evidence(WORLD_ID, ValidatorId(name), *votes)


def members(world: SmallWorld) -> list[str] | None:
    found = world.state.get(NEXT_VALIDATORS)
    return None if found is None else [entry.validator_id for entry in found.validators]


def test_anybody_may_report_and_the_offender_is_in_no_later_set(world: SmallWorld, alice: KeyPair) -> None:
    world.join(alice)
    assert world.do(alice, evidence(world)) == "ok"
    assert members(world) == ["v1", "v2", "v3"]
    (event,) = world.sealed[-1].execution.events
    assert record.from_bytes(EquivocationRecorded, event.payload_cbor, size_max=999) == EquivocationRecorded(
        validator_id=ValidatorId("v4"), kind=EvidenceKind.DOUBLE_PREVOTE, height=U64(3), round=U32(0), loses_seat=True
    )
    found = world.state.get(EQUIVOCATIONS, LIAR.public_key.hex(), "3", "0")
    assert found is not None
    assert (found.validator_id, found.recorded_at_height) == ("v4", world.head.height)


def test_what_is_on_record_is_not_recorded_again(world: SmallWorld, authority: KeyPair) -> None:
    assert world.do(authority, evidence(world)) == "ok"
    assert world.do(validator_key(1), evidence(world)) == "evidence_known"
    assert world.do(authority, evidence(world, step=Step.PRECOMMIT)) == "evidence_known"
    assert world.do(authority, evidence(world, round=1)) == "ok"
    listed = world.state.need(EQUIVOCATION_LIST)
    assert (listed.count, [place.round for place in listed.newest]) == (2, [1, 0])


def test_the_list_is_bounded_and_the_count_is_not(world: SmallWorld, authority: KeyPair) -> None:
    for round_ in range(EQUIVOCATIONS_LISTED_MAX + 2):
        assert world.do(authority, evidence(world, round=round_)) == "ok"
    listed = world.state.need(EQUIVOCATION_LIST)
    assert (listed.count, len(listed.newest)) == (EQUIVOCATIONS_LISTED_MAX + 2, EQUIVOCATIONS_LISTED_MAX)


def test_what_proves_nothing_here(world: SmallWorld, authority: KeyPair, alice: KeyPair) -> None:
    good = evidence(world)
    assert world.do(authority, attrs.evolve(good, kind=EvidenceKind.DOUBLE_PRECOMMIT)) == "evidence_invalid"
    assert world.do(authority, attrs.evolve(good, validator_id=ValidatorId("v3"))) == "evidence_invalid"
    assert world.do(authority, evidence(world, who=alice)) == "evidence_invalid"
    assert members(world) is None


def test_with_the_switch_off_it_is_on_record_only(authority: KeyPair) -> None:
    world = open_world(small_genesis(slash_equivocation=False))
    assert world.do(authority, evidence(world)) == "ok"
    assert members(world) is None
    assert world.state.need(EQUIVOCATION_LIST).count == 1


def test_a_change_that_was_filed_before_does_not_seat_it_again(authority: KeyPair) -> None:
    """Half of the approvals were given without knowing of the contradiction."""
    world = open_world(small_genesis())
    everybody = world.genesis.validators.validators
    smaller = tuple(attrs.evolve(entry, stake=U64(20)) for entry in everybody[:3])
    seats_it = MembershipChange(
        kind=ChangeKind.REPLACE, validators=(*smaller, everybody[3]), removed=(), with_lease=False, reason=None
    )
    other = attrs.evolve(seats_it, validators=smaller)
    change, kept = world.sign(validator_key(3), seats_it), world.sign(validator_key(3), other)
    world.commit(change, kept)
    assert world.do(authority, evidence(world)) == "ok"
    decided, _recorded = world.sealed[-1].execution.events
    assert record.from_bytes(MembershipDecided, decided.payload_cbor, size_max=999) == MembershipDecided(
        change_id=change.action_id, approved=False, code=Label("change_seats_offender")
    )
    assert open_changes(world.state) == (kept.action_id,)
    approval = MembershipApproval(change_id=change.action_id, approve=True)
    assert world.do(LIAR, approval) == "change_unknown"
    assert members(world) == ["v1", "v2", "v3"]
    # Whoever wants it back says so anew.
    again = world.sign(validator_key(3), seats_it)
    world.commit(again, world.sign(LIAR, attrs.evolve(approval, change_id=again.action_id)))
    assert members(world) == ["v1", "v2", "v3", "v4"]


def test_the_last_validator_keeps_its_seat(world: SmallWorld, authority: KeyPair) -> None:
    for number in (4, 3, 2, 1):
        assert world.do(authority, evidence(world, who=validator_key(number), name=f"v{number}")) == "ok"
    assert members(world) == ["v1"]

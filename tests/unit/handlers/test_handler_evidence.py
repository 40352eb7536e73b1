from __future__ import annotations

import attrs
import pytest

from agent_world.consensus.evidence import Equivocation, make_evidence
from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, sign_record
from agent_world.errors import Ignored
from agent_world.handlers.evidence import EvidenceHandler
from agent_world.net.interface import Verdict
from agent_world.wire import record
from agent_world.wire.consensus import Step, Vote
from agent_world.wire.evidence import EquivocationEvidence, EvidenceKind
from agent_world.wire.ids import U32, U64, Hash32, PeerId, PublicKey, ValidatorId, WorldId

LIAR = KeyPair(hash32(b"liar"))


@attrs.define
class Known:
    """One validator, v1, with the liar's key."""

    world_id: WorldId = WorldId("w")
    genesis_hash: Hash32 = hash32(b"genesis")
    recorded: set[Equivocation] = attrs.Factory(set)
    taken: list[Equivocation] = attrs.Factory(list)

    def key_owner(self, key: PublicKey) -> ValidatorId | None:
        return ValidatorId("v1") if key == LIAR.public_key else None

    def is_recorded(self, proved: Equivocation) -> bool:
        return proved in self.recorded

    def take(self, _evidence: EquivocationEvidence, proved: Equivocation) -> None:
        self.taken.append(proved)
        self.recorded.add(proved)

    def evidence(self, who: KeyPair = LIAR, name: str = "v1") -> EquivocationEvidence:
        votes = [
            sign_record(
                Domain.VOTE,
                self.genesis_hash,
                Vote(world_id=self.world_id, height=U64(5), round=U32(0), step=Step.PREVOTE, block_hash=hash32(choice)),
                who,
            )
            for choice in (b"a", b"b")
        ]
        return make_evidence(self.world_id, ValidatorId(name), *votes)


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
def handler(known: Known) -> EvidenceHandler:
    return EvidenceHandler(known, known.take)


def test_true_and_new_evidence_is_taken_once(known: Known, handler: EvidenceHandler, peer: PeerId) -> None:
    data = record.to_bytes(known.evidence())
    assert handler.validate(peer, data) is Verdict.ACCEPT
    assert known.taken == [Equivocation(key=LIAR.public_key, height=5, round=0, kind=EvidenceKind.DOUBLE_PREVOTE)]
    assert handler.validate(peer, data) is Verdict.IGNORE
    assert len(known.taken) == 1


def test_what_is_wrong_is_refused(known: Known, handler: EvidenceHandler, peer: PeerId) -> None:
    wrong = attrs.evolve(known.evidence(), kind=EvidenceKind.DOUBLE_PRECOMMIT)
    for data in (b"", record.to_bytes(wrong)):
        assert handler.validate(peer, data) is Verdict.REJECT
    assert known.taken == []


@pytest.mark.parametrize(("who", "name"), [(KeyPair(hash32(b"stranger")), "v1"), (LIAR, "v2")])
def test_a_key_that_is_not_known_here_is_nobodys_fault(
    known: Known, handler: EvidenceHandler, peer: PeerId, who: KeyPair, name: str
) -> None:
    data = record.to_bytes(known.evidence(who, name))
    with pytest.raises(Ignored) as caught:
        handler.open(data)
    assert caught.value.rule == "E7"
    assert handler.validate(peer, data) is Verdict.IGNORE

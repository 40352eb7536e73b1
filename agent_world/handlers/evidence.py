"""protocols/evidence: equivocations that others have seen, by gossip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from agent_world.consensus.evidence import Equivocation, open_evidence, verify_evidence
from agent_world.errors import Ignored, RemoteError
from agent_world.net.interface import Verdict
from agent_world.wire.evidence import EquivocationEvidence
from agent_world.wire.ids import Hash32, PeerId, PublicKey, ValidatorId, WorldId


class EvidenceView(Protocol):
    """What this node knows of validators and their faults."""

    world_id: WorldId
    genesis_hash: Hash32

    def key_owner(self, key: PublicKey) -> ValidatorId | None:
        """Whose validator key this is or was; None if nobody's."""
        ...

    def is_recorded(self, proved: Equivocation) -> bool:
        """Whether a block has recorded it, or it waits here to be recorded."""
        ...


class EvidenceHandler:
    """Judges evidence; what is true and new is handed to ``take``."""

    def __init__(self, view: EvidenceView, take: Callable[[EquivocationEvidence, Equivocation], None]) -> None:
        self._view = view
        self._take = take

    def open(self, data: bytes) -> tuple[EquivocationEvidence, Equivocation]:
        """Evidence against a validator of this world; raises RemoteError (E1 to E6) and Ignored (E7)."""
        evidence = open_evidence(data)
        proved = verify_evidence(evidence, self._view.world_id, self._view.genesis_hash)
        # [IGNORE] E7: the key is of the validator that is named, as far as this node knows.
        if self._view.key_owner(proved.key) != evidence.validator_id:
            raise Ignored("E7", f"no key of validator {evidence.validator_id} known here")
        return evidence, proved

    def validate(self, _publisher: PeerId, data: bytes) -> Verdict:
        """Gossip on ``aw.<world>.consensus.evidence``."""
        try:
            evidence, proved = self.open(data)
        except Ignored:
            return Verdict.IGNORE
        except RemoteError:
            return Verdict.REJECT
        # [IGNORE] E8: not known here already.
        if self._view.is_recorded(proved):
            return Verdict.IGNORE
        self._take(evidence, proved)
        return Verdict.ACCEPT

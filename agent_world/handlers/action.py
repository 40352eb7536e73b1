"""protocols/action: bundles of signed actions by gossip, judged item by item."""

from __future__ import annotations

from agent_world.errors import DecodeError, Refused
from agent_world.handlers.submit import Admission
from agent_world.net.interface import Verdict
from agent_world.wire import record
from agent_world.wire.action import ActionBundle
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import GOSSIP_ACTIONS_MAX, GOSSIP_BYTES_MAX

BLAMELESS_RULES = frozenset({"A7", "A9", "A10", "A11", "A12", "A13", "A14"})
"""Rules that an honest publisher may break: its state may be older or newer than ours, its pool fuller."""


class ActionHandler:
    """Gossip on ``aw.<world>.action``."""

    def __init__(self, admit: Admission) -> None:
        self._admit = admit

    def validate(self, publisher: PeerId, data: bytes) -> Verdict:
        """ACCEPT if any action is new here; REJECT if any is wrong whatever the state; else IGNORE."""
        try:
            bundle = record.from_bytes(ActionBundle, data, size_max=GOSSIP_BYTES_MAX)
        except DecodeError:
            return Verdict.REJECT
        if not 1 <= len(bundle.actions) <= GOSSIP_ACTIONS_MAX:
            return Verdict.REJECT
        verdict = Verdict.IGNORE
        for action in bundle.actions:
            try:
                is_new = self._admit(action, source=publisher).is_new
            except Refused as error:
                if error.rule not in BLAMELESS_RULES:
                    verdict = Verdict.REJECT
            else:
                if is_new and verdict is Verdict.IGNORE:
                    verdict = Verdict.ACCEPT
        return verdict

"""protocols/consensus: signed proposals and votes, on kept streams and by gossip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agent_world.consensus.context import HeightContext
from agent_world.consensus.messages import FarAhead, Message, open_message
from agent_world.errors import Ignored, RemoteError
from agent_world.net.interface import Verdict
from agent_world.wire.ids import PeerId

CHANNEL: Final = "consensus"
"""Name of the kept stream between validators."""


class ConsensusHandler:
    """Opens messages against the height being decided and hands them to the engine."""

    def __init__(self, context: Callable[[], HeightContext], take: Callable[[Message], None]) -> None:
        self._context = context
        self._take = take
        self.is_known: Callable[[bytes], bool] = lambda _data: False
        """Whether these very bytes were verified and taken before; then they are left alone."""
        self.refused: Callable[[str], None] = lambda _rule: None
        """Told the rule of every message that was not taken."""
        self.left_behind: Callable[[PeerId], None] = lambda _peer: None
        """Told who sent a message from far ahead, so that it can be asked for proof of its height."""

    async def on_message(self, peer: PeerId, data: bytes) -> None:
        """A message on the kept stream; the sender may relay others' messages, the signature counts."""
        if self.is_known(data):
            return
        try:
            self._take(open_message(data, self._context()))
        except Ignored as ignored:
            self.refused(ignored.rule)
            if isinstance(ignored, FarAhead):
                self.left_behind(peer)
        except RemoteError as error:
            self.refused(error.rule)
            raise

    def validate(self, _publisher: PeerId, data: bytes) -> Verdict:
        """Gossip on ``aw.<world>.consensus.proposal`` and ``aw.<world>.consensus.attestation``."""
        if self.is_known(data):
            return Verdict.ACCEPT
        try:
            self._take(open_message(data, self._context()))
        except Ignored as ignored:
            self.refused(ignored.rule)
            return Verdict.IGNORE
        except RemoteError as error:
            self.refused(error.rule)
            return Verdict.REJECT
        return Verdict.ACCEPT

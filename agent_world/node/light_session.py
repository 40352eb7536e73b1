"""One run of the light verifier: a trusted head, and rounds of questions from there."""

from __future__ import annotations

from typing import Any

import attrs

from agent_world.errors import RemoteError, Unavailable, UsageError
from agent_world.node.asked_peers import AskedPeers
from agent_world.node.light_client import LightClient, Round
from agent_world.node.light_start import Start, find_start, start_at_genesis
from agent_world.sync.light_follow import ProvedBlock
from agent_world.sync.trust_anchor import TrustAnchor, trust_anchor
from agent_world.wire import record
from agent_world.wire.genesis import Genesis
from agent_world.wire.ids import Hash32, Label, PeerId
from agent_world.world.genesis import genesis_hash


@attrs.frozen(slots=True, kw_only=True)
class Verified:
    """A verified head, as it is shown and kept."""

    is_new: bool
    shown: dict[str, Any]
    anchor: TrustAnchor | None
    """None for the genesis, which needs none."""


class LightSession:
    """Rounds of questions, and what they come to for people."""

    def __init__(self, peers: AskedPeers, genesis: Genesis, start: Start) -> None:
        self._client = LightClient(peers, start.head)
        self._genesis = genesis
        self._genesis_root = peers.genesis_head.state_root
        self._start = start
        self.rounds = 0
        """How many came to a head."""

    @classmethod
    async def begin(
        cls, peers: AskedPeers, genesis: Genesis, trust: tuple[int, Hash32] | TrustAnchor | None, source: str
    ) -> LightSession:
        """From the genesis, a kept anchor that was read from ``source``, or a block that some peer must have.

        Raises UsageError, or as ``LightClient.round`` if nobody has the block.
        """
        if trust is None:
            return cls(peers, genesis, start_at_genesis(genesis))
        if isinstance(trust, TrustAnchor):
            head = trust_anchor(trust, genesis.world_id, genesis_hash(genesis), source)
            return cls(peers, genesis, Start(head=head, data=trust.block))
        return cls(peers, genesis, await find_start(peers, genesis, *trust))

    @property
    def passed_over(self) -> dict[PeerId, str]:
        """Whose word did not count, and why, as of the last round."""
        found = {**self._start.liars, **self._client.passed_over}
        return {peer: str(why) for peer, why in sorted(found.items())}

    async def look(self, state_key: tuple[Label, bytes] | None, *, patient: bool) -> Verified | None:
        """The verified head after one more round, with the value of a key of its state if one is asked for.

        Raises as ``LightClient.round``; a ``patient`` caller gets None instead while a peer that may be honest is only
        out of reach or behind: liars who were found out do not end the run of those who wait for it.
        """
        try:
            found = await self._client.round()
            verified = await self._verified(found, state_key)
        except (RemoteError, Unavailable, UsageError):
            if not patient or not self._client.may_recover:
                raise
            return None
        self.rounds += 1
        return verified

    async def _verified(self, found: Round, state_key: tuple[Label, bytes] | None) -> Verified:
        shown = self._described(found)
        if state_key is not None:
            namespace, key = state_key
            value = await self._client.state_value(shown["state_root"], namespace, key)
            shown["state"] = {
                "namespace": namespace,
                "key": key.decode(),
                "is_there": value is not None,
                "value": value,
            }
        anchor = None if found.head is None else self._anchor(found.head)
        return Verified(is_new=found.is_new, shown=shown, anchor=anchor)

    def _described(self, found: Round) -> dict[str, Any]:
        proved, trusted = found.head, self._start.head
        if proved is None:
            at = self._at_start()
        else:
            at = {
                "height": proved.block.height,
                "block_hash": proved.block_hash,
                "state_root": proved.block.state_root,
                "timestamp_ms": proved.block.timestamp_ms,
                "epoch": proved.block.epoch,
                "validators_hash": proved.validators.hash,
                "next_validators_hash": proved.block.next_validators_hash,
                "signed_stake": proved.signed_stake,
                "required_stake": proved.validators.required_stake,
                "total_stake": proved.validators.total_stake,
                "signed_by": list(proved.signers),
                "sets_crossed": self._client.follower.sets_crossed(proved.peer),
            }
        return {
            "world_id": trusted.world_id,
            "genesis_hash": trusted.genesis_hash,
            **at,
            "trusted_height": trusted.height,
            "trusted_hash": trusted.block_hash,
            "agreed_by": list(found.agreeing),
            "passed_over": self.passed_over,
        }

    def _at_start(self) -> dict[str, Any]:
        """The trusted head, above which nothing is proved: no certificate of it was seen."""
        block, head = self._start.block, self._start.head
        return {
            "height": head.height,
            "block_hash": head.block_hash,
            "state_root": self._genesis_root if block is None else block.state_root,
            "timestamp_ms": self._genesis.genesis_time_ms if block is None else block.timestamp_ms,
            "epoch": 0 if block is None else block.epoch,
            "validators_hash": head.validators.hash if block is None else block.validators_hash,
            "next_validators_hash": head.validators.hash,
            "signed_stake": 0,
            "required_stake": head.validators.required_stake,
            "total_stake": head.validators.total_stake,
            "signed_by": [],
            "sets_crossed": 0,
        }

    def _anchor(self, proved: ProvedBlock) -> TrustAnchor:
        successor = self._client.follower.successor(proved)
        assert successor is not None, "a round accepts a head only with the set that decides after it"
        return TrustAnchor(
            world_id=proved.block.world_id,
            genesis_hash=self._start.head.genesis_hash,
            block_hash=proved.block_hash,
            height=int(proved.block.height),
            state_root=str(proved.block.state_root),
            block=proved.data,
            validators=record.to_bytes(successor.record),
        )

"""What status pages and commands show of validators, and what an operator asks of this node's own one."""

from __future__ import annotations

from typing import Any, Final

from agent_world.errors import ErrorCode, Refused
from agent_world.node.chain_views import change_rows
from agent_world.node.epoch_report import epoch_report
from agent_world.node.filing import Filing
from agent_world.node.lease_keeper import LeaseKeeper, lease_of
from agent_world.node.node import Node
from agent_world.wire.block import Outcome, Receipt
from agent_world.wire.consensus import ValidatorSetRecord
from agent_world.world.epochs import coming_validators, epoch_of_next, open_changes
from agent_world.world.reasons import OK
from agent_world.world.records import VALIDATORS

ASK_S: Final = 45.0
"""Longest wait for a block that an operator's command leads to; below the CLI's own time-out."""


def validator_status(node: Node) -> dict[str, Any]:
    """For ``node status``: the sets in short, open changes, equivocations, the lease."""
    state = node.ledger.state
    current, coming = state.need(VALIDATORS), coming_validators(state)
    return {
        "epoch": epoch_of_next(state),
        "current": _stakes(current),
        "coming": None if coming == current else _stakes(coming),
        "open_changes": len(open_changes(state)),
        "equivocations": node.equivocations.status(),
        "lease": {**lease_of(node.ledger), **({} if node.lease is None else node.lease.status())},
    }


def _stakes(validators: ValidatorSetRecord) -> dict[str, int]:
    return {entry.validator_id: entry.stake for entry in validators.validators}


class ValidatorControl:
    """Satisfies ``validator_control.ValidatorControlView``."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def changes(self) -> list[dict[str, Any]]:
        """The open changes of the set, oldest first."""
        return change_rows(self._node.ledger.state)

    async def epoch(self, epoch: int | None) -> dict[str, Any]:
        """What happened in an epoch, by default in this one."""
        return await epoch_report(self._node.ledger, self._node.blobs.get, epoch)

    async def file(self, payload: object) -> dict[str, Any]:
        """Have this node's validator sign an action, and wait for its block."""
        action_id, height, receipt = await self._filing().file(payload, timeout_s=ASK_S)
        return {"action_id": action_id, "height": height, **_shown(receipt)}

    def lease(self) -> dict[str, Any]:
        """Who holds the lease; also on a node without a vote."""
        keeper = self._node.lease
        own = {"held_here": False, "keeps_it": False} if keeper is None else keeper.status()
        return {**lease_of(self._node.ledger), **own}

    async def acquire_lease(self, ttl_ms: int | None, *, keep: bool) -> dict[str, Any]:
        """Ask for the lease; with ``keep`` go on renewing it until it is released or this node stops."""
        receipt = await self._keeper().acquire(ttl_ms, keep=keep, timeout_s=ASK_S)
        # Held already, and kept from now on: no block had to be asked.
        shown = {"outcome": Outcome.APPLIED.value, "code": OK} if receipt is None else _shown(receipt)
        return {**shown, **self.lease()}

    async def release_lease(self) -> dict[str, Any]:
        """Give the lease up, and no longer try to hold it."""
        keeper = self._keeper()
        receipt = await keeper.release(timeout_s=ASK_S)
        return {**_shown(receipt), **self.lease()}

    def _filing(self) -> Filing:
        filing = self._node.filing
        if filing is None:
            raise Refused(ErrorCode.UNAUTHORIZED, "this node has no validator key; ask one that has")
        return filing

    def _keeper(self) -> LeaseKeeper:
        keeper = self._node.lease
        if keeper is None:
            raise Refused(ErrorCode.UNAUTHORIZED, "this node has no validator key; only validators hold the lease")
        return keeper


def _shown(receipt: Receipt) -> dict[str, Any]:
    return {"outcome": receipt.outcome.value, "code": receipt.code}

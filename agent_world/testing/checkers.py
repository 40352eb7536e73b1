"""The invariants of a chain and its voters. Every tier of tests reports to the same checkers (D8)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet

import attrs

from agent_world.consensus.certificate import verify_certificate
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import hash32
from agent_world.errors import RemoteError
from agent_world.wire import record
from agent_world.wire.block import WorldBlock
from agent_world.wire.consensus import Proposal, Step, Vote
from agent_world.wire.ids import Hash32, PublicKey, WorldId
from agent_world.wire.limits import HEADER_BYTES_MAX, PROPOSAL_BYTES_MAX
from agent_world.wire.signed import Signed


@attrs.frozen(slots=True)
class Violation:
    """A broken invariant: which, on which node, and what was seen."""

    invariant: str
    node: str
    detail: str


class ChainChecker:
    """Told what honest nodes commit and sign; collects what must never be.

    I1 one block a height over all nodes and restarts; I2 certificates verify with the set that the parent named;
    I3 no honest key signs two bodies for one (height, round, step); I4 a node's heights are contiguous and each
    block names its parent; I5 a node's committed height never falls, also across restarts; I6 the chain grows once
    faults are over; I7 only blocks that execute are committed; I8 no honest validator is accused by evidence;
    I9 an honest node never doubts what it has made itself; I10 one state root a height over all nodes and restarts;
    I11 once faults are over, what was handed in is committed at every node; I12 an honest engine never asks its guard
    for what contradicts what it has signed, which the guard would refuse.
    """

    def __init__(
        self,
        world_id: WorldId,
        genesis_hash: Hash32,
        genesis_set: Hash32,
        set_by_hash: Callable[[Hash32], ValidatorSet],
    ) -> None:
        self._world_id = world_id
        self._genesis_hash = genesis_hash
        self._genesis_set = genesis_set
        self._set_by_hash = set_by_hash
        self._chain: dict[int, tuple[Hash32, WorldBlock]] = {}
        self._heights: dict[str, int] = {}
        self._bodies: dict[tuple[PublicKey, int, int, Step], bytes] = {}
        self.violations: list[Violation] = []

    @property
    def heights(self) -> Mapping[str, int]:
        """Committed height by node."""
        return self._heights

    @property
    def places(self) -> AbstractSet[tuple[PublicKey, int, int, Step]]:
        """Key, height, round and step of everything that honest nodes have signed."""
        return self._bodies.keys()

    def report(self, invariant: str, node: str, detail: str) -> None:
        """Note a violation that somebody else has seen, such as I6 or I7."""
        self.violations.append(Violation(invariant, node, detail))

    def committed(self, node: str, block: bytes, certificate: bytes) -> None:
        """A node has made this block durable."""
        header = record.from_bytes(WorldBlock, block, size_max=HEADER_BYTES_MAX)
        block_hash, height = hash32(block), header.height
        if height != self._heights.get(node, 0) + 1:
            self.report("I4", node, f"committed {height} after {self._heights.get(node, 0)}")
        self._heights[node] = max(height, self._heights.get(node, 0))
        known = self._chain.get(height)
        if known is not None:
            if known[0] != block_hash:
                self.report("I1", node, f"height {height}: {block_hash.hex()[:16]} and {known[0].hex()[:16]}")
            return
        self._check_parent_and_certificate(node, header, block_hash, certificate)
        self._chain[height] = (block_hash, header)

    def _check_parent_and_certificate(
        self, node: str, header: WorldBlock, block_hash: Hash32, certificate: bytes
    ) -> None:
        parent = self._chain.get(header.height - 1)
        parent_hash = self._genesis_hash if parent is None else parent[0]
        if header.prev_block_hash != parent_hash:
            self.report("I4", node, f"height {header.height} does not follow its parent")
        set_hash = self._genesis_set if parent is None else parent[1].next_validators_hash
        try:
            verify_certificate(
                certificate,
                self._world_id,
                self._genesis_hash,
                self._set_by_hash(set_hash),
                height=header.height,
                block_hash=block_hash,
            )
        except RemoteError as error:
            self.report("I2", node, f"height {header.height}: {error}")

    def signed(self, node: str, data: bytes) -> None:
        """An honest validator has let this encoded Signed proposal or vote leave the guard."""
        signed = record.from_bytes(Signed, data, size_max=PROPOSAL_BYTES_MAX)
        try:
            vote = record.from_bytes(Vote, signed.body, size_max=PROPOSAL_BYTES_MAX)
            place = (signed.key, int(vote.height), int(vote.round), vote.step)
        except RemoteError:
            proposal = record.from_bytes(Proposal, signed.body, size_max=PROPOSAL_BYTES_MAX)
            place = (signed.key, int(proposal.height), int(proposal.round), Step.PROPOSE)
        if self._bodies.setdefault(place, signed.body) != signed.body:
            self.report("I3", node, f"two bodies for {place[3]} at height {place[1]} round {place[2]}")

    def restarted(self, node: str, height: int) -> None:
        """A node has come up again with this committed height."""
        if height < self._heights.get(node, 0):
            self.report("I5", node, f"height {height} after {self._heights[node]}")

    def emptied(self, node: str) -> None:
        """Its home was reset or cut short by hand: it begins anew. What it signed still counts (I3)."""
        self._heights.pop(node, None)

    def accused(self, node: str, validator: str, *, honest: bool) -> None:
        """A node has found evidence against a validator."""
        if honest:
            self.report("I8", node, f"evidence against {validator}, which is honest")

    def grown(self, node: str, *, before: int, wanted: int) -> None:
        """Faults are over and time was given: the node must have gone on from ``before`` to ``wanted``."""
        if self._heights.get(node, 0) < wanted:
            self.report("I6", node, f"height {self._heights.get(node, 0)}, wanted {wanted}; {before} when faults ended")

    def same_roots(self, histories: Mapping[str, Sequence[tuple[int, str]]]) -> None:
        """(height, state root) of each node in the order of its commits."""
        known: dict[int, tuple[str, str]] = {}
        for node, history in histories.items():
            for height, root in history:
                first, expected = known.setdefault(height, (node, root))
                if root != expected:
                    self.report("I10", node, f"height {height} has the root {root}, {expected} at {first}")

    def all_committed(self, node: str, wanted: Collection[bytes], committed: Collection[bytes]) -> None:
        """Ids of the actions that were handed in anywhere, and of those with a receipt at this node."""
        missing = set(wanted) - set(committed)
        if missing:
            self.report("I11", node, f"{len(missing)} of {len(wanted)} actions are not committed")

"""Following a chain by what several peers show of it, none of them believed, without executing it (D4). Pure.

Every peer has a path of its own from the trusted head: the boundaries that it has shown, each checked. So no peer's
word decides by which set another one is judged, and who lies first does not make liars of the others. Whatever is
proved at one height must be one block; two are a fork.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final

import attrs

from agent_world.consensus.light import TrustedHead, check_head, cross, open_block
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import hash32
from agent_world.errors import ForkProved, Ignored, RemoteError
from agent_world.wire import record
from agent_world.wire.block import WorldBlock
from agent_world.wire.consensus import CommitCertificate
from agent_world.wire.head import CertifiedHead
from agent_world.wire.ids import Hash32, PeerId, ValidatorId
from agent_world.wire.limits import CERTIFICATE_BYTES_MAX
from agent_world.wire.membership import EpochBoundary

PATH_HEADS_MAX: Final = 1_024
"""Sets of a peer's path that are kept; what lies below the oldest of them is not judged any more."""
PROVED_MAX: Final = 4_096
"""Heights whose proved block is remembered, to be compared with what others show; the lowest is forgotten."""


@attrs.frozen(slots=True, kw_only=True)
class ProvedBlock:
    """A block with the certificate of the set that decides its height."""

    peer: PeerId
    """Who showed it."""
    block: WorldBlock
    block_hash: Hash32
    data: bytes
    """The encoded block."""
    certificate: bytes
    validators: ValidatorSet
    """The set that has decided it."""
    signers: tuple[ValidatorId, ...]
    signed_stake: int

    @property
    def is_boundary(self) -> bool:
        """Whether another set decides after it."""
        return self.block.next_validators_hash != self.validators.hash


class Fork(ForkProved):
    """Two proved blocks of one height, with all that proves it."""

    def __init__(self, first: ProvedBlock, second: ProvedBlock) -> None:
        both = sorted(set(first.signers) & set(second.signers))
        named = f"; signed by both: {', '.join(both)}" if both else ""
        super().__init__(
            first.block.height,
            f"{first.peer} shows {first.block_hash.hex()}, {second.peer} shows {second.block_hash.hex()}, and both are"
            f" certified: a third of the stake or more is faulty{named}",
        )
        self.first = first
        self.second = second


class _Path:
    """The sets that one peer has proved, the trusted head's first."""

    def __init__(self, start: TrustedHead) -> None:
        self.heads: deque[TrustedHead] = deque([start], maxlen=PATH_HEADS_MAX)
        self.crossed = 0
        self.top = 0
        """The highest head that the peer has shown."""

    def below(self, height: int) -> TrustedHead:
        found = next((head for head in reversed(self.heads) if head.height < height), None)
        # The same rule as of any head: nothing at or below what is trusted proves anything.
        if found is None:
            raise RemoteError("G3", f"height {height} is not above {self.heads[0].height}")
        return found


class LightFollower:
    """What is proved above ``start``, and by whom."""

    def __init__(self, start: TrustedHead) -> None:
        self.start = start
        self.head: ProvedBlock | None = None
        """The highest proved block that nothing contradicts; None while there is none above the trusted head."""
        self._paths: dict[PeerId, _Path] = {}
        self._proved: OrderedDict[int, ProvedBlock] = OrderedDict()

    def tip(self, peer: PeerId) -> TrustedHead:
        """The last boundary of a peer's path: its next ones are asked for above it."""
        return self._path(peer).heads[-1]

    def sets_crossed(self, peer: PeerId) -> int:
        """How many boundaries this peer's path has."""
        return self._path(peer).crossed

    def can_judge(self, peer: PeerId, height: int) -> bool:
        """Whether the set that decides a height may be known from this peer's path."""
        return height > self._path(peer).heads[0].height

    def cross(self, peer: PeerId, boundaries: Iterable[EpochBoundary]) -> int:
        """Take the peer's next boundaries, in order; how many. Raises RemoteError or OtherSet at a wrong one, Fork."""
        path, count = self._path(peer), 0
        for boundary in boundaries:
            below = path.heads[-1]
            above = cross(below, boundary)
            self._remember(_proved(peer, boundary.block, boundary.certificate, below.validators))
            path.heads.append(above)
            path.crossed += 1
            count += 1
        return count

    def prove(self, peer: PeerId, block: bytes, certificate: bytes) -> ProvedBlock:
        """A block that this peer shows, proved by its path.

        Raises OtherSet while the path does not lead to the set that decides it, RemoteError for what is wrong, Fork.
        """
        below = self._path(peer).below(open_block(block).height)
        check_head(below, block, certificate)
        proved = _proved(peer, block, certificate, below.validators)
        self._remember(proved)
        return proved

    def prove_head(self, peer: PeerId, certified: CertifiedHead) -> ProvedBlock | None:
        """The peer's head, as ``prove``; None for one that is not above the trusted head, which proves nothing.

        Raises Ignored too for a head lower than the peer has shown before (H4).
        """
        path, height = self._path(peer), certified.head.height
        if height < path.top:
            raise Ignored("H4", f"shows height {height} after it has shown {path.top}")
        if height <= self.start.height:
            self._compare_with_start(certified)
            return None
        proved = self.prove(peer, certified.block, certified.certificate)
        path.top = height
        return proved

    def accept(self, proved: ProvedBlock) -> bool:
        """Take a proved block that was compared with the other peers' as the head if it is higher; whether it is."""
        if self.head is not None and proved.block.height <= self.head.block.height:
            return False
        self.head = proved
        return True

    def successor(self, proved: ProvedBlock) -> ValidatorSet | None:
        """The set that decides after a proved block; None if it ends an epoch and that set is not proved."""
        if not proved.is_boundary:
            return proved.validators
        known = (head.validators for head in self._path(proved.peer).heads if head.block_hash == proved.block_hash)
        return next(known, None)

    def _path(self, peer: PeerId) -> _Path:
        return self._paths.setdefault(peer, _Path(self.start))

    def _compare_with_start(self, certified: CertifiedHead) -> None:
        head, start = certified.head, self.start
        if head.height == start.height and head.block_hash != start.block_hash:
            raise RemoteError("G3", f"shows block {head.block_hash.hex()} at the trusted height {start.height}")

    def _remember(self, proved: ProvedBlock) -> None:
        known = self._proved.setdefault(proved.block.height, proved)
        if known.block_hash != proved.block_hash:
            raise Fork(known, proved)
        while len(self._proved) > PROVED_MAX:
            del self._proved[min(self._proved)]


def _proved(peer: PeerId, data: bytes, certificate: bytes, validators: ValidatorSet) -> ProvedBlock:
    signatures = record.from_bytes(CommitCertificate, certificate, size_max=CERTIFICATE_BYTES_MAX).signatures
    members = [entry for one in signatures if (entry := validators.by_key(one.key)) is not None]
    return ProvedBlock(
        peer=peer,
        block=open_block(data),
        block_hash=hash32(data),
        data=data,
        certificate=certificate,
        validators=validators,
        signers=tuple(sorted(entry.validator_id for entry in members)),
        signed_stake=sum(entry.stake for entry in members),
    )

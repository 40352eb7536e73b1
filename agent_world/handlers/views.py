"""What handlers may see of the node: small interfaces that ``node`` satisfies and tests can fake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent_world.wire.block import BlockBundle, Receipt
from agent_world.wire.cid import ContentHash
from agent_world.wire.head import CertifiedHead
from agent_world.wire.ids import U64, ActorId, Hash32, WorldId


class ChainView(Protocol):
    """The committed chain of one world."""

    world_id: WorldId
    genesis_hash: Hash32

    @property
    def height(self) -> int:
        """Committed height; 0 with genesis only."""
        ...

    def certified_head(self) -> CertifiedHead:
        """The head with what proves it."""
        ...

    def bundle(self, height: int) -> BlockBundle | None:
        """Block, certificate and action bodies; None above the committed height."""
        ...

    def receipt(self, action_id: Hash32) -> tuple[U64, Receipt] | None:
        """Height and receipt of a committed action."""
        ...

    def next_nonce(self, actor_id: ActorId) -> int | None:
        """The nonce of the actor's next action; None for an unknown actor."""
        ...

    def check_head(self, block: bytes, certificate: bytes, height: int) -> object:
        """Raise RemoteError unless the certificate commits this block at this height, above the committed one.

        Raises OtherSet while the set that decides there is not proved here.
        """
        ...


class BlobView(Protocol):
    """Content that this node can serve."""

    def find_blobs(self, hashes: Sequence[ContentHash]) -> list[bytes | None]:
        """Verified bytes in the order asked; None for what is not here."""
        ...

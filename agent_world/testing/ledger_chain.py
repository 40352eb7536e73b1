"""A chain made directly on a home, without network, consensus or time: for tests of what reads it.

It has one validator, or several that sign every block.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from agent_world.consensus.certificate import build_certificate
from agent_world.crypto.hashing import hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, sign
from agent_world.node.ledger import Ledger
from agent_world.node.settings import NodeSettings
from agent_world.store.blobs import LocalCasStore
from agent_world.store.chain import ChainStore
from agent_world.store.home import Home
from agent_world.testing.node_swarm import GENESIS_TIME_MS, WORLD_ID, make_genesis, make_key
from agent_world.wire import record
from agent_world.wire.consensus import Step, Vote, VoteSignature
from agent_world.wire.hello import Role
from agent_world.wire.ids import U32, U64, Hash32, TimeMs, ValidatorId
from agent_world.world.admission import SignedAction, build_action, open_action
from agent_world.world.genesis import genesis_hash, genesis_toml

VALIDATOR: Final = ValidatorId("v1")
BLOCK_MS: Final = 1_000
"""Time between two blocks."""


class LedgerChain:
    """An open home with its ledger. Use as a context manager; ``close`` and ``reopen`` are a restart."""

    def __init__(
        self, path: Path, *, voter: KeyPair | None = None, others: Mapping[ValidatorId, KeyPair] | None = None
    ) -> None:
        """Make the home at ``path``, which must not exist; its validator is ``voter``."""
        self.path = path
        self.voter = voter or make_key("ledger chain voter")
        self.authority = make_key("ledger chain authority")
        self._others = others or {}
        voters = {VALIDATOR: self.voter, **self._others}
        self.genesis = make_genesis(self.authority, {str(name): key for name, key in voters.items()})
        self._nonces: dict[bytes, int] = {}
        Home.create(
            path,
            genesis_hash=self.genesis_hash,
            genesis_toml=genesis_toml(self.genesis),
            node_toml=NodeSettings(node_id="chain", role=Role.SEQUENCER).to_toml(),
            node_key=make_key("ledger chain node"),
            validator_key=self.voter,
        )
        self.reopen()

    def reopen(self) -> None:
        """Open the home that is there."""
        self.home = Home.open(self.path, self.genesis_hash)
        self.blobs = LocalCasStore(self.home)
        self.chain = ChainStore(self.home, self.blobs)
        self.ledger = Ledger(self.genesis, self.chain, self.blobs)

    @property
    def genesis_hash(self) -> Hash32:
        """Hash of the world's genesis."""
        return genesis_hash(self.genesis)

    def sign(self, key: KeyPair, payload: object, *, nonce: int | None = None) -> SignedAction:
        """An action with the key's next nonce, or with any."""
        if nonce is None:
            nonce = self._nonces[key.public_key] = self._nonces.get(key.public_key, 0) + 1
        data = build_action(key, self.genesis_hash, WORLD_ID, payload, nonce=nonce, timestamp_ms=GENESIS_TIME_MS)
        return open_action(data, WORLD_ID, self.genesis_hash)

    def propose(self, *actions: SignedAction) -> bytes:
        """The next block with these actions."""
        time_ms = TimeMs(self.ledger.timestamp_ms + BLOCK_MS)
        return self.ledger.build(VALIDATOR, 0, time_ms, actions)

    def certify(self, block: bytes, *, height: int | None = None) -> bytes:
        """The validators' certificate for a block, for the next height or another."""
        body = record.to_bytes(
            Vote(
                world_id=WORLD_ID,
                height=U64(self.ledger.height + 1 if height is None else height),
                round=U32(0),
                step=Step.PRECOMMIT,
                block_hash=hash32(block),
            )
        )
        votes = [sign(Domain.VOTE, self.genesis_hash, body, key) for key in (self.voter, *self._others.values())]
        return build_certificate(body, [VoteSignature(key=signed.key, sig=signed.sig) for signed in votes])

    def commit(self, *actions: SignedAction) -> None:
        """Make and commit the next block."""
        block = self.propose(*actions)
        self.ledger.commit(block, self.certify(block), actions)

    def do(self, key: KeyPair, *payloads: object) -> None:
        """Commit a block of these actions of one key."""
        self.commit(*[self.sign(key, payload) for payload in payloads])

    def close(self) -> None:
        """End the process."""
        self.home.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

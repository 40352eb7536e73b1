from __future__ import annotations

import pytest

from agent_world.errors import ChainError
from agent_world.node.replaying import Replay, need_block, row_differences
from agent_world.testing.ledger_chain import LedgerChain
from agent_world.world.trie import NodeMissing


def test_a_replay_from_genesis_reads_no_state(chain: LedgerChain) -> None:
    replay = Replay.from_genesis(chain.genesis)
    read = []

    def spy(digest: bytes) -> bytes:
        read.append(digest)
        return chain.blobs.get(digest)  # type: ignore[arg-type]

    for height in range(1, 6):
        sealed = replay.execute(need_block(chain.chain, height), spy)
        assert not list(row_differences(chain.chain, sealed))
    assert replay.head == chain.ledger.head
    assert replay.state().root == chain.ledger.state.root
    assert not set(read) & set(replay.made)


def test_a_replay_can_begin_at_a_stored_state(chain: LedgerChain) -> None:
    replay = Replay.after(chain.genesis, need_block(chain.chain, 3), chain.blobs.get)
    assert not replay.is_from_genesis
    for height in (4, 5):
        replay.execute(need_block(chain.chain, height), chain.blobs.get)
    assert replay.head == chain.ledger.head


def test_heights_follow_each_other(chain: LedgerChain) -> None:
    replay = Replay.from_genesis(chain.genesis)
    with pytest.raises(ChainError):
        replay.execute(need_block(chain.chain, 2), chain.blobs.get)
    assert replay.head.height == 0
    with pytest.raises(ChainError, match="missing"):
        need_block(chain.chain, 6)


def test_a_state_that_is_not_here_or_of_another_height_is_no_beginning(chain: LedgerChain) -> None:
    stored = need_block(chain.chain, 3)
    chain.blobs.delete(stored.header.state_root.digest)
    with pytest.raises(NodeMissing):
        Replay.after(chain.genesis, stored, chain.blobs.get)

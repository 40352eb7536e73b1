"""``node rollback``: the state of the last heights is thrown away and made again by executing their blocks.

Blocks, certificates, guard and the committed height stay (I-4): what is discarded is only what execution gives.
Everything is executed and compared before anything is written, and then written in one transaction.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from agent_world.errors import BlobHashMismatch, BlobNotFound, ChainError, DecodeError, UsageError
from agent_world.node.ledger import committed_height
from agent_world.node.replaying import Replay, need_block
from agent_world.node.stopped import read_genesis
from agent_world.store.blobs import LocalCasStore
from agent_world.store.chain import ChainStore, CommittedHeight
from agent_world.store.durable import FaultHook, no_fault
from agent_world.store.home import Home
from agent_world.wire.cid import Cid, ContentHash
from agent_world.wire.genesis import Genesis
from agent_world.world.genesis import genesis_hash
from agent_world.world.snapshot import state_blobs


@attrs.frozen(slots=True, kw_only=True)
class RolledBack:
    """What was done."""

    from_height: int
    """First height executed again."""
    height: int
    """The committed height, before and after."""
    state_root: Cid
    """Root after ``height``: the block's, and that of the execution."""
    state_blobs: int
    """Blobs of that state; all were read and are sound."""
    blobs_written: int
    """Blobs that the heights executed again put into the store."""
    blobs_repaired: int
    """How many of those had been damaged or missing."""
    actions: int


@attrs.frozen(slots=True)
class _Plan:
    heights: tuple[CommittedHeight, ...]
    done: RolledBack


def roll_back(path: Path, *, from_height: int | None = None, fault: FaultHook = no_fault) -> RolledBack:
    """Execute heights from ``from_height`` (None: the last one) again and put the result in place of what is there.

    Raises HomeError if the home is in use or its database damaged, UsageError for a height that is not committed,
    ChainError if execution gives something else than the block says, or if the state that it begins with is
    damaged too. After an error the home is as it was.
    """
    with Home.read_only(path) as home:
        genesis = read_genesis(home)
    with Home.open(path, genesis_hash(genesis)) as home:
        # Reading goes through a second, read-only opening: there, damaged blobs are found but not moved away.
        with Home.read_only(path, home.genesis_hash) as looking:
            plan = _execute_again(looking, genesis, from_height)
        ChainStore(home, LocalCasStore(home, fault=fault), fault=fault).rederive(plan.heights)
    return plan.done


def _execute_again(home: Home, genesis: Genesis, from_height: int | None) -> _Plan:
    blobs = LocalCasStore(home)
    chain = ChainStore(home, blobs)
    height = chain.committed_height
    first = height if from_height is None else from_height
    if not height:
        raise UsageError("no height is committed in this home: there is nothing to execute again")
    if not 1 <= first <= height:
        raise UsageError(f"--from {first}: heights 1 to {height} are committed")
    heights: list[CommittedHeight] = []
    fresh: dict[ContentHash, bytes] = {}
    try:
        replay = _begin(chain, blobs, genesis, first)
        begun = dict(replay.made)
        fresh.update(begun)
        for number in range(first, height + 1):
            parent, stored = replay.state(), need_block(chain, number)
            sealed = replay.execute(stored, blobs.get)
            heights.append(committed_height(sealed, stored.certificate, parent))
            fresh.update(sealed.blobs)
        whole = sum(
            1 for _ in state_blobs(replay.head.state_root, lambda digest: fresh.get(digest) or blobs.get(digest))
        )
    except (BlobNotFound, BlobHashMismatch, DecodeError) as error:
        raise ChainError(first - 1, "state", f"it is damaged too: {error}; {_further(first)}") from None
    heights[0] = attrs.evolve(heights[0], blobs={**begun, **heights[0].blobs})
    written = {digest for committed in heights for digest in committed.blobs}
    done = RolledBack(
        from_height=first,
        height=height,
        state_root=replay.head.state_root,
        state_blobs=whole,
        blobs_written=len(written),
        blobs_repaired=len(written) - len(blobs.get_many(written)),
        actions=sum(len(committed.action_ids) for committed in heights),
    )
    return _Plan(tuple(heights), done)


def _begin(chain: ChainStore, blobs: LocalCasStore, genesis: Genesis, first: int) -> Replay:
    if first == 1:
        return Replay.from_genesis(genesis)
    return Replay.after(genesis, need_block(chain, first - 1), blobs.get)


def _further(first: int) -> str:
    return f"go back further with --from {max(1, first - 1)} or less" if first > 1 else "genesis.toml is not its own"

"""Vectors of protocols/replication: one follower's log, record by record; wrong ones break one rule."""

from __future__ import annotations

from typing import Any, Final

import attrs

from agent_world.crypto.hashing import cid_of, hash32
from agent_world.crypto.signing import Domain, sign_record
from agent_world.distfs.replication import commit_path
from agent_world.testing.examples import key_of
from agent_world.testing.vectors_action import example_genesis
from agent_world.wire import record
from agent_world.wire.cid import Codec
from agent_world.wire.ids import U64, Hash32, TimeMs, ValidatorId, WorldId
from agent_world.wire.replication import FileReplicationRecord
from agent_world.world.genesis import genesis_hash

_WORLD: Final = WorldId("w1")
_BLOCKS: Final = {height: b"the block at height %d" % height for height in range(1, 13)}
_LEASES: Final = {height: ("a", 1) if height <= 6 else ("b", 2) for height in range(1, 13)}
"""Height -> who holds the lease after it, under which term."""


def _record(term: int, sequence: int, *, writer: str = "", height: int = 0, **changes: Any) -> FileReplicationRecord:
    """A file of the writer of that term."""
    height = height or (5 if term == 1 else 9)
    content = b"file of %d" % sequence
    said = FileReplicationRecord(
        world_id=_WORLD,
        writer_id=ValidatorId(writer or _LEASES[height][0]),
        writer_epoch=U64(term),
        sequence=U64(sequence),
        prev_epoch=U64(term if sequence > 1 else 0),
        prev_sequence=U64(sequence - 1),
        height=U64(height),
        path=f"files/{sequence}",
        content=cid_of(content, Codec.RAW),
        size_bytes=U64(len(content)),
        updated_at_ms=TimeMs(1_700_000_000_000),
    )
    return attrs.evolve(said, **changes)


def _commit(term: int, sequence: int, height: int, **changes: Any) -> FileReplicationRecord:
    block = _BLOCKS[height]
    said = _record(term, sequence, path=commit_path(height))
    said = attrs.evolve(said, content=cid_of(block, Codec.RAW), size_bytes=U64(len(block)))
    return attrs.evolve(said, **changes)


def _removal(term: int, sequence: int, **changes: Any) -> FileReplicationRecord:
    said = attrs.evolve(_record(term, sequence), path="files/2", content=None, size_bytes=U64(0))
    return attrs.evolve(said, **changes)


def _signed(
    said: FileReplicationRecord,
    *,
    by: str = "",
    domain: Domain = Domain.REPLICATION,
    genesis: Hash32 | None = None,
) -> bytes:
    key = key_of(f"validator {by or said.writer_id}")
    return sign_record(domain, genesis or genesis_hash(example_genesis()), said, key)


def log_vectors() -> dict[str, Any]:
    """The file ``replication/vectors/log.json``."""
    takes_over = _commit(2, 1, 9, prev_epoch=U64(1), prev_sequence=U64(2))
    steps: list[tuple[str, bytes, dict[str, Any]]] = [
        ("the first of the world", _signed(_commit(1, 1, 4)), {"outcome": "accepted"}),
        ("the same again", _signed(_commit(1, 1, 4)), {"outcome": "known"}),
        *((what, data, {"rule": rule}) for what, data, rule in _bad()),
        ("one with another missing before it", _signed(_record(1, 3)), {"outcome": "gap", "after": [1, 1]}),
        ("the next", _signed(_record(1, 2)), {"outcome": "accepted"}),
        ("the next but one, now the next", _signed(_record(1, 3)), {"outcome": "accepted"}),
        ("a new term that does not begin with 1", _signed(_record(2, 2)), {"outcome": "gap", "after": [1, 3]}),
        (
            "a new term whose writer had more",
            _signed(_record(2, 1, prev_epoch=U64(1), prev_sequence=U64(4))),
            {"outcome": "gap", "after": [1, 3]},
        ),
        ("a new term whose writer had less", _signed(takes_over), {"outcome": "accepted", "void": [[1, 3]]}),
        ("a record of the writer before", _signed(_record(1, 3)), {"outcome": "superseded"}),
        ("the next of the new term", _signed(_commit(2, 2, 8)), {"outcome": "accepted"}),
        ("a removal", _signed(_removal(2, 3)), {"outcome": "accepted"}),
    ]
    return {
        "about": "What a follower in the world of `genesis` makes of one record after the other. Its chain has the "
        "`blocks` up to height 12, after each of which the lease is as in `leases`. A record is accepted, or known, or "
        "superseded, or shows a gap after a place, or breaks exactly the rule `rule`; `void` are the places that go.",
        "genesis": record.to_bytes(example_genesis()).hex(),
        "genesis_hash": genesis_hash(example_genesis()).hex(),
        "blocks": {str(height): hash32(block).hex() for height, block in _BLOCKS.items()},
        "leases": {str(height): {"holder_id": who, "term": term} for height, (who, term) in _LEASES.items()},
        "cases": [{"id": what, "record": data.hex(), **expected} for what, data, expected in steps],
    }


def _bad() -> list[tuple[str, bytes, str]]:
    good = _record(1, 2)
    return [
        ("no record", b"", "W1"),
        ("a path that makes it too long", _signed(attrs.evolve(good, path="x" * 2_048)), "W1"),
        ("another world", _signed(attrs.evolve(good, world_id=WorldId("w2"))), "W2"),
        ("term 0", _signed(attrs.evolve(good, writer_epoch=U64(0))), "W3"),
        ("a sequence of 64 bits", _signed(attrs.evolve(good, sequence=U64(2**63))), "W3"),
        ("after one that is not below it", _signed(attrs.evolve(good, prev_sequence=U64(7))), "W3"),
        ("half of a place before it", _signed(_record(2, 1, prev_epoch=U64(1))), "W3"),
        ("a path that goes up", _signed(attrs.evolve(good, path="files/../x")), "W4"),
        ("an absolute path", _signed(attrs.evolve(good, path="/x")), "W4"),
        ("an empty path", _signed(attrs.evolve(good, path="")), "W4"),
        ("a path too long", _signed(attrs.evolve(good, path="x" * 1_025)), "W4"),
        ("a commit of no height", _signed(attrs.evolve(good, path="consensus/commits/latest")), "W4"),
        ("a commit of height 0", _signed(attrs.evolve(good, path=commit_path(0))), "W4"),
        ("signed for another purpose", _signed(good, domain=Domain.VOTE), "W5"),
        ("signed for another world of that name", _signed(good, genesis=hash32(b"other")), "W5"),
        ("a height that is not reached", _signed(attrs.evolve(good, height=U64(13))), "W6"),
        ("signed by another validator", _signed(good, by="c"), "W7"),
        ("a term that was another's at that height", _signed(_record(2, 1, height=5)), "W7"),
        ("a writer without the lease", _signed(_record(1, 2, writer="c")), "W7"),
        ("another block than the committed one", _signed(_commit(1, 2, 5, content=cid_of(b"x", Codec.RAW))), "W8"),
        ("a block as a link", _signed(_commit(1, 2, 5, content=cid_of(_BLOCKS[5], Codec.DAG_CBOR))), "W8"),
        ("a block above the height it was signed at", _signed(_commit(1, 2, 6)), "W8"),
        ("a removal that states bytes", _signed(_removal(1, 2, size_bytes=U64(1))), "W13"),
        ("a removal of a commit", _signed(_removal(1, 2, path=commit_path(4))), "W13"),
    ]

from __future__ import annotations

from pathlib import Path

import pytest

from agent_world.consensus.quorum import QuorumConsensus
from agent_world.consensus.quorum_records import QuorumConfig
from agent_world.crypto.hashing import hash32
from agent_world.errors import DataError
from agent_world.store import durable, quorum_snapshot
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.head import WorldHead
from agent_world.wire.ids import U64, TimeMs, ValidatorId, WorldId

W, A = WorldId("w1"), ValidatorId("a")


def committed(height: int) -> QuorumConsensus:
    quorum = QuorumConsensus(QuorumConfig(validators=("a",)))
    head = WorldHead(
        world_id=W,
        height=U64(height),
        block_hash=hash32(b"block"),
        state_root=Cid(Codec.DAG_CBOR, ContentHash(hash32(b"state"))),
        timestamp_ms=TimeMs(1),
    )
    quorum.propose_head(head, A, TimeMs(1))
    return quorum


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "quorum" / quorum_snapshot.SNAPSHOT_NAME
    assert quorum_snapshot.load(path) is None
    for height in (3, 4):
        quorum = committed(height)
        quorum_snapshot.save(path, quorum)
        loaded = quorum_snapshot.load(path)
        assert loaded is not None
        assert loaded.state() == quorum.state()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_any_changed_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    quorum_snapshot.save(path, committed(3))
    good = path.read_bytes()
    for place in (*range(44), *range(44, len(good), 13)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(DataError, match="not a whole snapshot"):
            quorum_snapshot.load(path)
    for data in (b"", good[:-1], good + b"\x00"):
        path.write_bytes(data)
        with pytest.raises(DataError, match="not a whole snapshot"):
            quorum_snapshot.load(path)
        assert path.read_bytes() == data


def test_a_state_that_cannot_be_is_refused_though_its_checksum_is_right(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    body = b"\xa0"
    path.write_bytes(b"AWQUORM1" + hash32(body) + body)
    with pytest.raises(DataError, match="snapshot is damaged"):
        quorum_snapshot.load(path)


def test_a_crash_while_saving_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "snapshot"
    quorum_snapshot.save(path, committed(3))

    def fails(_directory: Path, _data: bytes) -> Path:
        raise OSError("no space left")

    monkeypatch.setattr(durable, "write_temporary", fails)
    with pytest.raises(OSError, match="no space"):
        quorum_snapshot.save(path, committed(4))
    loaded = quorum_snapshot.load(path)
    assert loaded is not None
    assert loaded.committed_floor(W) == 3


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        quorum_snapshot.load(tmp_path)

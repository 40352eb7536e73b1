"""The file of a quorum's snapshot: replaced whole, checksummed, so that a torn or changed one is never believed.

magic 8 | checksum 32 = BLAKE3(snapshot) | snapshot
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent_world.consensus import quorum_snapshot
from agent_world.consensus.quorum import QuorumConsensus
from agent_world.consensus.quorum_snapshot import QUORUM_SNAPSHOT_BYTES_MAX
from agent_world.crypto.hashing import hash32
from agent_world.errors import DataError
from agent_world.store.durable import replace_file

SNAPSHOT_NAME: Final = "consensus_snapshot.cbor"
"""Suggested name; as in the reference system, but for the encoding (D1)."""
_MAGIC: Final = b"AWQUORM1"
_BODY: Final = len(_MAGIC) + 32


def save(path: Path, quorum: QuorumConsensus) -> None:
    """Make the state durable: after a crash the file is the old or the new one. Raises OSError.

    Folders that are missing are made.
    """
    body = quorum_snapshot.to_bytes(quorum.state())
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, _MAGIC + hash32(body) + body)


def load(path: Path) -> QuorumConsensus | None:
    """The quorum that was saved, None if there is no file. Raises DataError for one that is damaged or unreadable.

    The file is left as it is, for a person to look at.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_BODY + QUORUM_SNAPSHOT_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    body = data[_BODY:]
    if data[:_BODY] != _MAGIC + hash32(body):
        raise DataError(f"{path} is not a whole snapshot of a quorum")
    try:
        return QuorumConsensus.restored(quorum_snapshot.from_bytes(body))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None

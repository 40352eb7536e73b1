"""Runs the vectors of protocols/replication."""

from __future__ import annotations

import functools
from typing import Any

from broken_rules import Case, rule_of

from agent_world.consensus.validators import ValidatorSet
from agent_world.distfs import replication
from agent_world.errors import RemoteError
from agent_world.wire import ids, record
from agent_world.wire.genesis import Genesis
from agent_world.wire.ids import Hash32
from agent_world.wire.limits import BLOB_BYTES_MAX
from agent_world.world.genesis import genesis_hash


class LogOfVectors:
    """A follower's log in memory, with the chain that the file describes."""

    def __init__(self, file: Case) -> None:
        genesis = record.from_bytes(Genesis, bytes.fromhex(file["genesis"]), size_max=BLOB_BYTES_MAX)
        self.world_id, self.genesis_hash = genesis.world_id, genesis_hash(genesis)
        self.validators = ValidatorSet(genesis.validators)
        self.blocks = {int(height): Hash32(bytes.fromhex(text)) for height, text in file["blocks"].items()}
        self.leases = {int(height): lease for height, lease in file["leases"].items()}
        self.guard = replication.SingleWriterReplicationGuard(world_id=self.world_id)
        self.places: list[tuple[int, int]] = []

    def open(self, data: bytes) -> replication.OpenedRecord:
        opened = replication.open_record(data, self.world_id, self.genesis_hash)
        said = opened.record
        named = self.leases.get(said.height)
        if named is None:
            raise RemoteError("W6", "not reached")
        entry = self.validators.by_id(ids.ValidatorId(named["holder_id"]))
        assert entry is not None
        lease = replication.WriterLease(
            height=said.height, holder_id=entry.validator_id, term=ids.U64(named["term"]), key=entry.public_key
        )
        replication.check_writer(opened, lease)
        height = replication.commit_height(said.path)
        if height is not None:
            replication.check_block(said, self.blocks.get(height) if height <= said.height else None)
        return opened

    def take(self, data: bytes) -> dict[str, Any]:
        said = self.open(data).record
        judgement = replication.judge(self.guard, said)
        if isinstance(judgement, replication.Gap):
            return {"outcome": "gap", "after": list(judgement.after)}
        if not isinstance(judgement, replication.Accepted):
            return {"outcome": type(judgement).__name__.lower()}
        void = [place for place in self.places if place > (said.prev_epoch, said.prev_sequence)]
        self.places = [place for place in self.places if place not in void] + [judgement.guard.place]
        self.guard = judgement.guard
        return {"outcome": "accepted", **({"void": [list(place) for place in void]} if void else {})}


def run_log(file: Case, case: Case) -> None:
    log = LogOfVectors(file)
    for step in file["cases"]:
        data = bytes.fromhex(step["record"])
        if step["id"] == case["id"]:
            if "rule" in case:
                assert rule_of(functools.partial(log.take, data)) == case["rule"]
            else:
                assert log.take(data) == {key: case[key] for key in ("outcome", "after", "void") if key in case}
            return
        rule_of(functools.partial(log.take, data))
    raise AssertionError("the case is not of this file")

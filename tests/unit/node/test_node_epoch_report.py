from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from agent_world.errors import BlobNotFound, ChainError, ErrorCode, Refused
from agent_world.node import epoch_report as module
from agent_world.node.epoch_report import epoch_report
from agent_world.node.stopped import StoppedHome
from agent_world.store.home import Home


async def report(home: Path, epoch: int | None = None) -> dict[str, Any]:
    with StoppedHome(home) as stopped:
        return await epoch_report(stopped, stopped.blobs.get, epoch)


async def test_a_world_of_one_epoch_and_one_validator(grown_home: Path) -> None:
    found = await report(grown_home)
    assert (found["epoch"], found["is_over"], found["first_height"], found["last_height"]) == (0, False, 1, 5)
    assert (found["blocks"], found["blocks_after_round_0"], found["highest_round"]) == (5, 0, 0)
    assert found["events"] > 5
    assert found["validators"] == [
        {
            "validator_id": "v1", "stake": 100, "heights_in_set": 5, "proposed": 5, "proposed_per_mille": 1000,
            "stake_per_mille": 1000, "signed": 5,
        }
    ]  # fmt: skip
    assert found["began_at_ms"] < found["last_block_at_ms"]
    assert [found[name] for name in ("equivocations", "changes_decided", "sets_taking_over", "omitted")] == [
        [],
        [],
        [],
        0,
    ]
    assert found == await report(grown_home, 0)


async def test_only_the_last_heights_of_a_long_epoch_are_looked_at(
    grown_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEIGHTS_MAX", 2)
    found = await report(grown_home)
    assert (found["first_height"], found["looked_at_from"], found["blocks"]) == (1, 4, 2)


@pytest.mark.parametrize("epoch", [1, 2**62])
async def test_an_epoch_without_blocks_is_refused(grown_home: Path, epoch: int) -> None:
    with pytest.raises(Refused) as caught:
        await report(grown_home, epoch)
    assert caught.value.code is ErrorCode.NOT_FOUND


async def test_damage_is_named(grown_home: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(grown_home, home)
    with StoppedHome(home) as stopped:
        genesis_hash = stopped.home.genesis_hash
        journal = stopped.chain.block(3)
        assert journal is not None
    with Home.open(home, genesis_hash) as opened:
        opened.database.execute("DELETE FROM blobs WHERE content_hash = ?", (journal.header.journal_ref.digest,))
    with pytest.raises(BlobNotFound):
        await report(home)
    with Home.open(home, genesis_hash) as opened:
        opened.database.execute("DELETE FROM blocks WHERE height = 2")
    with pytest.raises((ChainError, BlobNotFound)):
        await report(home)

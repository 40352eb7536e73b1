from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent_world.crypto.hashing import cid_of, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.store.chain import CommittedHeight
from agent_world.store.home import Home
from agent_world.wire import record
from agent_world.wire.block import WorldBlock
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import U32, U64, Hash32, TimeMs, ValidatorId, WorldId

GENESIS = hash32(b"genesis")
NODE_KEY = KeyPair(bytes(range(32)))
VALIDATOR_KEY = KeyPair(bytes(range(32, 64)))


@pytest.fixture
def make_home() -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        Home.create(
            path, genesis_hash=GENESIS, genesis_toml="world_id = 'w'\n", node_toml="[net]\n", node_key=NODE_KEY,
            validator_key=VALIDATOR_KEY,
        )  # fmt: skip
        return path

    return make


@pytest.fixture
def home_path(tmp_path: Path, make_home: Callable[[Path], Path]) -> Path:
    return make_home(tmp_path / "home")


@pytest.fixture
def home(home_path: Path) -> Iterator[Home]:
    with Home.open(home_path, GENESIS) as opened:
        yield opened


def block_bytes(height: int, parent: Hash32 = GENESIS, *, salt: bytes = b"") -> bytes:
    link = cid_of(salt)
    return record.to_bytes(
        WorldBlock(
            world_id=WorldId("w"), height=U64(height), slot=U64(height), round=U32(0), epoch=U64(0),
            prev_block_hash=parent, proposer_id=ValidatorId("v1"), timestamp_ms=TimeMs(1_000),
            validators_hash=hash32(b"set"), next_validators_hash=hash32(b"set"), action_root=link,
            event_root=hash32(b"events"), receipts_root=link, journal_ref=link, state_root=link,
            lease_term=U64(0),
        )
    )  # fmt: skip


def committed(
    height: int, parent: Hash32 = GENESIS, *, salt: bytes = b"", blobs: tuple[bytes, ...] = (), actions: int = 2
) -> CommittedHeight:
    return CommittedHeight(
        block=block_bytes(height, parent, salt=salt),
        certificate=b"certificate of %d" % height,
        action_ids=tuple(hash32(b"action %d/%d" % (height, position)) for position in range(actions)),
        events=(height * 10, height * 10 + 4),
        blobs={ContentHash(hash32(blob)): blob for blob in blobs},
    )


def chain_of(length: int) -> list[CommittedHeight]:
    heights: list[CommittedHeight] = []
    parent = GENESIS
    for height in range(1, length + 1):
        heights.append(committed(height, parent, blobs=(b"small %d" % height, b"large %d" % height * 4000)))
        parent = hash32(heights[-1].block)
    return heights


@pytest.fixture(name="chain_of")
def chain_of_fixture() -> Callable[[int], list[CommittedHeight]]:
    return chain_of


@pytest.fixture(name="height_of")
def height_of_fixture() -> Callable[..., CommittedHeight]:
    return committed


@pytest.fixture
def crash_images(home_path: Path, tmp_path: Path) -> CrashImages:
    return CrashImages(home_path, tmp_path / "images")


class CrashImages:
    """A fault hook that copies the home at every step: what a process killed right there would leave behind."""

    def __init__(self, source: Path, target: Path) -> None:
        self._source = source
        self._target = target
        self.taken: dict[str, Path] = {}

    def __call__(self, step: str) -> None:
        image = self._target / f"{len(self.taken):02}-{step}"
        shutil.copytree(self._source, image, ignore=shutil.ignore_patterns("*-shm"))
        self.taken[step] = image


@pytest.fixture
def genesis() -> Hash32:
    return GENESIS


@pytest.fixture
def validator_key() -> KeyPair:
    return VALIDATOR_KEY

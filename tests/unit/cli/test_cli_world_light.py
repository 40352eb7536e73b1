from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_world.testing.certified_chain import CertifiedChain
from agent_world.wire.ids import PublicKey, peer_id_of
from agent_world.world.genesis import genesis_toml

PEER = f"/ip4/127.0.0.1/tcp/1/p2p/{peer_id_of(PublicKey(bytes([9]) * 32))}"


@pytest.fixture
def genesis(tmp_path: Path) -> Path:
    path = tmp_path / "genesis.toml"
    path.write_text(genesis_toml(CertifiedChain().genesis))
    return path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "--bootstrap"),
        (("--bootstrap", "/ip4/127.0.0.1/tcp/1"), "names no peer"),
        (("--bootstrap", PEER, "--trust", "7"), "HEIGHT:HASH"),
        (("--bootstrap", PEER, "--trust", "@nowhere"), "cannot be read"),
        (("--bootstrap", PEER, "--trust", "@{genesis}"), "no trust anchor"),
        (("--bootstrap", PEER, "--state-key", "clock"), "NAMESPACE/KEY"),
        (("--bootstrap", PEER, "--state-key", "colour/clock"), "system"),
        (("--bootstrap", PEER, "--every", "0"), "--every"),
        (("--bootstrap", PEER, "--trust", f"0:{'ab' * 32}"), "height 0 is the genesis"),
    ],
)
def test_wrong_options_are_usage_errors(
    run: Callable[..., Any], genesis: Path, options: tuple[str, ...], words: str
) -> None:
    ran = run("world", "light", "--genesis", genesis, *(text.replace("{genesis}", str(genesis)) for text in options))
    assert (ran.code, ran.out) == (64, "")
    assert words in ran.err


def test_a_genesis_that_is_none(run: Callable[..., Any], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("world_id = 7\n")
    for path, words in ((wrong, "missing"), (tmp_path / "nowhere.toml", "cannot be read")):
        ran = run("world", "light", "--genesis", path, "--bootstrap", PEER)
        assert (ran.code, ran.out) == (64, "")
        assert words in ran.err

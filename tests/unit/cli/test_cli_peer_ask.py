"""Requests by hand: every method is known, and what does not fit one is told before anybody is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_world.cli.peer_ask import METHODS, request_of
from agent_world.errors import UsageError
from agent_world.testing.stack import make_genesis, make_key
from agent_world.wire import rpc
from agent_world.wire.blob import FetchBlobsRequest
from agent_world.wire.block import GetJournalSegmentRequest
from agent_world.wire.module import GetModuleManifestRequest

GENESIS = make_genesis(make_key("authority"), {"v1": make_key("v1")})
PEER = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWN1BT9q8rVsjPn6TjXmrrd8HxEM65weadT2q9GMR7h5MY"


def test_every_method_can_be_asked() -> None:
    named = {value for name, value in vars(rpc).items() if name.isupper() and str(value).startswith(f"{rpc.RR_BASE}/")}
    # A hello is said before anything is asked, and a stream of blobs is no answer in one piece.
    # A challenge is signed with a node's key, and what it committed to is shown to its challenger alone.
    assert named - METHODS.keys() == {rpc.HELLO, rpc.STREAM_BLOBS, rpc.CHALLENGE, rpc.CHALLENGE_REVEAL}


def test_fields_are_filled_in_and_bytes_are_hex() -> None:
    made = request_of(GetJournalSegmentRequest, '{"height": 3}', GENESIS)
    assert made == GetJournalSegmentRequest(world_id=GENESIS.world_id, from_event_id=None, height=3)  # type: ignore[arg-type]
    digest = bytes(range(32))
    blobs = request_of(FetchBlobsRequest, f'{{"content_hashes": ["{digest.hex()}"]}}', GENESIS)
    assert blobs == FetchBlobsRequest(content_hashes=(digest,))  # type: ignore[arg-type]
    module = request_of(GetModuleManifestRequest, f'{{"module_id": "m", "manifest_hash": "{digest.hex()}"}}', GENESIS)
    assert (module.module_id, module.manifest_hash) == ("m", digest)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "a JSON object"),
        ('{"heigth": 3}', "no field 'heigth'"),
        ('{"height": -1}', "do not fit"),
        ('{"height": "x"}', "do not fit"),
        ("{" * 100_000, "not JSON"),
    ],
)
def test_what_does_not_fit_is_the_askers_fault(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        request_of(GetJournalSegmentRequest, text, GENESIS)


def test_hashes_that_are_none_are_the_askers_fault() -> None:
    for wrong in ('["xy"]', '["00"]', "[null]", '"00"', "7"):
        with pytest.raises(UsageError, match="do not fit"):
            request_of(FetchBlobsRequest, f'{{"content_hashes": {wrong}}}', GENESIS)


def test_a_method_of_nobody_and_a_genesis_that_is_not_there(run: Callable[..., Any], tmp_path: Path) -> None:
    ran = run("peer", "ask", "get_money", "--peer", PEER, "--genesis", tmp_path / "none")
    assert (ran.code, "no method 'get_money'; known: get_world_head" in ran.err) == (64, True)
    ran = run("peer", "ask", "get_block", "--peer", PEER, "--genesis", tmp_path / "none")
    assert (ran.code, "cannot be read" in ran.err) == (64, True)

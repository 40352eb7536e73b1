"""agent-world blob pin, unpin, gc, rm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_world.crypto.hashing import cid_of
from agent_world.errors import Unavailable
from agent_world.wire.cid import Codec

Run = Callable[..., Any]
CID = str(cid_of(b"content", Codec.RAW))
PIN = {"name": "a", "cid": CID, "recursive": True, "made_ms": 1, "expires_ms": None, "is_here": True}


def answered(node: Any, target: str, answer: dict[str, Any]) -> list[Any]:
    sent: list[Any] = []

    def take(body: bytes) -> tuple[int, Any]:
        sent.append(json.loads(body))
        return 200, answer

    node.answers[f"POST {target}"] = take
    return sent


def test_pinning(run: Run, node: Any) -> None:
    sent = answered(node, "/pins", {"name": "a", "cid": CID, "fetched": 2, "expires_ms": None})
    ran = run("blob", "pin", "a", CID, "--expires", "7d", "--direct", "--home", node.home, "--json")
    assert (ran.code, ran.json["fetched"]) == (0, 2)
    assert sent == [
        {"name": "a", "cid": CID, "recursive": False, "expires_in_ms": 7 * 86_400_000, "timeout_ms": 30_000}
    ]


def test_the_list_goes_out_and_in(run: Run, node: Any, tmp_path: Path) -> None:
    node.answers["GET /pins"] = 200, {"version": 1, "pins": [PIN]}
    assert run("blob", "pin", "--list", "--home", node.home, "--json").json == [PIN]
    out = run("blob", "pin", "--export", tmp_path / "pins.json", "--home", node.home, "--json")
    assert (out.code, out.json["pins"]) == (0, 1)
    sent = answered(node, "/pins/import", {"pins": 1})
    assert run("blob", "pin", "--import", tmp_path / "pins.json", "--home", node.home).code == 0
    assert sent == [{"version": 1, "pins": [PIN]}]


@pytest.mark.parametrize("arguments", [
    [], ["a"], ["a", CID, "--list"], ["--list", "--export", "x"], ["a", CID, "--expires", "7"],
    ["a", CID, "--expires", "soon"], ["--import", "/nowhere"],
])  # fmt: skip
def test_what_is_asked_wrongly_is_a_usage_error(run: Run, node: Any, arguments: list[str]) -> None:
    assert run("blob", "pin", *arguments, "--home", node.home).code == 64
    assert node.asked == []


def test_a_file_that_is_no_list_of_pins_is_refused(run: Run, node: Any, tmp_path: Path) -> None:
    for text in ("", "[]", "5"):
        (tmp_path / "pins.json").write_text(text)
        assert run("blob", "pin", "--import", tmp_path / "pins.json", "--home", node.home).code == 64
    node.answers["GET /pins"] = 200, {"version": 1, "pins": []}
    assert run("blob", "pin", "--export", tmp_path / "none" / "pins.json", "--home", node.home).code == 64


def test_unpinning_and_removing(run: Run, node: Any) -> None:
    sent = answered(node, "/pins/remove", {"name": "a", "cid": CID})
    assert run("blob", "unpin", "a", "--home", node.home).code == 0
    assert sent == [{"name": "a"}]
    digest = cid_of(b"content").digest.hex()
    answered(node, f"/blobs/{digest}/remove", {"content_hash": digest, "freed_bytes": 7})
    for content in (digest, CID):
        assert run("blob", "rm", content, "--home", node.home, "--json").json["freed_bytes"] == 7


def test_collecting(run: Run, node: Any) -> None:
    found = {
        "unreachable": {"items": 3, "size_bytes": 30}, "freed": {"items": 2, "size_bytes": 20}, "missing": 1,
        "damaged": 1, "orphan_files": 0, "took_ms": 5, "dry_run": True,
    }  # fmt: skip
    sent = answered(node, "/gc", {"result": found})
    ran = run("blob", "gc", "--dry-run", "--grace", "10m", "--home", node.home)
    assert sent == [{"dry_run": True, "grace_ms": 600_000}]
    assert ran.out.splitlines() == [
        "nothing reaches 3 blobs of 30 bytes", "2 blobs of 20 bytes would go", "1 linked blobs are not here",
        "1 of them were damaged and are fetched again: until then nothing goes",
    ]  # fmt: skip
    assert run("blob", "gc", "--home", node.home, "--json").json == found


def test_long_work_that_fails_or_breaks_off_is_told(run: Run, node: Any) -> None:
    busy = {"code": "ERR_BUSY", "message": "garbage is being collected already", "retryable": True, "rule": ""}
    answered(node, "/gc", {"error": busy})
    ran = run("blob", "gc", "--home", node.home)
    assert ran.code != 0
    assert "is being collected already" in ran.err
    answered(node, "/gc", {"progress": {"marked": 3}})
    ran = run("blob", "gc", "--home", node.home)
    assert ran.code == Unavailable.exit_code
    assert "broke off its answer" in ran.err

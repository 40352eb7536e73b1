"""agent-world provide."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from agent_world.crypto.hashing import cid_of

Run = Callable[..., Any]
CID = str(cid_of(b"content"))
ROW = {"provider_id": "12D3Koo", "last_seen_ms": 0, "score": 0.6, "p50_read_latency_ms": 50}


def test_what_is_announced(run: Run, node: Any) -> None:
    node.answers["GET /provide"] = 200, {"joined": True, "provided": 7}
    assert run("provide", "stat", "--home", node.home, "--json").json == {"joined": True, "provided": 7}
    sent: list[Any] = []

    def take(body: bytes) -> tuple[int, Any]:
        sent.append(json.loads(body))
        return 200, {"new": 1, "announced": 3}

    node.answers["POST /provide"] = take
    assert run("provide", "once", CID, "--home", node.home, "--json").json == {"new": 1, "announced": 3}
    assert sent == [{"cids": [CID]}]


def test_who_provides(run: Run, node: Any) -> None:
    node.answers[f"GET /provide/{CID}"] = 200, {"cid": CID, "providers": [ROW], "checked_bytes": 5}
    ran = run("provide", "find", CID, "--check", "--home", node.home)
    assert node.asked == [(f"GET /provide/{CID}", {"check": ["1"]})]
    assert ran.out.splitlines()[1].split() == ["12D3Koo", "0.6", "-", "-", "50"]
    assert ran.out.splitlines()[-1] == "a provider gave 5 bytes that hash to it"
    assert run("provide", "find", CID, "--home", node.home, "--json").json["providers"] == [ROW]

from __future__ import annotations

import pytest

from agent_world.net import traffic as module
from agent_world.net.traffic import OTHER, Flow, Traffic


def test_what_goes_where_is_counted_twice_over() -> None:
    traffic = Traffic()
    traffic.received("a", "topic", "head", 10)
    traffic.received("b", "topic", "head", 5)
    traffic.sent("a", "method", "hello", 7)
    traffic.sent(None, "topic", "head", 3)
    traffic.dropped("b", "channel", "consensus", "rate")
    shown = traffic.shown()
    assert set(shown) == {"peers", "methods", "channels", "topics"}
    head = shown["topics"]["head"]
    assert (head["received"], head["received_bytes"], head["sent"], head["sent_bytes"]) == (2, 15, 1, 3)
    assert (shown["peers"]["a"]["received_bytes"], shown["peers"]["a"]["sent_bytes"]) == (10, 7)
    assert shown["peers"]["b"]["dropped"] == shown["channels"]["consensus"]["dropped"] == {"rate": 1}
    assert traffic.peer_shown("a") == shown["peers"]["a"]
    assert traffic.peer_shown("nobody") == Flow().shown()


def test_latency_follows_the_newer_answers() -> None:
    flow = Flow()
    assert flow.shown()["latency_ms"] is None
    flow.answered(100.0)
    assert flow.shown()["latency_ms"] == 100.0
    for _ in range(50):
        flow.answered(10.0)
    assert flow.shown()["latency_ms"] == pytest.approx(10, abs=0.1)


def test_peers_and_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PEERS_MAX", 2)
    monkeypatch.setattr(module, "NAMES_MAX", 2)
    traffic = Traffic()
    for name in "abca":
        traffic.received(name, "topic", name, 1)
    shown = traffic.shown()
    assert set(shown["peers"]) == {"c", "a"}
    assert {name: flow["received"] for name, flow in shown["topics"].items()} == {"a": 2, "b": 1, OTHER: 1}

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent_world.crypto.hashing import hash32
from agent_world.errors import ErrorCode, Refused
from agent_world.handlers.action import BLAMELESS_RULES, ActionHandler
from agent_world.handlers.submit import Admitted
from agent_world.net.interface import Verdict
from agent_world.wire import record
from agent_world.wire.action import ActionBundle
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import GOSSIP_ACTIONS_MAX

README = Path(__file__).parents[3] / "protocols" / "action" / "README.md"


def handler(seen: list[bytes] | None = None) -> ActionHandler:
    """Actions are named by the rule they break; ``new`` and ``known`` break none."""

    def admit(data: bytes, *, source: PeerId | None) -> Admitted:
        if seen is not None:
            seen.append(data)
        if data.startswith(b"A"):
            raise Refused(ErrorCode.BAD_REQUEST, "bad", rule=data.decode())
        return Admitted(hash32(data), is_new=data == b"new")

    return ActionHandler(admit)


def bundle(*actions: bytes) -> bytes:
    return record.to_bytes(ActionBundle(actions=actions))


@pytest.mark.parametrize(
    ("actions", "verdict"),
    [
        ((b"new",), Verdict.ACCEPT),
        ((b"known",), Verdict.IGNORE),
        ((b"known", b"new"), Verdict.ACCEPT),
        ((b"A9", b"new"), Verdict.ACCEPT),
        ((b"A9", b"A12"), Verdict.IGNORE),
        ((b"new", b"A6"), Verdict.REJECT),
        ((b"A1", b"new"), Verdict.REJECT),
    ],
)
def test_the_verdict_on_a_bundle(peer: PeerId, actions: tuple[bytes, ...], verdict: Verdict) -> None:
    seen: list[bytes] = []
    assert handler(seen).validate(peer, bundle(*actions)) is verdict
    assert seen == list(actions)  # none is lost, whatever its neighbours are


def test_the_size_of_a_bundle(peer: PeerId) -> None:
    assert handler().validate(peer, bundle(*[b"new"] * GOSSIP_ACTIONS_MAX)) is Verdict.ACCEPT
    assert handler().validate(peer, bundle(*[b"new"] * (GOSSIP_ACTIONS_MAX + 1))) is Verdict.REJECT
    assert handler().validate(peer, bundle()) is Verdict.REJECT


@pytest.mark.parametrize("data", [b"", b"\xff", bytes(200_000)])
def test_garbage_is_rejected(peer: PeerId, data: bytes) -> None:
    assert handler().validate(peer, data) is Verdict.REJECT


def test_who_is_blamed_is_what_the_contract_says() -> None:
    rules = re.findall(r"`\[(REJECT|IGNORE)\] (A\d+)`", README.read_text())
    assert len(rules) == 16  # A15 and A16 are about get_pending, not about actions
    assert {rule for verdict, rule in rules if verdict == "IGNORE"} == BLAMELESS_RULES


@pytest.mark.parametrize("rule", [f"A{number}" for number in range(1, 15)])
def test_every_rule_has_its_verdict(peer: PeerId, rule: str) -> None:
    wanted = Verdict.IGNORE if rule in BLAMELESS_RULES else Verdict.REJECT
    assert handler().validate(peer, bundle(rule.encode())) is wanted

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_world.cli import action_submit
from agent_world.crypto.hashing import actor_id_of, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.store import keyfile
from agent_world.wire.action import CreateObject, RegisterAgent
from agent_world.wire.ids import Hash32, WorldId
from agent_world.world.admission import SignedAction, open_action

ALICE = KeyPair(bytes([1]) * 32)
GRANT = {"resource": "gold", "to_actor_id": actor_id_of(ALICE.public_key), "amount": 5}
OK = {"height": 7, "outcome": "applied", "code": "ok", "event_count": 1, "from_event_id": 1}


def opened(data: bytes) -> SignedAction:
    return open_action(data, WorldId("w"), Hash32(bytes(32)))


@pytest.fixture
def key(node: Any) -> str:
    keyfile.write(Path("alice.key"), ALICE)
    node.answers[f"GET /actors/{actor_id_of(ALICE.public_key)}"] = 200, {"next_nonce": 4, "pending": 2}
    return "alice.key"


@pytest.fixture
def submit(run: Callable[..., Any], node: Any) -> Callable[..., Any]:
    return lambda *options: run("action", "submit", "--home", node.home, *options)


def lines(*items: object) -> str:
    Path("actions.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items))
    return "actions.jsonl"


def test_one_action(submit: Callable[..., Any], node: Any, key: str) -> None:
    ran = submit("--kind", "resource.grant", "--payload", json.dumps(GRANT), "--key", key, "--json")
    assert ran.code == 0
    (data,) = node.actions
    action = opened(data)
    assert (action.envelope.nonce, action.envelope.action_kind, action.payload.amount) == (6, "resource.grant", 5)
    assert ran.json == {"action_id": hash32(data).hex(), "kind": "resource.grant"}


def test_a_file_of_actions_is_signed_in_order(submit: Callable[..., Any], node: Any, key: str) -> None:
    grant = {"kind": "resource.grant", "payload": GRANT}
    move = {"kind": "agent.move", "payload": {"x_cm": -1, "y_cm": 0, "z_cm": 3}, "key": key}
    ran = submit("--file", lines(grant, move, grant), "--key", key, "--json")
    assert ran.code == 0
    assert [opened(data).envelope.nonce for data in node.actions] == [6, 7, 8]
    assert [row["kind"] for row in ran.json] == ["resource.grant", "agent.move", "resource.grant"]
    assert [asked for asked, _ in node.asked].count(f"GET /actors/{actor_id_of(ALICE.public_key)}") == 1
    table = submit("--file", lines(grant, grant), "--key", key)
    assert table.out.splitlines()[0].split() == ["action_id", "kind"]


def test_waiting_prints_the_receipts(submit: Callable[..., Any], node: Any, key: str) -> None:
    take = node.answers["POST /actions"]

    def commit(body: bytes) -> Any:
        node.answers[f"GET /receipts/{hash32(body).hex()}"] = 200, {"action_id": hash32(body).hex(), **OK}
        return take(body)

    node.answers["POST /actions"] = commit
    ran = submit("--kind", "resource.grant", "--payload", json.dumps(GRANT), "--key", key, "--wait", "--json")
    assert ran.code == 0
    assert (ran.json["height"], ran.json["outcome"], ran.json["kind"]) == (7, "applied", "resource.grant")
    grant = {"kind": "resource.grant", "payload": GRANT}
    text = submit("--file", lines(grant, grant), "--key", key, "--wait")
    assert text.out.splitlines()[0].split() == ["action_id", "kind", "height", "outcome", "code"]


def test_bytes_and_links_are_written_as_text(node: Any) -> None:
    register = action_submit.payload_record(
        action_submit.Wanted(
            "agent.register", {"name": "b", "public_key": "ab" * 32, "registration_quota": 0}, Path(), "x"
        )
    )
    assert isinstance(register, RegisterAgent)
    assert register.public_key == b"\xab" * 32
    link = "bafkr4iae4c5tt4yldi76xcpvg3etxykqkvec352im5fqbutolj2xo5yc5e"
    created = action_submit.payload_record(
        action_submit.Wanted("object.create", {"object_id": "o", "content": link, "size_bytes": 1}, Path(), "x")
    )
    assert isinstance(created, CreateObject)
    assert str(created.content) == link


BAD_LINES = [
    ("{", "not JSON"),
    ("[" * 100_000, "not JSON"),
    ("5", "expected"),
    ('{"kind": 5, "payload": {}}', "expected"),
    ('{"kind": "agent.move"}', "expected"),
    ('{"kind": "agent.move", "payload": []}', "expected"),
    ('{"kind": "agent.move", "payload": {}, "colour": 1}', "unknown field 'colour'"),
    ('{"kind": "agent.move", "payload": {}, "key": 5}', '"key" must be'),
    ('{"kind": "agent.fly", "payload": {}}', "unknown action kind 'agent.fly'"),
    ('{"kind": "\\ud800", "payload": {}}', "unknown action kind"),
    ('{"kind": "agent.move", "payload": {}}', "does not fit agent.move"),
    ('{"kind": "agent.move", "payload": {"x_cm": 1.5, "y_cm": 0, "z_cm": 0}}', "does not fit agent.move"),
    (
        '{"kind": "agent.register", "payload": {"name": "a", "public_key": "zz", "registration_quota": 0}}',
        "does not fit",
    ),
    ('{"kind": "object.create", "payload": {"object_id": "a", "content": "zz", "size_bytes": 0}}', "does not fit"),
]


@pytest.mark.parametrize(
    ("line", "words"), BAD_LINES, ids=[words[:20] + str(n) for n, (_, words) in enumerate(BAD_LINES)]
)
def test_a_bad_line_is_named(submit: Callable[..., Any], node: Any, key: str, line: str, words: str) -> None:
    Path("actions.jsonl").write_text("\n\n" + line + "\n")
    ran = submit("--file", "actions.jsonl", "--key", key)
    assert (ran.code, ran.out) == (64, "")
    assert "actions.jsonl:3" in ran.err
    assert words in ran.err
    assert node.actions == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "one action needs"),
        (("--kind", "agent.move"), "one action needs"),
        (("--kind", "agent.move", "--payload", "{}"), "one action needs"),
        (("--file", "x", "--kind", "agent.move"), "not both"),
        (("--file", "nothing.jsonl"), "cannot read"),
        (("--kind", "agent.move", "--payload", "{", "--key", "alice.key"), "--payload: not JSON"),
        (("--kind", "agent.move", "--payload", "[]", "--key", "alice.key"), "expected a JSON object"),
        (("--kind", "agent.move", "--payload", '{}, "key": "other"', "--key", "alice.key"), "not JSON"),
    ],
)
def test_wrong_options(submit: Callable[..., Any], node: Any, key: str, options: tuple[str, ...], words: str) -> None:
    ran = submit(*options)
    assert (ran.code, ran.out) == (64, "")
    assert words in ran.err
    assert node.actions == []


def test_a_line_without_key(submit: Callable[..., Any], node: Any) -> None:
    ran = submit("--file", lines({"kind": "agent.move", "payload": {}}))
    assert ran.code == 64
    assert 'no "key" in the line and no --key' in ran.err


def test_a_key_file_that_is_missing(submit: Callable[..., Any], node: Any) -> None:
    ran = submit("--file", lines({"kind": "agent.move", "payload": {}, "key": "nothing.key"}))
    assert ran.code == 65
    assert "nothing.key" in ran.err


@pytest.mark.parametrize(
    ("status", "code", "retryable", "exit_code"),
    [(403, "ERR_UNAUTHORIZED", False, 69), (400, "ERR_BAD_REQUEST", False, 69), (504, "ERR_TIMEOUT", True, 75)],
)
def test_a_refusal_names_the_line_and_ends_with_its_code(
    submit: Callable[..., Any], node: Any, key: str, error: Callable[..., Any],
    status: int, code: str, retryable: bool, exit_code: int,
) -> None:  # fmt: skip
    node.answers["POST /actions"] = error(status, code, "A7: no", rule="A7", retryable=retryable)
    ran = submit("--file", lines({"kind": "resource.grant", "payload": GRANT}), "--key", key)
    assert ran.code == exit_code
    assert "actions.jsonl:1: A7: no" in ran.err


@pytest.mark.parametrize(
    ("rule", "code"), [("A10", "ERR_STATE_MISMATCH"), ("A11", "ERR_RATE_LIMITED"), ("A12", "ERR_BUSY")]
)
def test_when_there_is_no_room_yet_it_is_tried_again(
    submit: Callable[..., Any], node: Any, key: str, error: Callable[..., Any], rule: str, code: str
) -> None:
    take, refusals = node.answers["POST /actions"], [1, 2, 3]

    def full_at_first(body: bytes) -> Any:
        return error(503, code, "no room", rule=rule) if refusals and refusals.pop() else take(body)

    node.answers["POST /actions"] = full_at_first
    ran = submit("--kind", "resource.grant", "--payload", json.dumps(GRANT), "--key", key)
    assert ran.code == 0
    assert refusals == []
    assert len(node.actions) == 1


def test_there_is_an_end_to_trying(
    submit: Callable[..., Any], node: Any, key: str, error: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action_submit, "_ROOM_S", 0.0)
    node.answers["POST /actions"] = error(503, "ERR_BUSY", "no room", rule="A12", retryable=True)
    assert submit("--kind", "resource.grant", "--payload", json.dumps(GRANT), "--key", key).code == 75


def test_an_answer_for_another_action_is_not_believed(submit: Callable[..., Any], node: Any, key: str) -> None:
    node.answers["POST /actions"] = 200, {"action_id": "00" * 32}
    ran = submit("--kind", "resource.grant", "--payload", json.dumps(GRANT), "--key", key)
    assert ran.code == 69
    assert "another action" in ran.err


def test_where_to_hand_in_has_to_be_named(run: Callable[..., Any], key: str) -> None:
    action = ("--kind", "resource.grant", "--payload", json.dumps(GRANT), "--key", key)
    ran = run("action", "submit", *action)
    assert (ran.code, "--bootstrap" in ran.err, "--home" in ran.err) == (64, True, True)
    peer = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWN1BT9q8rVsjPn6TjXmrrd8HxEM65weadT2q9GMR7h5MY"
    ran = run("action", "submit", "--bootstrap", peer, *action)
    assert (ran.code, "--genesis" in ran.err) == (64, True)
    ran = run("action", "submit", "--bootstrap", peer, "--genesis", "none.toml", *action)
    assert (ran.code, "none.toml cannot be read" in ran.err) == (64, True)

"""Nodes as users run them: real processes, real sockets, killed and started again (T-9.15)."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import socket
import sqlite3
import time
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from acting import Load, Promised, make_payers, settle
from swarm import STOP_S, Swarm, printed_nodes, run_command

from agent_world.crypto.hashing import actor_id_of
from agent_world.crypto.keys import KeyPair
from agent_world.net.address import parse_address, parse_peer
from agent_world.node.provision import MadeSwarm, SwarmSpec, make_swarm, triad_nodes
from agent_world.node.settings import Topology
from agent_world.node.verify import verify_home
from agent_world.store import keyfile
from agent_world.testing.signer import Signer
from agent_world.wire.action import CreateObject, RegisterAgent
from agent_world.wire.cid import Cid
from agent_world.wire.hello import Role
from agent_world.wire.ids import U64, Name, TimeMs, WorldId

ROLES = tuple(role.value for role in Role)
SEVERAL = 3
"""Blocks that show that a swarm goes on."""


@attrs.frozen
class Triad:
    """Three validators of different roles that run, and an agent behind each."""

    swarm: Swarm
    made: MadeSwarm
    authority: Signer
    payers: dict[str, Signer]


@pytest.fixture(scope="module")
def triad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triad]:
    spec = SwarmSpec(
        world_id=WorldId("triad"),
        nodes=triad_nodes(),
        genesis_time_ms=TimeMs(time.time_ns() // 1_000_000),
        topology=Topology.TRIAD_DISTRIBUTED,
    )
    made = make_swarm(tmp_path_factory.mktemp("triad") / "swarm", spec)
    authority = Signer.authority(made)
    with Swarm(made.nodes) as swarm:
        swarm.start(*ROLES)
        swarm.wait_all_linked()
        yield Triad(swarm, made, authority, make_payers(swarm.client("sequencer"), authority, list(ROLES)))


def test_three_processes_find_each_other_from_the_sequencers_address(triad: Triad) -> None:
    sequencer = triad.made.nodes[0]
    for node in triad.made.nodes:
        settings = tomllib.loads((node.home / "node.toml").read_text())
        assert settings["net"]["bootstrap"] == ([] if node is sequencer else [sequencer.multiaddr])
    for name in ROLES:
        assert triad.swarm.linked_to(name) == set(ROLES) - {name}


def test_an_agent_without_a_node_hands_in_at_peers_and_has_it_proved(triad: Triad, tmp_path: Path) -> None:
    key, file = KeyPair(bytes(range(32))), tmp_path / "nomad.key"
    keyfile.write(file, key)
    register = RegisterAgent(name=Name("Nomad"), public_key=key.public_key, registration_quota=U64(0))
    assert settle(triad.swarm.client("storage"), triad.authority.sign(register)).outcome == "applied"
    ran = run_command(
        "action", "submit", "--kind", "agent.move", "--payload", '{"x_cm": 1, "y_cm": 2, "z_cm": 3}',
        "--key", str(file), "--wait", "--json", "--genesis", str(triad.made.nodes[0].home / "genesis.toml"),
        *(word for node in triad.made.nodes[:2] for word in ("--bootstrap", node.multiaddr)),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    shown = json.loads(ran.stdout)
    assert (shown["outcome"], shown["code"], shown["event_count"]) == ("applied", "ok", 1)
    assert shown["events"][0]["payload"] == {"x_cm": 1, "y_cm": 2, "z_cm": 3, "actor_id": actor_id_of(key.public_key)}
    assert ran.stderr == ""


def test_one_peer_is_asked_by_hand(triad: Triad) -> None:
    node = triad.made.nodes[1]
    where = ("--peer", node.multiaddr, "--genesis", str(node.home / "genesis.toml"), "--json")
    ran = run_command("peer", "ask", "get_snapshot", *where)
    assert ran.returncode == 0, ran.stderr
    snapshot = json.loads(ran.stdout)
    assert snapshot["world_id"] == "triad"
    assert snapshot["chunks"]
    ran = run_command("peer", "ask", "get_module_artifact", json.dumps({"wasm_hash": "00" * 32}), *where)
    assert (ran.returncode, "ERR_NOT_FOUND" in ran.stderr) == (69, True)


def test_content_reaches_the_storage_node_and_outlives_its_author(triad: Triad) -> None:
    data = b"what the observer knows" * 1_000
    swarm = triad.swarm
    cid = Cid.parse(swarm.client("observer").post_bytes("/blobs", data)["cid"])
    created = CreateObject(object_id=Name("notes"), content=cid, size_bytes=U64(len(data)))
    assert settle(swarm.client("observer"), triad.payers["observer"].sign(created)).outcome == "applied"
    swarm.until(
        "the storage node holds the content", lambda: swarm.get("storage", "/status")["storage"].get("have", 0) == 1
    )
    swarm.kill("observer")
    assert swarm.client("sequencer").get_bytes(f"/blobs/{cid.digest.hex()}") == data
    swarm.start("observer")
    swarm.wait_all_linked()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_killed_under_load_and_comes_back(triad: Triad, role: str) -> None:
    swarm = triad.swarm
    others = [name for name in ROLES if name != role]
    with Load(triad.payers, {name: swarm.home(name) for name in ROLES}) as load:
        swarm.until("receipts through every node", lambda: all(load.promised.values()))
        swarm.kill(role)
        at_death = max(swarm.height(name) for name in others)
        promised = {name: len(load.promised[name]) for name in others}
        swarm.wait_height(at_death + SEVERAL, others)
        swarm.wait_all_linked()  # the others directly, whoever is gone
        for name in others:
            swarm.until(f"receipts through {name}", partial(_has_more_than, load.promised[name], promised[name]))
        swarm.start(role)
        swarm.wait_all_linked()
        back_at = swarm.height(others[0])
        swarm.wait_height(back_at, [role])
        swarm.until("the others count its votes again", lambda: _signs_after(swarm, role, back_at, others))
        swarm.until("receipts through it again", lambda: _newest(load.promised[role]) > back_at)
    assert load.errors == []
    _assert_same_chain(swarm)
    _assert_promises_kept(swarm, [item for given in load.promised.values() for item in given])


def _has_more_than(promised: list[Promised], count: int) -> bool:
    return len(promised) > count


def _newest(promised: list[Promised]) -> int:
    return max(item.height for item in promised)


def _signs_after(swarm: Swarm, validator_id: str, height: int, witnesses: list[str]) -> bool:
    """Whether another node's certificates of later blocks hold a signature of this validator."""
    return any(
        validator_id in swarm.get(name, f"/blocks/{later}")["certified_by"]
        for name in witnesses
        for later in range(height + 1, swarm.height(name) + 1)
    )


def _assert_same_chain(swarm: Swarm) -> None:
    """Every height has one block, and every node executed all of them to the same roots."""
    top = max(swarm.height(name) for name in swarm.running)
    swarm.wait_height(top, swarm.running)
    for height in range(1, top + 1):
        blocks = {name: swarm.get(name, f"/blocks/{height}") for name in swarm.running}
        assert len({block["block_hash"] for block in blocks.values()}) == 1, height
    for name in swarm.running:
        status = swarm.get(name, "/status")
        consensus = status["consensus"]
        assert consensus["last_execution_height"] == consensus["committed_height"] >= top
        assert not {"consensus.equivocation_seen", "consensus.not_safe"} & status["counters"].keys()


def _assert_promises_kept(swarm: Swarm, promised: list[Promised]) -> None:
    """Whatever one node acknowledged is on all of them, at that height and with that outcome."""
    assert len(promised) > 3 * SEVERAL
    for name in swarm.running:
        for item in promised:
            receipt = swarm.get(name, f"/receipts/{item.action_id}")
            assert (receipt["height"], receipt["outcome"]) == (item.height, "applied")


def test_garbage_on_the_port_does_no_harm(triad: Triad) -> None:
    address = parse_address(parse_peer(triad.made.nodes[0].multiaddr)[1])
    noise = random.Random(7)
    half_open = []
    for data in (
        b"",
        b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
        b"\x13/multistream/1.0.0\n" + noise.randbytes(4096),
        b"\x13/multistream/1.0.0\n\x07/noise\n" + b"\xff\xff" + noise.randbytes(65535),
        b"\xff" * 10,
        noise.randbytes(1_000_000),
    ):
        connection = socket.create_connection((address.host, address.port), timeout=5)
        try:
            connection.sendall(data)
        except OSError:
            connection.close()  # the node has hung up on it, as it may
        else:
            half_open.append(connection)
    try:
        swarm = triad.swarm
        key = KeyPair(noise.randbytes(32))
        payload = RegisterAgent(name=Name("after-noise"), public_key=key.public_key, registration_quota=U64(0))
        assert settle(swarm.client("sequencer"), triad.authority.sign(payload)).outcome == "applied"
        path = f"/actors/{actor_id_of(key.public_key)}"
        swarm.until("the observer knows it", lambda: swarm.get("observer", path)["name"] == "after-noise")
        assert swarm.linked_to("sequencer") == {"storage", "observer"}
    finally:
        for connection in half_open:
            connection.close()


def test_a_second_process_on_a_home_is_refused(triad: Triad) -> None:
    second = run_command("node", "run", "--home", str(triad.swarm.home("storage")))
    assert second.returncode == 65
    assert "is in use by another process" in second.stderr
    assert "Traceback" not in second.stderr
    assert triad.swarm.get("storage", "/status")["running"]


@attrs.frozen
class Finished:
    """What was seen of a swarm of five that worked and was then stopped."""

    homes: dict[str, Path]
    receipt_s: float
    heads: dict[str, dict[str, Any]]
    linked_without_bootstrap: dict[str, set[str]]
    blocks_without_bootstrap: int
    ended: dict[str, tuple[int, float]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    directory = tmp_path_factory.mktemp("testnet") / "swarm"
    shape = ("--validators", "3", "--storage", "1", "--observers", "1")
    made = run_command("testnet", "init", str(directory), *shape, "--json")
    assert made.returncode == 0, made.stderr
    printed = json.loads(made.stdout)
    authority = Signer(
        printed["world_id"], bytes.fromhex(printed["genesis_hash"]), keyfile.read(Path(printed["authority_key"]))
    )
    with Swarm(printed_nodes(printed)) as swarm:
        names = list(swarm.nodes)
        swarm.start(*names)
        swarm.wait_all_linked()
        receipt_s = _time_to_receipt(swarm, authority)
        bootstrap, *rest = names
        swarm.kill(bootstrap)
        height = max(swarm.height(name) for name in rest)
        make_payers(swarm.client("observer-1"), authority, ["amelie", "bernard"])
        swarm.wait_height(height + 1, rest)
        swarm.wait_all_linked()  # two nodes that dialled each other at once give up one of two connections
        linked = {name: swarm.linked_to(name) for name in rest}
        heads = swarm.until("one head on all that are left", lambda: _same_heads(swarm, rest))
        swarm.start(bootstrap)
        swarm.wait_all_linked()
        heads = swarm.until("one head on all five", lambda: _same_heads(swarm, names))
        yield Finished(
            homes={name: swarm.home(name) for name in names},
            receipt_s=receipt_s,
            heads=heads,
            linked_without_bootstrap=linked,
            blocks_without_bootstrap=heads["observer-1"]["height"] - height,
            ended=swarm.interrupt(*names),
        )


def _time_to_receipt(swarm: Swarm, authority: Signer) -> float:
    """Seconds from handing an action to the observer until it answers with the receipt; the median of five."""
    taken = []
    for number in range(5):
        key = KeyPair(bytes([number + 1]) * 32)
        payload = RegisterAgent(name=Name(f"agent-{number}"), public_key=key.public_key, registration_quota=U64(0))
        data = authority.sign(payload)
        started = time.monotonic()
        assert settle(swarm.client("observer-1"), data).outcome == "applied"
        taken.append(time.monotonic() - started)
    return sorted(taken)[2]


def _same_heads(swarm: Swarm, names: list[str]) -> dict[str, dict[str, Any]]:
    """The heads of these nodes, once all are at one; nothing before."""
    heads = {name: swarm.get(name, "/head") for name in names}
    return heads if len({(head["height"], head["state_root"]) for head in heads.values()}) == 1 else {}


def test_five_nodes_reach_one_head(finished: Finished) -> None:
    assert len(finished.heads) == 5
    assert len({head["block_hash"] for head in finished.heads.values()}) == 1


def test_an_observer_gets_receipts_fast(finished: Finished, record_property: Any) -> None:
    record_property("receipt_s", finished.receipt_s)
    print(f"receipt at the observer after {finished.receipt_s:.3f} s")
    assert finished.receipt_s < 2


def test_nodes_that_knew_only_the_bootstrap_node_do_without_it(finished: Finished) -> None:
    names = set(finished.homes) - {"sequencer-1"}
    for name, linked in finished.linked_without_bootstrap.items():
        assert linked == names - {name}
    assert finished.blocks_without_bootstrap > 0


def test_an_interrupt_ends_nodes_cleanly(finished: Finished) -> None:
    assert finished.ended.keys() == finished.homes.keys()
    for name, (code, seconds) in finished.ended.items():
        assert code == 0, name
        assert seconds < STOP_S, name
        assert not (finished.homes[name] / "control.sock").exists()
        assert "Traceback" not in finished.homes[name].with_suffix(".log").read_text()


def _verify(home: Path) -> tuple[int, dict[str, Any]]:
    done = run_command("world", "verify", "--home", str(home), "--json")
    return done.returncode, json.loads(done.stdout)


def test_every_home_verifies_to_the_same_root(finished: Finished) -> None:
    reports = {name: _verify(home) for name, home in finished.homes.items()}
    assert {code for code, _report in reports.values()} == {0}
    # The interrupt may have come between two nodes' commits of one block: compare where all have been.
    lowest = min(report["height"] for _code, report in reports.values())
    assert lowest >= finished.heads["observer-1"]["height"]
    roots = {verify_home(home, watch_height=lowest).watched_root for home in finished.homes.values()}
    assert len(roots) == 1
    shown = {report["state_root"] for _code, report in reports.values() if report["height"] == lowest}
    assert shown == {str(root) for root in roots}


def _copy(finished: Finished, name: str, to: Path) -> Path:
    return Path(shutil.copytree(finished.homes[name], to / name))


def _flip(home: Path, select: str, update: str, *place: object) -> None:
    """Change one bit in the last byte of one value of a home's database."""
    with contextlib.closing(sqlite3.connect(home / "world.db", isolation_level=None)) as database:
        ((value,),) = database.execute(select, place).fetchall()
        database.execute(update, (value[:-1] + bytes([value[-1] ^ 1]), *place))


def test_a_flipped_bit_in_a_blob_is_found_with_its_height(finished: Finished, tmp_path: Path) -> None:
    home = _copy(finished, "storage-1", tmp_path)
    with contextlib.closing(sqlite3.connect(home / "world.db")) as database:
        action, height = database.execute("SELECT action_id, height FROM receipts ORDER BY height DESC").fetchone()
    place = "FROM blobs WHERE content_hash = ?"
    _flip(home, f"SELECT data {place}", "UPDATE blobs SET data = ? WHERE content_hash = ?", action)
    code, report = _verify(home)
    assert (code, report["ok"], report["height"]) == (65, False, height - 1)
    assert action.hex() in next(item["detail"] for item in report["problems"] if item["height"] == height)


def test_a_flipped_bit_in_a_block_row_is_found_with_its_height(finished: Finished, tmp_path: Path) -> None:
    home = _copy(finished, "observer-1", tmp_path)
    _flip(home, "SELECT block FROM blocks WHERE height = ?", "UPDATE blocks SET block = ? WHERE height = ?", 2)
    code, report = _verify(home)
    assert (code, report["problems"][0]["height"]) == (65, 2)
    shown = run_command("world", "verify", "--home", str(home))
    assert shown.returncode == 65
    assert "WRONG  height 2: " in shown.stderr


def test_the_home_of_another_world_is_refused(finished: Finished, triad: Triad, tmp_path: Path) -> None:
    home = _copy(finished, "storage-1", tmp_path)
    shutil.copyfile(triad.swarm.home("storage") / "genesis.toml", home / "genesis.toml")
    refused = run_command("node", "run", "--home", str(home))
    assert refused.returncode == 65
    assert "belongs to another world" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_damaged_database_is_refused_and_left_as_it_is(finished: Finished, tmp_path: Path) -> None:
    home = _copy(finished, "storage-1", tmp_path)
    file = home / "world.db"
    content = file.read_bytes()
    middle = len(content) // 2 // 4096 * 4096
    file.write_bytes(content[:middle] + bytes(4096) + content[middle + 4096 :])
    before = _files(home)
    refused = run_command("node", "run", "--home", str(home))
    assert refused.returncode == 65
    assert "world.db" in refused.stderr
    assert "restore the home from a copy" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert _files(home) == before


def _files(home: Path) -> dict[str, bytes]:
    """What a home holds, less SQLite's working files, which must hold nothing, and the lock."""
    found = {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()}
    assert not found.pop("world.db-wal", b"")
    return {name: data for name, data in found.items() if name not in ("world.db-shm", "lock")}

"""``agent-world world light`` over real sockets: peers that serve a made-up chain, lie about it, or are real nodes."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from swarm import Swarm, command, printed_nodes, run_command

from agent_world.config import MINIMAL
from agent_world.crypto.hashing import hash32
from agent_world.net.address import format_peer
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.testing.certified_chain import EPOCH_HEIGHTS, CertifiedChain, ChainPeer
from agent_world.testing.node_swarm import make_key
from agent_world.wire.ids import PeerId
from agent_world.world.genesis import genesis_toml

EPOCHS = 20
FORK_EXIT, PROTOCOL_EXIT, USAGE_EXIT, LATER_EXIT = 79, 76, 64, 75


def made_chain() -> CertifiedChain:
    return CertifiedChain(EPOCHS * EPOCH_HEIGHTS + 1)


class Served:
    """Hosts in a thread, one for each peer, until ``close``."""

    def __init__(self, *peers: ChainPeer) -> None:
        self._peers = peers
        self._ready = threading.Event()
        self.addresses: list[str] = []
        self.ids: list[PeerId] = []
        self._thread = threading.Thread(target=trio.run, args=(self._run,))
        self._thread.start()
        assert self._ready.wait(30)

    async def _run(self) -> None:
        self._token, self._stop = trio.lowlevel.current_trio_token(), trio.Event()
        async with trio.open_nursery() as nursery:
            for number, peer in enumerate(self._peers):
                self.ids.append(await nursery.start(self._host, number, peer))
            self._ready.set()
            await self._stop.wait()
            nursery.cancel_scope.cancel()

    async def _host(self, number: int, peer: ChainPeer, *, task_status: Any) -> None:
        async with Libp2pNetwork.open(MINIMAL.net, make_key("light test host", number)) as network:
            peer.serve(network)
            self.addresses.append(format_peer(network.peer_id, network.listen_addresses()[0]))
            task_status.started(network.peer_id)
            await trio.sleep_forever()

    def close(self) -> None:
        if self._thread.is_alive():
            self._token.run_sync_soon(self._stop.set)
        self._thread.join()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Start hosts for these peers."""
    made: list[Served] = []

    def start(*peers: ChainPeer) -> Served:
        made.append(Served(*peers))
        return made[-1]

    yield start
    for served in made:
        served.close()


def arguments(tmp_path: Path, chain: CertifiedChain, served: Served, *more: str) -> list[str]:
    file = tmp_path / "genesis.toml"
    file.write_text(genesis_toml(chain.genesis))
    asked = [part for address in served.addresses for part in ("--bootstrap", address)]
    return ["world", "light", "--genesis", str(file), *asked, *more]


def test_epochs_are_followed_and_the_saved_head_is_the_next_runs_trust(
    tmp_path: Path, serve: Callable[..., Served]
) -> None:
    chain = made_chain()
    peer = ChainPeer(chain)
    served = serve(peer, ChainPeer(chain))
    anchor = tmp_path / "anchor.json"
    kept = ("--json", "--save", str(anchor))
    first = run_command(*arguments(tmp_path, chain, served, *kept, "--state-key", "system/clock"))
    assert (first.returncode, first.stderr) == (0, "")
    told = json.loads(first.stdout)
    assert (told["height"], told["sets_crossed"], told["trusted_height"]) == (len(chain.links), EPOCHS, 0)
    assert told["block_hash"] == hash32(chain.tip.data).hex()
    assert (told["signed_stake"], told["required_stake"], told["total_stake"]) == (300, 267, 400)
    assert told["agreed_by"] == sorted(served.ids)
    assert (told["state"]["is_there"], told["state"]["value"]["height"]) == (True, 0)

    chain.grow(EPOCH_HEIGHTS)
    second = run_command(*arguments(tmp_path, chain, served, *kept, "--trust", f"@{anchor}"))
    assert second.returncode == 0, second.stderr
    told = json.loads(second.stdout)
    assert (told["trusted_height"], told["height"], told["sets_crossed"]) == (61, 64, 1)
    assert json.loads(anchor.read_text())["height"] == 64

    given = f"40:{hash32(chain.links[39].data).hex()}"
    third = run_command(*arguments(tmp_path, chain, served, "--trust", given))
    assert third.returncode == 0, third.stderr
    assert hash32(chain.tip.data).hex() in third.stdout


def test_a_liar_is_named_and_the_honest_peer_believed(tmp_path: Path, serve: Callable[..., Served]) -> None:
    chain = made_chain()
    forger, hider = ChainPeer(chain), ChainPeer(chain)
    forged = attrs.evolve(chain.branch(len(chain.links) - 1, 1, b"x").tip, certificate=chain.tip.certificate)
    forger.head = lambda: forged.certified
    hider.boundaries = lambda _low, _count: []
    served = serve(forger, hider, ChainPeer(chain))
    ran = run_command(*arguments(tmp_path, chain, served, "--json"))
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["block_hash"], told["agreed_by"]) == (hash32(chain.tip.data).hex(), [served.ids[2]])
    assert told["passed_over"].keys() == {served.ids[0], served.ids[1]}
    assert f"passed over {served.ids[0]}: lied: C5" in ran.stderr
    assert f"passed over {served.ids[1]}: lied: G4" in ran.stderr

    served.addresses = served.addresses[:2]
    alone = run_command(*arguments(tmp_path, chain, served))
    assert (alone.returncode, alone.stdout) == (PROTOCOL_EXIT, "")
    assert served.ids[0] in alone.stderr


def test_a_fork_is_loud_and_both_blocks_are_kept(tmp_path: Path, serve: Callable[..., Served]) -> None:
    chain = made_chain()
    other = chain.branch(len(chain.links) - 1, 2, b"other")
    served = serve(ChainPeer(chain), ChainPeer(other))
    anchor = tmp_path / "kept" / "anchor.json"
    anchor.parent.mkdir()
    ran = run_command(*arguments(tmp_path, chain, served, "--save", str(anchor)))
    assert (ran.returncode, ran.stdout) == (FORK_EXIT, "")
    assert "FORK at height 61" in ran.stderr
    (kept,) = anchor.parent.iterdir()
    assert str(kept) in ran.stderr
    blocks = json.loads(kept.read_text())["blocks"]
    assert {block["shown_by"] for block in blocks} == set(served.ids)
    assert {block["block"] for block in blocks} == {chain.tip.data.hex(), other.links[60].data.hex()}
    assert all(block["certificate"] and block["signed_by"] for block in blocks)


def test_whose_fault_it_is(tmp_path: Path, serve: Callable[..., Served]) -> None:
    chain, foreign = made_chain(), made_chain()
    foreign.genesis = attrs.evolve(chain.genesis, slash_equivocation=not chain.genesis.slash_equivocation)
    served = serve(ChainPeer(foreign))
    ran = run_command(*arguments(tmp_path, chain, served))
    assert (ran.returncode, ran.stdout) == (USAGE_EXIT, "")
    assert "genesis" in ran.stderr
    address = served.addresses[0]
    served.close()
    served.addresses = [address]
    ran = run_command(*arguments(tmp_path, chain, served))
    assert (ran.returncode, ran.stdout) == (LATER_EXIT, "")
    assert ran.stderr.count("\n") <= 2, "the library's own words are not shown"


def test_heads_are_followed_until_ctrl_c(tmp_path: Path, serve: Callable[..., Served]) -> None:
    chain = CertifiedChain(1)
    served = serve(ChainPeer(chain))
    asked = arguments(tmp_path, chain, served, "--follow", "--every", "0.05", "--json")
    with subprocess.Popen(command(*asked), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            for height in range(1, 3 * EPOCH_HEIGHTS):
                told = json.loads(process.stdout.readline())
                assert (told["height"], told["block_hash"]) == (height, hash32(chain.tip.data).hex())
                chain.grow(1)
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_real_nodes(tmp_path: Path) -> None:
    made = run_command("testnet", "init", str(tmp_path / "swarm"), "--triad", "--json")
    nodes = printed_nodes(json.loads(made.stdout))
    with Swarm(nodes) as swarm:
        swarm.start(*swarm.nodes)
        swarm.wait_all_linked()
        swarm.wait_height(1, swarm.nodes)
        asked = [part for node in nodes for part in ("--bootstrap", node.multiaddr)]
        genesis = str(nodes[0].home / "genesis.toml")
        ran = run_command("world", "light", "--genesis", genesis, *asked, "--state-key", "system/clock", "--json")
        assert ran.returncode == 0, ran.stderr
        told = json.loads(ran.stdout)
        assert len(told["agreed_by"]) == 3, ran.stderr
        assert told["state"]["value"]["height"] == told["height"]
        block = swarm.get(nodes[1].name, f"/blocks/{told['height']}")
        assert (block["block_hash"], block["block"]["state_root"]) == (told["block_hash"], told["state_root"])
        assert told["signed_stake"] >= told["required_stake"]

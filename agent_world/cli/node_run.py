"""agent-world node run."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click
import trio

from agent_world.cli.allocator import keep_freed_memory
from agent_world.cli.challenge_options import challenge_options
from agent_world.cli.collector import relax_collector, spare_what_stays
from agent_world.cli.node_options import apply_options, set_up_logging
from agent_world.errors import AgentWorldError
from agent_world.node.settings import Topology
from agent_world.wire.hello import Role


@click.command("run")
@click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The node's home directory."
)
@click.option(
    "--role", type=click.Choice([role.value for role in Role], case_sensitive=False), help="What the node does."
)
@click.option(
    "--topology",
    type=click.Choice([topology.value for topology in Topology], case_sensitive=False),
    help="triad_distributed needs --role, and --bootstrap unless the role is sequencer.",
)
@click.option("--listen", multiple=True, metavar="MULTIADDR", help="Where to listen, such as /ip4/0.0.0.0/tcp/4001.")
@click.option(
    "--bootstrap", multiple=True, metavar="MULTIADDR", help="Address of another node, ending in /p2p/PEER_ID."
)
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Any other setting of node.toml.")
@challenge_options
@click.option("--print-config", is_flag=True, help="Print the effective settings as TOML and exit.")
@click.option("--log-json", is_flag=True, help="Log lines as JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def command(home: Path, print_config: bool, log_json: bool, verbose: bool, **options: Any) -> None:
    """Run a node from its home directory until Ctrl-C. Options win over node.toml; nothing is written back."""
    if options["topology"] == Topology.TRIAD_DISTRIBUTED.value and options["role"] is None:
        raise click.UsageError("--topology triad_distributed needs --role sequencer, storage or observer")
    relax_collector()
    keep_freed_memory()
    # Here and not above: only a command that starts a node pays for importing libp2p (D11).
    from agent_world.node.runner import load_home, run_nodes

    loaded = load_home(home, lambda table: apply_options(table, options))
    if print_config:
        click.echo(loaded.settings.to_toml(), nl=False)
        return
    set_up_logging(verbose=verbose, as_json=log_json)
    run_until_stopped(run_nodes, [loaded], lambda _nodes: spare_what_stays())


def run_until_stopped(main: Any, *arguments: Any) -> None:
    """Run until SIGINT or SIGTERM, then cancel everything and leave with 0; unwrap our errors from groups."""
    try:
        trio.run(_until_signal, main, arguments)
    except BaseExceptionGroup as group:
        raise first_error(group) from group


async def _until_signal(main: Any, arguments: tuple[Any, ...]) -> None:
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            nursery.start_soon(_run_and_cancel, main, arguments, nursery.cancel_scope)
            async for _signal in signals:
                nursery.cancel_scope.cancel()
                break


async def _run_and_cancel(main: Any, arguments: tuple[Any, ...], scope: trio.CancelScope) -> None:
    await main(*arguments)
    scope.cancel()


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of our own errors in a group, else the group's first error."""
    ours = group.subgroup(AgentWorldError)
    inner: BaseException = ours if ours is not None else group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return inner

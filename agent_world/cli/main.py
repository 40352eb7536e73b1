"""The command ``agent-world``: groups whose commands are imported when they are used."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Final

import click

from agent_world import __version__
from agent_world.cli.printable import say
from agent_world.errors import AgentWorldError, StoreNotWritable

_COMMANDS: Final[dict[str, dict[str, str]]] = {
    "keys": {"new": "keys_new", "show": "keys_show"},
    "testnet": {"init": "testnet_init"},
    "node": {
        "run": "node_run",
        "triad": "node_triad",
        "status": "node_status",
        "inspect": "node_inspect",
        "rollback": "node_rollback",
        "reset": "node_reset",
    },
    "peer": {"list": "peer_list", "ban": "peer_ban", "unban": "peer_unban", "ask": "peer_ask"},
    "validator": {
        "list": "validator_list",
        "epoch": "validator_epoch",
        "propose": "validator_propose",
        "approve": "validator_approve",
        "changes": "validator_changes",
        "rotate": "validator_rotate",
    },
    "lease": {"status": "lease_status", "acquire": "lease_acquire", "release": "lease_release"},
    "replication": {"status": "replication_status", "commit": "replication_commit"},
    "action": {"submit": "action_submit"},
    "world": {
        "head": "world_head",
        "block": "world_block",
        "state": "world_state",
        "events": "world_events",
        "verify": "world_verify",
        "replay": "world_replay",
        "light": "world_light",
        "save": "world_save",
        "load": "world_load",
    },
    "fs": {
        "write": "fs_write",
        "cat": "fs_cat",
        "ls": "fs_ls",
        "stat": "fs_stat",
        "rm": "fs_rm",
        "cp": "fs_cp",
        "sync": "fs_sync",
        "audit": "fs_audit",
        "export": "fs_export",
        "import": "fs_import",
    },
    "blob": {
        "get": "blob_get",
        "put": "blob_put",
        "pin": "blob_pin",
        "unpin": "blob_unpin",
        "rm": "blob_rm",
        "gc": "blob_gc",
        "export": "blob_export",
        "import": "blob_import",
        "ls": "blob_ls",
        "stat": "blob_stat",
        "verify": "blob_verify",
    },
    "provide": {"stat": "provide_stat", "once": "provide_once", "find": "provide_find"},
    "replicas": {"status": "replicas_status", "plan": "replicas_plan", "run": "replicas_run"},
    "challenge": {"run": "challenge_run", "status": "challenge_status", "explain": "challenge_explain"},
}
_SUBGROUPS: Final[dict[tuple[str, str], dict[str, str]]] = {
    ("validator", "guard"): {
        "export": "validator_guard_export",
        "import": "validator_guard_import",
        "init": "validator_guard_init",
    },
}
_GROUP_HELP: Final = {
    "keys": "Make and show key files.",
    "testnet": "Make the genesis and the node homes of a swarm.",
    "node": "Run nodes, look into them, and repair or reset their homes.",
    "peer": "See who a node is connected with, and keep peers out.",
    "validator": "See and change who validates, and with which key.",
    "guard": "Carry the vote guard of a stopped node, or make it anew.",
    "lease": "See and move the lease of the world's single writer.",
    "replication": "See what the world's single writer has put where.",
    "action": "Sign actions and hand them to a node.",
    "world": "Look at the world through a node, verify a home, or verify the head of a swarm without one.",
    "fs": "Files by their paths: write on condition, mirror folders, carry a whole index to another node.",
    "blob": "Put content into a node's store, get it out, and check what is there.",
    "provide": "Announce content in the DHT, and find who provides it.",
    "replicas": "See at how many storage nodes content is kept, and have copies made where they are too few.",
    "challenge": "Have storage nodes show that they can read what they should hold.",
}
INTERRUPTED_EXIT: Final = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is named (D11: fast start, no libp2p)."""

    def __init__(self, modules: dict[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table, not of the alphabet."""
        return [*super().list_commands(ctx), *self._modules]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import ``agent_world.cli.<module>`` and take its ``command``."""
        if cmd_name not in self._modules:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"agent_world.cli.{self._modules[cmd_name]}")
        command = module.command
        assert isinstance(command, click.Command)
        return command


def _build() -> click.Group:
    root = LazyGroup(
        {"demo": "demo"},
        name="agent-world",
        help="Agent World: a world that nobody has to trust.",
        context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "AGENT_WORLD"},
    )
    groups = {name: LazyGroup(modules, name=name, help=_GROUP_HELP[name]) for name, modules in _COMMANDS.items()}
    for group in groups.values():
        root.add_command(group)
    for (above, name), modules in _SUBGROUPS.items():
        groups[above].add_command(LazyGroup(modules, name=name, help=_GROUP_HELP[name]))
    return click.version_option(__version__, prog_name="agent-world")(root)


cli: Final = _build()


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors become one line on stderr and the exit code of their class."""
    try:
        code = cli.main(args=arguments, prog_name="agent-world", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED_EXIT)
    except click.ClickException as error:
        error.show()
        sys.exit(64 if isinstance(error, click.UsageError) else error.exit_code)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED_EXIT)
    except AgentWorldError as error:
        say(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        # What is read and written by name has its own words; this is standard output, or the system as such.
        say(f"error: the system refused: {error}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or what is left in the buffer fails again at the end
        sys.exit(StoreNotWritable.exit_code)
    sys.exit(code if isinstance(code, int) else 0)

"""What holds for every command: it has help, options have help, and what prints results prints JSON on demand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from agent_world import __version__
from agent_world.cli.main import cli
from agent_world.errors import StoreNotWritable

RUNS_UNTIL_STOPPED = {"node run", "node triad"}
"""These print no result."""


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


ALL = dict(commands(cli))


@pytest.mark.parametrize("name", ALL)
def test_every_command_and_option_has_help(name: str) -> None:
    command = ALL[name]
    assert command.help is not None
    assert command.help.split("\n")[0].endswith(".")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help or parameter.show_default, f"{name} {parameter.opts}"


@pytest.mark.parametrize("name", ALL)
def test_every_command_that_prints_results_prints_json(name: str) -> None:
    flags = {option for parameter in ALL[name].params for option in parameter.opts}
    assert ("--json" in flags) is (name not in RUNS_UNTIL_STOPPED)


@pytest.mark.parametrize("name", ALL)
def test_help_works(run: Callable[..., Any], name: str) -> None:
    for flag in ("--help", "-h"):
        ran = run(*name.split(), flag)
        assert ran.code == 0
        assert ran.out.startswith(f"Usage: agent-world {name}")


@pytest.mark.parametrize("name", ["", "keys", "testnet", "node", "action", "world", "blob"])
def test_groups_list_their_commands_with_help(run: Callable[..., Any], name: str) -> None:
    ran = run(*name.split(), "--help")
    assert ran.code == 0
    for full, command in ALL.items():
        if full.rpartition(" ")[0] == name:
            assert full.rpartition(" ")[2] in ran.out
            assert command.help is not None
            assert command.help.split()[0] in ran.out


@pytest.mark.parametrize("arguments", [("nonsense",), ("node", "nonsense"), ("keys", "new"), ("world", "block", "x")])
def test_what_was_typed_wrongly_is_a_usage_error(run: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    ran = run(*arguments)
    assert ran.code == 64
    assert "Usage:" in ran.err
    assert ran.out == ""


def test_the_version(run: Callable[..., Any]) -> None:
    ran = run("--version")
    assert (ran.code, ran.out) == (0, f"agent-world, version {__version__}\n")


def test_commands_that_start_no_node_do_not_import_the_network() -> None:
    code = (
        "import sys\n"
        "from agent_world.cli.main import main\n"
        "try: main(['node', 'status', '--home', '/nonexistent'])\n"
        "except SystemExit as done: print(done.code, 'libp2p' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "64 False\n"


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    code = (
        "import os, sys\n"
        "from agent_world.cli.main import main\n"
        "read, write = os.pipe()\n"
        "os.close(read)\n"
        "os.dup2(write, 1)\n"
        "main(['--help'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("how", ["click.echo('x')", "sys.stdout.buffer.write(b'x'), sys.stdout.buffer.flush()"])
def test_an_output_that_takes_nothing_is_an_error_in_one_line(how: str) -> None:
    code = (
        "import sys\n"
        "import click\n"
        "from agent_world.cli import main\n"
        "sys.argv = ['agent-world', 'full']\n"
        "@main.cli.command('full')\n"
        f"def full(): {how}\n"
        "main.main()\n"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.stderr == "error: the system refused: [Errno 28] No space left on device\n"
    assert done.returncode == StoreNotWritable.exit_code

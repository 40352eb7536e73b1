"""Commands that start no node start fast: libp2p, which costs 0.7 s and 84 MB, is imported by those that do (D11)."""

from __future__ import annotations

import subprocess
import sys

import pytest

SHOW_LIBP2P = "import sys; print(sorted(name for name in sys.modules if name.split('.')[0] in {'libp2p', 'multiaddr'}))"


def libp2p_modules_after(statement: str) -> str:
    command = [sys.executable, "-c", f"{statement}; {SHOW_LIBP2P}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return result.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "module",
    ["agent_world.cli.main", "agent_world.net.interface", "agent_world.net.address", "agent_world.net.memory",
     "agent_world.world.replay", "agent_world.node.settings"],
)  # fmt: skip
def test_importing_it_does_not_import_libp2p(module: str) -> None:
    assert libp2p_modules_after(f"import {module}") == "[]", (
        f"{module} must import libp2p inside the function that uses it"
    )


@pytest.mark.parametrize("arguments", [["--help"], ["node", "--help"], ["world", "--help"], ["keys", "--help"]])
def test_help_does_not_import_libp2p(arguments: list[str]) -> None:
    run = f"from agent_world.cli.main import cli; cli.main({arguments!r}, standalone_mode=False)"
    assert libp2p_modules_after(run) == "[]"


def test_the_check_sees_libp2p() -> None:
    assert "libp2p" in libp2p_modules_after("import libp2p")

"""Imports point down only; floors 0 and 1 are functions of their arguments; only net knows libp2p."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PURE_PACKAGES = {
    "errors",
    "config",
    "wire",
    "crypto",
    "consensus",
    "sequencer",
    "world",
    "distfs",
    "membership",
    "sync",
}
IMPURE_MODULES = {
    "asyncio", "datetime", "libp2p", "logging", "multiaddr", "os", "pathlib", "random", "secrets", "shutil", "socket",
    "sqlite3", "structlog", "subprocess", "tempfile", "threading", "time", "trio", "uuid",
}  # fmt: skip
IMPURE_CALLS = {"open", "print", "input", "id", "hash"}
"""``id`` and ``hash`` differ from process to process."""
INTEGER_PACKAGES = {"wire", "crypto", "consensus", "world", "sequencer", "sync"}


def imports_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.lineno, node.module


def impurities(source: Any) -> list[str]:
    found = [
        f"{source.name}:{line}: imports {name}; take time, chance and the world outside as arguments, or move it up"
        for line, name in imports_of(source.tree)
        if name.split(".")[0] in IMPURE_MODULES
    ]
    found += [
        f"{source.name}:{node.lineno}: calls {node.func.id}(); floors 0 and 1 have no effects"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS
    ]
    return found


def floats(source: Any) -> list[str]:
    found = []
    for node in ast.walk(source.tree):
        is_float = isinstance(node, ast.Constant) and isinstance(node.value, float)
        if is_float or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)):
            found.append(f"{source.name}:{node.lineno}: a float; what decides is counted in integers, divide by //")
    return found


def libp2p_imports(source: Any) -> list[str]:
    return [
        f"{source.name}:{line}: imports {name}; only agent_world/net/libp2p may (use net.interface)"
        for line, name in imports_of(source.tree)
        if name.split(".")[0] == "libp2p"
    ]


def test_floors_0_and_1_are_pure(product: list[Any], clean: Callable[..., None]) -> None:
    pure = [source for source in product if source.package in PURE_PACKAGES]
    assert len(pure) > 20
    clean(impurities, pure)


def test_floors_that_decide_count_in_integers(product: list[Any], clean: Callable[..., None]) -> None:
    deciding = [source for source in product if source.package in INTEGER_PACKAGES]
    clean(floats, deciding)


def test_only_net_imports_libp2p(product: list[Any], clean: Callable[..., None]) -> None:
    # The simulation runs the library itself, on a transport of its own.
    allowed = ("agent_world/net/libp2p", "agent_world/testing/sim_libp2p")
    others = [source for source in product if not source.name.startswith(allowed)]
    clean(libp2p_imports, others)


def test_the_checks_can_fail(sample: Callable[..., Any]) -> None:
    assert len(impurities(sample("import time\nfrom os.path import join\nimport trio.testing\nopen('x')\n"))) == 4
    assert impurities(sample("import timeit\nimport ossify\nself.open('x')\n")) == []
    assert len(floats(sample("x = 0.5\ny = 1 / 2\n"))) == 2
    assert floats(sample("x = 5\ny = 1 // 2\n")) == []
    assert len(libp2p_imports(sample("import libp2p\nfrom libp2p.host import x\nfrom agent_world.net import y"))) == 2


def contracts(root: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    return found


def test_every_package_has_its_floor(root: Path) -> None:
    layers = next(contract["layers"] for contract in contracts(root) if contract["type"] == "layers")
    placed = {name.strip() for layer in layers for name in layer.replace("|", ":").split(":")}
    there = {
        f"agent_world.{path.stem}"
        for path in (root / "agent_world").iterdir()
        if path.stem != "__init__" and (path.suffix == ".py" or (path / "__init__.py").exists())
    }
    assert there == placed, "name every package in the layers of pyproject.toml, and none that is not there"


def test_the_pure_packages_are_those_of_the_contract(root: Path) -> None:
    pure = next(contract for contract in contracts(root) if "pure" in contract["name"])
    named = {name.removeprefix("agent_world.") for name in pure["source_modules"]}
    there = {name for name in PURE_PACKAGES if list((root / "agent_world").glob(f"{name}*"))}
    assert named == there, "list the same packages in pyproject.toml and in PURE_PACKAGES of this file"


LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LINT, "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


def test_the_contracts_of_import_linter_hold(root: Path) -> None:
    result = lint(root)
    assert result.returncode == 0, result.stdout + result.stderr


def test_import_linter_sees_an_upward_import(tmp_path: Path) -> None:
    package = tmp_path / "floors_sample"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "low.py").write_text("import floors_sample.high\n")
    (package / "high.py").touch()
    (tmp_path / "pyproject.toml").write_text(
        '[tool.importlinter]\nroot_package = "floors_sample"\n[[tool.importlinter.contracts]]\nname = "floors"\n'
        'type = "layers"\nlayers = ["floors_sample.high", "floors_sample.low"]\n'
    )
    result = lint(tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "floors_sample.low -> floors_sample.high" in result.stdout

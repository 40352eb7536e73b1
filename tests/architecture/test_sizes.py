"""Files are whole and named after their job; functions and parameter lists can be read at a glance."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
PARAMETERS_MAX = 6
CUT_NAME = re.compile(r"(^|_)(part|split|impl|misc|utils?|helpers?|common|v)\d*(_|$)")

Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def long_file(source: Any) -> list[str]:
    count = len(source.lines)
    return [f"{source.name}: {count} lines; split it by job, not by length"] if count > FILE_LINES_MAX else []


def cut_names(source: Any) -> list[str]:
    words = Path(source.name).with_suffix("").parts
    return [f"{source.name}: {word!r} says how it was cut; name the job" for word in words if CUT_NAME.search(word)]


def long_functions(source: Any) -> list[str]:
    return [
        f"{source.name}:{node.lineno}: {node.name} has {lines_of(node)} lines; at most {FUNCTION_LINES_MAX}"
        for node in ast.walk(source.tree)
        if isinstance(node, Function) and lines_of(node) > FUNCTION_LINES_MAX
    ]


def lines_of(node: Any) -> int:
    return int(node.end_lineno) - int(node.lineno) + 1


def many_parameters(source: Any) -> list[str]:
    return [
        f"{source.name}:{node.lineno}: {node.name} takes {len(parameters_of(node))} parameters; at most "
        f"{PARAMETERS_MAX}: what varies together is a record"
        for node in ast.walk(source.tree)
        if isinstance(node, Function) and not is_command(node) and len(parameters_of(node)) > PARAMETERS_MAX
    ]


def parameters_of(node: Any) -> list[str]:
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return [argument.arg for argument in named if argument is not None and argument.arg not in ("self", "cls")]


def is_command(node: Any) -> bool:
    """A click command has a parameter for each option that a person can give."""
    return any("command" in ast.unparse(decorator) for decorator in node.decorator_list)


def test_files_are_whole(everything: list[Any], clean: Callable[..., None]) -> None:
    assert len(everything) > 60
    clean(long_file, everything)


def test_names_say_the_job(everything: list[Any], clean: Callable[..., None]) -> None:
    clean(cut_names, everything)


def test_functions_are_short(everything: list[Any], clean: Callable[..., None]) -> None:
    clean(long_functions, everything)


def test_parameters_are_few(product: list[Any], clean: Callable[..., None]) -> None:
    clean(many_parameters, product)


def test_the_checks_can_fail(sample: Callable[..., Any]) -> None:
    assert long_file(sample("x = 0\n" * 401))
    assert not long_file(sample("x = 0\n" * 400))
    for name in ("rules_part1", "net_utils", "common", "impl", "block_split_2", "head_v2"):
        assert cut_names(sample("", f"agent_world/wire/{name}.py")), name
    for name in ("partition", "department", "implicit", "provider", "split_brain"):
        assert bool(cut_names(sample("", f"agent_world/wire/{name}.py"))) is (name == "split_brain"), name
    assert long_functions(sample("def f():\n" + "    x = 0\n" * 60))
    assert not long_functions(sample("def f():\n" + "    x = 0\n" * 59))
    assert many_parameters(sample("class A:\n    def f(self, a, b, c, d, /, e, *, f, g): ...\n"))
    assert not many_parameters(sample("class A:\n    def f(self, a, b, c, d, /, e, *, f): ...\n"))
    assert not many_parameters(sample("@click.command()\ndef f(a, b, c, d, e, f, g): ...\n"))

"""Every module of the lower floors has its test file, and no test waits for real time."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

MIRRORED = (
    "errors.py",
    "config.py",
    "wire",
    "crypto",
    "consensus",
    "sequencer",
    "world",
    "distfs",
    "sync",
    "store",
    "net",
)
"""Floors 0 to 2."""
EXCEPTIONS = {
    "net/libp2p/": "needs real sockets: tests/net",
}
"""Modules and folders without test files of their own, and why."""


def is_tested(module: str, tests: set[str]) -> bool:
    """``wire/head.py`` by ``wire/test_head.py`` or ``wire/test_<word>_head.py``: pytest needs basenames that differ."""
    path = Path(module)
    return any(
        Path(test).parent == path.parent and Path(test).name.endswith((f"test_{path.name}", f"_{path.name}"))
        for test in tests
    )


def untested(modules: list[str], tests: set[str]) -> list[str]:
    return [
        f"agent_world/{module}: write tests/unit/{Path(module).parent / f'test_{Path(module).name}'}"
        for module in modules
        if not is_tested(module, tests) and not any(module.startswith(name) for name in EXCEPTIONS)
    ]


def test_every_module_of_the_lower_floors_has_its_test_file(product: list[Any], root: Path) -> None:
    names = [source.name.removeprefix("agent_world/") for source in product if source.text.count("\n") > 3]
    lower = [name for name in names if name.split("/")[0] in MIRRORED and not name.endswith("__init__.py")]
    tests = {path.relative_to(root / "tests/unit").as_posix() for path in (root / "tests/unit").rglob("test_*.py")}
    assert len(lower) > 40
    missing = untested(lower, tests)
    assert not missing, "\n".join(missing)


def test_every_exception_is_still_needed(product: list[Any]) -> None:
    for name in EXCEPTIONS:
        assert any(source.name.startswith(f"agent_world/{name}") for source in product), f"{name} is gone"


def test_test_files_have_basenames_of_their_own(root: Path) -> None:
    """Without packages below tests/, pytest tells test modules apart by their basename alone."""
    places = defaultdict(list)
    for path in (root / "tests").rglob("test_*.py"):
        places[path.name].append(path.relative_to(root).as_posix())
    twice = [paths for paths in places.values() if len(paths) > 1]
    assert twice == [], "put the folder's name into one of them: test_<folder>_<module>.py"


def real_sleeps(source: Any) -> list[str]:
    """Sleeps that take real time: every one, unless it polls in a loop, has a virtual clock or a reason beside it."""
    found = []
    has_clock = "autojump_clock" in source.text or "MockClock" in source.text
    for sleep, in_loop in calls_of_sleep(source.tree):
        reason = "#" in source.lines[sleep.lineno - 1] or source.lines[sleep.lineno - 2].strip().startswith("#")
        if not in_loop and not has_clock and not reason:
            found.append(
                f"{source.name}:{sleep.lineno}: sleeps real time; use autojump_clock, wait for an event, poll in "
                "a loop with a deadline, or say beside it why only real time shows this"
            )
    return found


def calls_of_sleep(tree: ast.AST, in_loop: bool = False) -> list[tuple[Any, bool]]:
    found: list[tuple[Any, bool]] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rsplit(".", 1)[-1] == "sleep":
            found.append((node, in_loop))
        found += calls_of_sleep(node, in_loop or isinstance(node, (ast.While, ast.For, ast.AsyncFor)))
    return found


def test_no_test_sleeps_real_time(everything: list[Any], clean: Callable[..., None]) -> None:
    tests = [source for source in everything if source.name.startswith("tests/")]
    mine = "tests/architecture/test_tests.py"
    clean(real_sleeps, [source for source in tests if source.name != mine])


def time_limits(source: Any) -> list[str]:
    """Property tests that fail when the machine is slow: the profile of tests/conftest.py has neither limit."""
    found = []
    for call in ast.walk(source.tree):
        if not (isinstance(call, ast.Call) and ast.unparse(call.func) == "settings"):
            continue
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        checks = given.get("suppress_health_check", "list(HealthCheck)")
        if given.get("deadline", "None") != "None" or not ("too_slow" in checks or checks == "list(HealthCheck)"):
            found.append(f"{source.name}:{call.lineno}: has a limit of real time; deadline=None, HealthCheck.too_slow")
    return found


def test_no_property_test_has_a_limit_of_real_time(everything: list[Any], clean: Callable[..., None]) -> None:
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check
    clean(time_limits, [source for source in everything if source.name.startswith("tests/")])


def test_the_checks_can_fail(sample: Callable[..., Any]) -> None:
    assert untested(["wire/new.py"], {"wire/test_old.py"})
    assert not untested(["wire/new.py", "wire/head.py"], {"wire/test_new.py", "wire/test_wire_head.py"})
    assert not untested(["world/rules/move.py", "errors.py"], {"world/rules/test_rules_move.py", "test_errors.py"})
    assert untested(["world/rules/move.py"], {"world/test_move.py", "world/rules/test_remove.py"})
    assert real_sleeps(sample("async def test_x():\n    await trio.sleep(1)\n"))
    assert real_sleeps(sample("def test_x():\n\n    time.sleep(0.1)\n"))
    assert not real_sleeps(sample("async def test_x(autojump_clock):\n    await trio.sleep(1)\n"))
    assert not real_sleeps(sample("def test_x():\n    while not done():\n        time.sleep(0.01)\n"))
    assert not real_sleeps(sample("async def test_x():\n    await trio.sleep_forever()\n"))
    assert time_limits(sample("@settings(deadline=200)\ndef test_x(): ...\n"))
    assert time_limits(sample("@settings(suppress_health_check=[HealthCheck.filter_too_much])\ndef test_x(): ...\n"))
    assert not time_limits(sample("@settings(max_examples=3)\ndef test_x(): ...\n"))

"""Everything public says what it is for; whoever swallows an error says why; nothing else hides in a line."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any

Documented = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
PRIVATE_PATHS = re.compile(r"/work/|/root/|\bTODO\b|\bFIXME\b|\bXXX\b")


def public_parts(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Public classes, functions and methods; what is inside a private class or a function is private."""
    for node in body:
        if isinstance(node, Documented) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_parts(node.body, f"{node.name}.")


def undocumented(source: Any) -> list[str]:
    found = [] if ast.get_docstring(source.tree) else [f"{source.name}:1: say in one sentence what this file is for"]
    for name, node in public_parts(source.tree.body):
        if ast.get_docstring(node) is None and not is_overload(node):
            found.append(f"{source.name}:{node.lineno}: {name} has no docstring; give shapes, units and errors")
    return found


def is_overload(node: Any) -> bool:
    return any(ast.unparse(decorator).endswith(("overload", ".setter")) for decorator in node.decorator_list)


def silent_excepts(source: Any) -> list[str]:
    return [
        f"{source.name}:{node.lineno}: catches everything; name the error, raise it again, or say beside it why not"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler)
        and is_broad(node)
        and not raises_again(node)
        and not has_comment(source.lines, node)
    ]


def is_broad(node: ast.ExceptHandler) -> bool:
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(kind is None or ast.unparse(kind) in ("Exception", "BaseException") for kind in caught)


def raises_again(node: ast.ExceptHandler) -> bool:
    last = node.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def has_comment(lines: list[str], node: ast.ExceptHandler) -> bool:
    """A reason on the line, on the one before or on the first of the body; a bare ``noqa`` is none."""
    near = lines[max(0, node.lineno - 2) : node.lineno + 1]
    return any("#" in line and re.search(r"#\s*(?!noqa)\w", line) for line in near)


def unreasoned_noqa(source: Any) -> list[str]:
    """``# noqa`` and ``# type: ignore`` without a code switch off more than was meant."""
    return [
        f"{source.name}:{number}: name the codes that are switched off"
        for number, line in enumerate(source.lines, 1)
        if re.search(r"#\s*(noqa(?!:)|type:\s*ignore(?!\[))", line)
    ]


def workplace_words(source: Any) -> list[str]:
    return [
        f"{source.name}:{number}: {line.strip()[:80]}"
        for number, line in enumerate(source.lines, 1)
        if PRIVATE_PATHS.search(line)
    ]


def test_everything_public_has_a_docstring(product: list[Any], clean: Callable[..., None]) -> None:
    clean(undocumented, product)


def test_no_error_is_swallowed_without_a_reason(everything: list[Any], clean: Callable[..., None]) -> None:
    clean(silent_excepts, everything)


def test_every_switched_off_check_is_named(everything: list[Any], clean: Callable[..., None]) -> None:
    mine = "tests/architecture/test_readability.py"
    clean(unreasoned_noqa, [source for source in everything if source.name != mine])


def test_no_file_speaks_of_where_it_was_written(everything: list[Any], clean: Callable[..., None]) -> None:
    mine = "tests/architecture/test_readability.py"
    clean(workplace_words, [source for source in everything if source.name != mine])


def test_the_checks_can_fail(sample: Callable[..., Any]) -> None:
    assert len(undocumented(sample("class A:\n    def f(self): ...\n"))) == 3
    assert undocumented(sample('"""Doc."""\ndef _f(): ...\nclass _A:\n    def f(self): ...\n')) == []
    assert silent_excepts(sample("try:\n    pass\nexcept Exception:\n    pass\n"))
    assert silent_excepts(sample("try:\n    pass\nexcept:  # noqa\n    pass\n"))
    assert silent_excepts(sample("try:\n    pass\nexcept (ValueError, BaseException):\n    x = 0\n"))
    assert not silent_excepts(sample("try:\n    pass\nexcept Exception:\n    close()\n    raise\n"))
    assert not silent_excepts(sample("try:\n    pass\n# the handler is foreign\nexcept Exception:\n    log()\n"))
    assert not silent_excepts(sample("try:\n    pass\nexcept ValueError:\n    pass\n"))
    assert unreasoned_noqa(sample("x = 0  # noqa\n"))
    assert not unreasoned_noqa(sample("x = 0  # noqa: E501\ny = 0  # type: ignore[misc]\n"))
    assert workplace_words(sample("# see /root/notes\n"))

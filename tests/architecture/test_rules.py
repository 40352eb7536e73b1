"""A rule of protocols/ stands in the code under its id, and a rule of the code stands in protocols/."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

RULE_LINE = re.compile(r"`\[(REJECT|IGNORE)\] ([A-Z]\d+)`")
RULE_COMMENT = re.compile(r"#\s*\[(REJECT|IGNORE)\] ([A-Z]\d+): \S")
RULE_ID = re.compile(r"[A-Z]\d{1,2}")


def rules_in_text(text: str) -> list[tuple[str, str]]:
    """(rule id, verdict) of every rule that a README states."""
    return [(rule, verdict) for verdict, rule in RULE_LINE.findall(text)]


def rules_in_code(source: Any) -> tuple[dict[str, set[str]], set[str]]:
    """Verdicts by rule id of the comments, and the ids that errors are raised with."""
    commented: dict[str, set[str]] = defaultdict(set)
    for verdict, rule in RULE_COMMENT.findall(source.text):
        commented[rule].add(verdict)
    raised = {
        node.value
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and RULE_ID.fullmatch(node.value)
    }
    return dict(commented), raised


def documented(root: Path) -> dict[str, str]:
    """Rule id -> verdict over all READMEs; a rule that is stated twice fails here."""
    found: dict[str, str] = {}
    for path in sorted((root / "protocols").rglob("README.md")):
        for rule, verdict in rules_in_text(path.read_text()):
            assert rule not in found, f"{path}: {rule} is stated twice; give the second one the next free number"
            found[rule] = verdict
    return found


def coded(product: list[Any]) -> tuple[dict[str, set[str]], set[str]]:
    commented: dict[str, set[str]] = defaultdict(set)
    raised: set[str] = set()
    for source in product:
        if not source.name.startswith("agent_world/testing/"):
            comments, ids = rules_in_code(source)
            raised |= ids
            for rule, verdicts in comments.items():
                commented[rule] |= verdicts
    return dict(commented), raised


def by_number(rules: set[str]) -> list[str]:
    return sorted(rules, key=lambda rule: (rule[0], int(rule[1:])))


def test_every_documented_rule_is_in_the_code(root: Path, product: list[Any]) -> None:
    commented, raised = coded(product)
    missing = by_number(documented(root).keys() - commented.keys() - raised)
    assert not missing, (
        f"no line of agent_world/ has {missing}: write `# [REJECT] id: ...` where it is checked, or drop it"
    )


def test_every_rule_of_the_code_is_documented(root: Path, product: list[Any]) -> None:
    commented, raised = coded(product)
    texts = documented(root)
    letters = {rule[0] for rule in texts}  # "U64" is a type and no rule
    missing = by_number((commented.keys() | {rule for rule in raised if rule[0] in letters}) - texts.keys())
    assert not missing, f"{missing} are in agent_world/ and in no README of protocols/: state them there"


def test_code_and_text_give_the_same_verdict(root: Path, product: list[Any]) -> None:
    texts = documented(root)
    commented, _ = coded(product)
    other = [
        f"{rule}: README says {texts[rule]}, the comments in agent_world/ say {sorted(verdicts)}"
        for rule, verdicts in sorted(commented.items())
        if rule in texts and verdicts != {texts[rule]}
    ]
    assert not other, "\n".join(other)


def test_rules_are_numbered_without_a_gap(root: Path) -> None:
    letters = defaultdict(list)
    for rule in documented(root):
        letters[rule[0]].append(int(rule[1:]))
    for letter, numbers in letters.items():
        assert sorted(numbers) == list(range(1, len(numbers) + 1)), f"{letter}: {sorted(numbers)}"


def test_every_folder_states_the_rules_of_its_letters(root: Path) -> None:
    """As the table of folders in protocols/README.md says."""
    table = re.findall(
        r"^\| \[(\w+)\]\(\w+/README\.md\) \| ([^|]+) \|", (root / "protocols/README.md").read_text(), re.M
    )
    folders = {path.parent.name for path in (root / "protocols").glob("*/README.md")}
    assert {folder for folder, _ in table} == folders, "name every folder in the table of protocols/README.md"
    for folder, letters in table:
        text = (root / "protocols" / folder / "README.md").read_text()
        assert {rule[0] for rule, _ in rules_in_text(text)} == set(re.findall(r"[A-Z]", letters)), folder


def test_every_folder_has_its_parts(root: Path) -> None:
    for folder in (root / "protocols").iterdir():
        if folder.is_dir():
            assert (folder / "README.md").exists(), folder
            # A protocol of others has the schema that they use.
            assert (folder / "schema.cddl").exists() or (folder / "schema.proto").exists(), folder
            assert list((folder / "vectors").glob("*.json")), f"{folder} has no vectors"


def test_every_handler_has_its_folder(root: Path, product: list[Any]) -> None:
    handlers = {Path(source.name).stem for source in product if source.package == "handlers"} - {"__init__", "views"}
    missing = [name for name in sorted(handlers) if not (root / "protocols" / name / "README.md").exists()]
    assert not missing, f"no folder of protocols/ for the handlers {missing}"


def test_the_checks_can_fail(sample: Callable[..., Any]) -> None:
    assert rules_in_text("- `[REJECT] A1` One.\n- `[IGNORE] A2` Two.\n- [REJECT] A3 Three.") == [
        ("A1", "REJECT"),
        ("A2", "IGNORE"),
    ]
    commented, raised = rules_in_code(
        sample('# [REJECT] A1: one.\nraise RemoteError("A2", "x")\nother("A300", "a3", "B12 or B13")\n')
    )
    assert commented == {"A1": {"REJECT"}}
    assert raised == {"A2"}

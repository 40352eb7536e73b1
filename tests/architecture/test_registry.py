"""protocols/README.md names every topic, method, key, domain, code and limit that the code has, with its value."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_world.crypto.signing import Domain
from agent_world.errors import ErrorCode
from agent_world.testing.record_catalogue import RECORDS
from agent_world.wire import limits, rpc
from agent_world.wire.ids import WorldId

NOT_LIMITS = {"KIB", "MIB", "U64_MAX", "I64_MAX"}
"""Names of wire/limits.py that are units and ranges of types."""


@pytest.fixture
def registry(root: Path) -> str:
    return (root / "protocols/README.md").read_text()


def section(text: str, title: str) -> str:
    parts = text.split(f"\n## {title}\n")
    assert len(parts) == 2, f"protocols/README.md has no section {title!r}"
    return parts[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Cells of every table row whose first cell is code."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def test_limits(registry: str) -> None:
    stated = {cells[0].strip("`"): int(cells[1].replace(",", "")) for cells in rows(section(registry, "Limits"))}
    real = {name: value for name, value in vars(limits).items() if name.isupper() and name not in NOT_LIMITS}
    assert stated == real, "the table of limits and agent_world/wire/limits.py differ"


def test_error_codes(registry: str) -> None:
    stated = {cells[0].strip("`"): cells[1] == "yes" for cells in rows(section(registry, "Error codes"))}
    assert stated == {code.value: code.retryable for code in ErrorCode}


def test_methods(registry: str) -> None:
    stated = {cells[0].strip("`") for cells in rows(section(registry, "Methods"))}
    real = {value for name, value in vars(rpc).items() if name.isupper() and str(value).startswith(f"{rpc.RR_BASE}/")}
    assert stated == real, "the table of methods and agent_world/wire/rpc.py differ"


def test_methods_name_records_and_folders(registry: str, root: Path) -> None:
    for method, request, answer, folder in rows(section(registry, "Methods")):
        assert {request.strip("`"), answer.strip("`")} <= RECORDS.keys(), method
        assert (root / "protocols" / folder).is_dir(), method


TOPIC_KIND = re.compile(r"[a-z_]+(\.[a-z_]+)*")


def topics_of(source: Any) -> set[str]:
    """Kinds of topics: words given to ``topic()``, and words put into a variable ``topics`` or ``kind``."""
    parts: list[ast.AST] = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("topic"):
            parts += node.args[1:]
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Subscript) and ast.unparse(target.value) == "topics":
                    parts.append(target.slice)
                elif ast.unparse(target) in ("topics", "kind"):
                    parts.append(node.value)
    words = [word.value for part in parts for word in ast.walk(part) if isinstance(word, ast.Constant)]
    return {word for word in words if isinstance(word, str) and TOPIC_KIND.fullmatch(word)}


def test_topics(registry: str, product: list[Any]) -> None:
    stated = {cells[0].strip("`") for cells in rows(section(registry, "Topics"))}
    using = [source for source in product if source.package in ("node", "handlers", "observer")]
    real = {rpc.topic(WorldId("<world>"), kind) for source in using for kind in topics_of(source)}
    assert stated == real, "the table of topics and what agent_world/node publishes and subscribes to differ"


def test_channels(registry: str, product: list[Any]) -> None:
    stated = {cells[0].strip("`") for cells in rows(section(registry, "Channels"))}
    real = {
        name
        for source in product
        if source.package in ("node", "handlers")
        for name in re.findall(r"^CHANNEL: Final = \"(\w+)\"", source.text, re.M)
    }
    assert stated == real


def test_dht_keys(registry: str) -> None:
    stated = {cells[0].strip("`") for cells in rows(section(registry, "DHT keys"))}
    world = WorldId("<world>")
    assert stated == {
        rpc.dht_head_key(world),
        rpc.dht_providers_key(world, "<content hash>"),
        rpc.dht_capability_key(world, "<node>"),
        rpc.dht_membership_key(world),
    }


def test_signature_domains(registry: str) -> None:
    lines = re.findall(r"^\| (\w+) \| `([^`]+)` \| `([0-9a-f]+)` \|", section(registry, "Signature domains"), re.M)
    stated = {name: bytes.fromhex(octets) for name, _, octets in lines}
    assert stated == {domain.name.lower(): domain.value for domain in Domain}
    for _, text, octets in lines:
        assert text.replace("\\0", "\0").encode() == bytes.fromhex(octets)


def test_the_glossary_has_each_term_once_and_in_order(registry: str) -> None:
    lines = section(registry, "Glossary").splitlines()
    terms = [line.split(" | ")[0].lstrip("| ") for line in lines if line.startswith("| ")][1:]
    assert len(terms) > 50
    assert terms == sorted(set(terms), key=str.lower)


TERMS = [
    "world",
    "agent",
    "actor id",
    "action",
    "action id",
    "nonce",
    "block",
    "header",
    "slot",
    "round",
    "height",
    "epoch",
    "head",
    "certificate",
    "validator",
    "stake",
    "node",
    "peer id",
    "role",
    "blob",
    "content hash",
    "CID",
    "link",
    "state root",
    "namespace",
    "receipt",
    "event",
    "journal",
    "segment",
    "genesis hash",
    "lock",
    "valid value",
    "guard",
]


@pytest.mark.parametrize("term", TERMS)
def test_the_glossary_explains(registry: str, term: str) -> None:
    assert f"| {term} | " in section(registry, "Glossary")


def test_links_between_the_pages_lead_somewhere(root: Path) -> None:
    for page in (root / "protocols").rglob("*.md"):
        for target in re.findall(r"\]\(([^)#]*)(?:#[^)]*)?\)", page.read_text()):
            assert not target or (page.parent / target).exists(), f"{page}: {target}"


def test_every_file_named_in_a_readme_is_there(root: Path) -> None:
    for page in (root / "protocols").rglob("README.md"):
        for name in re.findall(r"`(vectors/[a-z_]+\.json)`", page.read_text()):
            assert (page.parent / name).exists(), f"{page}: {name}"


def test_the_checks_can_fail(sample: Callable[..., Any]) -> None:
    text = "\n## Topics\n\n| topic | what |\n|---|---|\n| `aw.<world>.head` | it |\n\n## Methods\n\n| `/aw` | other |\n"
    assert rows(section(text, "Topics")) == [["`aw.<world>.head`", "it"]]
    with pytest.raises(AssertionError, match="no section"):
        section(text, "Limits")
    assert topics_of(sample('rpc.topic(self._ledger.world_id, "block")\n')) == {"block"}
    assert topics_of(sample('topics["consensus.proposal"] = 1\ntopics: dict = {"head": 1}\n')) == {
        "consensus.proposal",
        "head",
    }
    assert topics_of(sample('counters.add("consensus.dropped")\n')) == set()

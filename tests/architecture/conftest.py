"""Every Python file of the repository, read once, for the checks of this folder."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parents[2]


@attrs.frozen
class Source:
    """One Python file; ``name`` is its path below the repository."""

    name: str
    text: str

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.name)

    @property
    def package(self) -> str:
        """Folder of a file of agent_world, such as ``wire`` or ``net``; its stem for a file at the top."""
        parts = Path(self.name).parts
        return parts[1] if len(parts) > 2 else Path(self.name).stem


def read(*folders: str) -> list[Source]:
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [Source(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths]


PRODUCT = read("agent_world")
EVERYTHING = PRODUCT + read("tests", "bench")


@pytest.fixture
def root() -> Path:
    return ROOT


@pytest.fixture
def product() -> list[Source]:
    """Files of agent_world/."""
    return PRODUCT


@pytest.fixture
def everything() -> list[Source]:
    """Files of agent_world/, tests/ and bench/."""
    return EVERYTHING


@pytest.fixture
def sample() -> Callable[..., Source]:
    """A file made up by a test, to show that a check can fail."""

    def make(text: str, name: str = "agent_world/wire/sample.py") -> Source:
        return Source(name, text)

    return make


@pytest.fixture
def clean() -> Callable[[Callable[[Source], list[str]], list[Source]], None]:
    """Fail with every offence that a check finds, a line each."""

    def run(check: Callable[[Source], list[str]], sources: list[Source]) -> None:
        offences = [offence for source in sources for offence in check(source)]
        if offences:
            pytest.fail("\n".join(offences), pytrace=False)

    return run

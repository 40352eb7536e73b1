from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")
HUNG_S = 600
"""Minutes of virtual time take up to half a minute of an idle machine: the usual limit is for what waits, not works."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(HUNG_S))


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place: these runs make thousands of fsyncs, and none is about a power cut."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    directory = Path(tempfile.mkdtemp(prefix="aw-sim-", dir=MEMORY))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)

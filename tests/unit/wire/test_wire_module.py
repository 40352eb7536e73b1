"""wire/module.py: modules by their hashes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent_world.wire.module import (
    GetModuleArtifactRequest,
    GetModuleArtifactResponse,
    GetModuleManifestRequest,
    GetModuleManifestResponse,
)


@pytest.mark.parametrize(
    "kind",
    [GetModuleArtifactRequest, GetModuleArtifactResponse, GetModuleManifestRequest, GetModuleManifestResponse],
)
def test_records(kind: type, check_record: Callable[[type], None]) -> None:
    check_record(kind)

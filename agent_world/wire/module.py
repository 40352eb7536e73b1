"""Messages of protocols/module: a module's manifest and its program, by their hashes."""

from __future__ import annotations

import attrs

from agent_world.wire.blob import BlobRef
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import Label


@attrs.frozen(slots=True, kw_only=True)
class GetModuleManifestRequest:
    """get_module_manifest."""

    module_id: Label
    manifest_hash: ContentHash


@attrs.frozen(slots=True, kw_only=True)
class GetModuleManifestResponse:
    """Where the manifest is."""

    manifest_ref: BlobRef


@attrs.frozen(slots=True, kw_only=True)
class GetModuleArtifactRequest:
    """get_module_artifact."""

    wasm_hash: ContentHash


@attrs.frozen(slots=True, kw_only=True)
class GetModuleArtifactResponse:
    """Where the program is."""

    artifact_ref: BlobRef

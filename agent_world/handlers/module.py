"""protocols/module: modules by their hashes."""

from __future__ import annotations

from typing import Protocol

from agent_world.errors import ErrorCode, Refused, RemoteError
from agent_world.wire import record
from agent_world.wire.blob import BlobRef
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import Label, PeerId
from agent_world.wire.limits import HEADER_BYTES_MAX
from agent_world.wire.module import (
    GetModuleArtifactRequest,
    GetModuleArtifactResponse,
    GetModuleManifestRequest,
    GetModuleManifestResponse,
)


class ModuleView(Protocol):
    """Modules that this node holds."""

    def module_manifest(self, module_id: Label, manifest_hash: ContentHash) -> BlobRef | None:
        """The manifest of a registered module; None if it is not held here."""
        ...

    def module_artifact(self, wasm_hash: ContentHash) -> BlobRef | None:
        """The program of a registered module; None if it is not held here."""
        ...


class ModuleHandler:
    """Serves get_module_manifest and get_module_artifact; the bytes are blobs."""

    def __init__(self, modules: ModuleView) -> None:
        self._modules = modules

    async def serve_manifest(self, _peer: PeerId, data: bytes) -> bytes:
        """get_module_manifest."""
        request = record.from_bytes(GetModuleManifestRequest, data, size_max=HEADER_BYTES_MAX)
        found = self._modules.module_manifest(request.module_id, request.manifest_hash)
        # [REJECT] M1: the manifest is here, of a module of that id.
        if found is None:
            raise Refused(ErrorCode.NOT_FOUND, f"no such manifest of module {request.module_id} here", rule="M1")
        return record.to_bytes(GetModuleManifestResponse(manifest_ref=found))

    async def serve_artifact(self, _peer: PeerId, data: bytes) -> bytes:
        """get_module_artifact."""
        request = record.from_bytes(GetModuleArtifactRequest, data, size_max=HEADER_BYTES_MAX)
        found = self._modules.module_artifact(request.wasm_hash)
        # [REJECT] M2: the program is here.
        if found is None:
            raise Refused(ErrorCode.NOT_FOUND, f"no module program {request.wasm_hash.hex()} here", rule="M2")
        return record.to_bytes(GetModuleArtifactResponse(artifact_ref=found))


def check_manifest_answer(answer: bytes, manifest_hash: ContentHash) -> None:
    """That the answer to get_module_manifest names the blob asked for; raises RemoteError."""
    _check_reference(
        record.from_bytes(GetModuleManifestResponse, answer, size_max=HEADER_BYTES_MAX).manifest_ref, manifest_hash
    )


def check_artifact_answer(answer: bytes, wasm_hash: ContentHash) -> None:
    """That the answer to get_module_artifact names the blob asked for; raises RemoteError."""
    _check_reference(
        record.from_bytes(GetModuleArtifactResponse, answer, size_max=HEADER_BYTES_MAX).artifact_ref, wasm_hash
    )


def _check_reference(told: BlobRef, content: ContentHash) -> None:
    # [REJECT] M3: the blob named is the one with the hash asked for.
    if told.content.digest != content:
        raise RemoteError("M3", f"it was asked for {content.hex()} and names {told.content}")

from __future__ import annotations

import pytest

from agent_world.crypto.hashing import cid_of, content_hash
from agent_world.errors import ErrorCode, Refused
from agent_world.handlers.module import ModuleHandler
from agent_world.node.modules import NoModules
from agent_world.wire import record
from agent_world.wire.blob import BlobRef
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import U64, Label, PeerId
from agent_world.wire.module import (
    GetModuleArtifactRequest,
    GetModuleArtifactResponse,
    GetModuleManifestRequest,
    GetModuleManifestResponse,
)

HASH = content_hash(b"m")
REF = BlobRef(content=cid_of(b"m"), size_bytes=U64(1))
MANIFEST = record.to_bytes(GetModuleManifestRequest(module_id=Label("move"), manifest_hash=HASH))
ARTIFACT = record.to_bytes(GetModuleArtifactRequest(wasm_hash=HASH))


class OneModule:
    def module_manifest(self, module_id: Label, manifest_hash: ContentHash) -> BlobRef | None:
        return REF if (module_id, manifest_hash) == ("move", HASH) else None

    def module_artifact(self, wasm_hash: ContentHash) -> BlobRef | None:
        return REF if wasm_hash == HASH else None


async def test_what_is_held_is_named(peer: PeerId) -> None:
    handler = ModuleHandler(OneModule())
    manifest = await handler.serve_manifest(peer, MANIFEST)
    assert record.from_bytes(GetModuleManifestResponse, manifest, size_max=999).manifest_ref == REF
    artifact = await handler.serve_artifact(peer, ARTIFACT)
    assert record.from_bytes(GetModuleArtifactResponse, artifact, size_max=999).artifact_ref == REF


async def test_m1_and_m2_not_here(peer: PeerId) -> None:
    handler = ModuleHandler(NoModules())
    for serve, request, rule in (
        (handler.serve_manifest, MANIFEST, "M1"),
        (handler.serve_artifact, ARTIFACT, "M2"),
    ):
        with pytest.raises(Refused) as caught:
            await serve(peer, request)
        assert (caught.value.rule, caught.value.code) == (rule, ErrorCode.NOT_FOUND)

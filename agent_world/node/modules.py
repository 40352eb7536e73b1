"""Modules that this node holds: worlds of this version register none, so none is found."""

from __future__ import annotations

from agent_world.wire.blob import BlobRef
from agent_world.wire.cid import ContentHash
from agent_world.wire.ids import Label


class NoModules:
    """Satisfies ``handlers.module.ModuleView`` for a world whose state has no module registry."""

    def module_manifest(self, module_id: Label, manifest_hash: ContentHash) -> BlobRef | None:
        """No manifest is registered."""
        return None

    def module_artifact(self, wasm_hash: ContentHash) -> BlobRef | None:
        """No program is registered."""
        return None

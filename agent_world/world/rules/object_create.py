"""object.create: an object in the state whose content lies outside of it."""

from __future__ import annotations

from typing import Final

import attrs

from agent_world.crypto.hashing import content_hash
from agent_world.wire.action import CreateObject
from agent_world.wire.ids import U64
from agent_world.world.events import ObjectCreated
from agent_world.world.reasons import OBJECT_EXISTS, SIZE_NOT_STATED, STORAGE_QUOTA_EXCEEDED, refuse_unless
from agent_world.world.records import ACTORS, OBJECTS, WORLD, ObjectRecord
from agent_world.world.rules.context import RuleContext, require_key_fits

EMPTY_CONTENT: Final = content_hash(b"")
"""Name of the one content that has 0 bytes."""


def create_object(context: RuleContext, payload: CreateObject) -> None:
    """Add the object and charge its stated size to the signer. Whether this node has the content plays no part."""
    state = context.state
    require_key_fits(OBJECTS.key(payload.object_id))
    refuse_unless(state.get(OBJECTS, payload.object_id) is None, OBJECT_EXISTS)
    # Content costs quota by its stated size, and keepers hold it to that size: nothing is had for nothing.
    refuse_unless((payload.size_bytes == 0) == (payload.content.digest == EMPTY_CONTENT), SIZE_NOT_STATED)
    owner = context.actor()
    used = owner.storage_used_bytes + payload.size_bytes
    refuse_unless(used <= state.need(WORLD).params.actor_storage_quota_bytes, STORAGE_QUOTA_EXCEEDED)
    state.put(ACTORS, attrs.evolve(owner, storage_used_bytes=U64(used)), context.actor_id)
    created = ObjectRecord(
        owner=context.actor_id,
        content=payload.content,
        size_bytes=payload.size_bytes,
        created_at_height=U64(context.height),
    )
    state.put(OBJECTS, created, payload.object_id)
    context.emit(
        ObjectCreated(
            object_id=payload.object_id,
            owner=context.actor_id,
            content=payload.content,
            size_bytes=payload.size_bytes,
        )
    )

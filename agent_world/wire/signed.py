"""The envelope of everything that is signed (D1): the body travels as the bytes that were signed."""

from __future__ import annotations

import attrs

from agent_world.wire.ids import U16, PublicKey, Signature
from agent_world.wire.record import V1


@attrs.frozen(slots=True, kw_only=True)
class Signed:
    """``sig`` is by ``key`` over: domain tag || genesis hash || body, body exactly as received."""

    v: U16 = U16(V1)
    body: bytes
    key: PublicKey
    sig: Signature

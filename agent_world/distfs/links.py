"""What a blob reaches, generically, by its links (D2)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from agent_world.errors import DecodeError
from agent_world.wire import cbor
from agent_world.wire.cid import Cid, Codec
from agent_world.wire.limits import BLOB_BYTES_MAX


def links_in(cid: Cid, data: bytes) -> list[Cid]:
    """Links inside ``data``, which is the content of ``cid``; a raw blob is never parsed.

    Raises DecodeError if a dag-cbor blob is not strict DAG-CBOR.
    """
    if cid.codec is Codec.RAW:
        return []
    return cbor.links_of(cbor.decode(data, size_max=BLOB_BYTES_MAX))


def reachable(
    roots: Iterable[Cid],
    get: Callable[[Cid], bytes | None],
    *,
    skip: Callable[[Cid], bool] = lambda _cid: False,
    below: Callable[[Cid, bytes], list[Cid]] = links_in,
) -> Iterator[tuple[Cid, bytes | None]]:
    """Every link below ``roots`` once, depth first, with its bytes; None for what ``get`` does not have.

    ``skip`` cuts off a link and all below it; ``below`` says which links of a blob are followed. Anybody may call any
    bytes dag-cbor: those that are not reach nothing.
    """
    seen: set[Cid] = set()
    stack = list(roots)[::-1]
    while stack:
        cid = stack.pop()
        if cid in seen or skip(cid):
            continue
        seen.add(cid)
        data = get(cid)
        yield cid, data
        if data is not None:
            with contextlib.suppress(DecodeError):
                stack.extend(reversed(below(cid, data)))

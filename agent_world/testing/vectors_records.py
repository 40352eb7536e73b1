"""Vectors of every record: bytes, value, hash and CID of examples, and broken copies with the rule that they break."""

from __future__ import annotations

import base64
from typing import Any

from agent_world.crypto.hashing import cid_of, hash32
from agent_world.testing.broken import broken_copies
from agent_world.testing.examples import VARIANTS, example
from agent_world.testing.record_catalogue import CATALOGUE, size_max_of
from agent_world.wire import record
from agent_world.wire.cid import Cid


def record_vectors(folder: str) -> dict[str, Any]:
    """The file ``<folder>/vectors/records.json``."""
    cases: list[dict[str, Any]] = []
    for kind in CATALOGUE[folder]:
        cases += [_valid(kind, variant) for variant in VARIANTS]
        for what, data, rule in broken_copies(kind):
            cases.append({"id": f"{kind.__name__}: {what}", "record": kind.__name__, "bytes": data.hex(), "rule": rule})
    return {
        "about": "Decode `bytes` as `record`: `value` (DAG-JSON), or an error by exactly the codec rule `rule`. "
        "`hash` is BLAKE3-256 of the bytes, `cid` their link.",
        "size_max": {kind.__name__: size_max_of(kind.__name__) for kind in CATALOGUE[folder]},
        "cases": cases,
    }


def _valid(kind: type, variant: str) -> dict[str, Any]:
    item = example(kind, variant)
    data = record.to_bytes(item)
    return {
        "id": f"{kind.__name__}: {variant}",
        "record": kind.__name__,
        "bytes": data.hex(),
        "value": dag_json(record.unstructure(item)),
        "hash": hash32(data).hex(),
        "cid": str(cid_of(data)),
    }


def dag_json(value: Any) -> Any:
    """A value as in IPLD's DAG-JSON: links ``{"/": text}``, bytes ``{"/": {"bytes": base64 without padding}}``."""
    if isinstance(value, Cid):
        return {"/": str(value)}
    if isinstance(value, bytes):
        return {"/": {"bytes": base64.b64encode(value).decode().rstrip("=")}}
    if isinstance(value, dict):
        return {key: dag_json(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [dag_json(item) for item in value]
    return value

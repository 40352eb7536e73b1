"""wire/jsonable.py: protocol values as JSON for people."""

from __future__ import annotations

import json

import pytest

from agent_world.testing.examples import VARIANTS, example
from agent_world.testing.record_catalogue import RECORDS
from agent_world.wire import record
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.jsonable import jsonable

LINK = Cid(Codec.RAW, ContentHash(bytes(32)))


def test_bytes_are_hex_and_links_are_text() -> None:
    value = {"hash": b"\x00\xff", "link": LINK, "list": [b"", (1, None)], "n": 2**64 - 1, "yes": True, "text": "é"}
    assert jsonable(value) == {
        "hash": "00ff",
        "link": str(LINK),
        "list": ["", [1, None]],
        "n": 2**64 - 1,
        "yes": True,
        "text": "é",
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_record_can_be_shown(variant: str) -> None:
    for kind in RECORDS.values():
        shown = json.dumps(jsonable(record.unstructure(example(kind, variant))))
        assert set(json.loads(shown)) == set(record.unstructure(example(kind, variant)))

"""protocols/*/schema.cddl describes what the code encodes, and refuses what it would refuse."""

from __future__ import annotations

import functools
import re
from typing import Any

import pycddl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_world.testing.examples import VARIANTS, example
from agent_world.testing.record_catalogue import CATALOGUE, FOLDER_OF, RECORDS, fields_of
from agent_world.testing.record_strategies import records
from agent_world.testing.vectors import PROTOCOLS
from agent_world.wire import cbor, record
from agent_world.wire.cid import Cid
from agent_world.world.trie import NodeCache, Trie

RECORD_NAMES = sorted(RECORDS)


@functools.cache
def rules_text() -> str:
    return "\n".join(path.read_text() for path in sorted(PROTOCOLS.glob("*/schema.cddl")))


@functools.cache
def schema(name: str) -> pycddl.Schema:
    """The rules of all folders with ``name`` as the one that a document must match."""
    return pycddl.Schema(f"document = {name}\n{rules_text()}")


def is_allowed(name: str, data: bytes) -> bool:
    try:
        schema(name).validate_cbor(data)
    except pycddl.ValidationError:
        return False
    return True


def test_each_folder_has_a_schema_that_stands_on_the_folders_it_names() -> None:
    for folder in CATALOGUE:
        text = (PROTOCOLS / folder / "schema.cddl").read_text()
        needed = re.findall(r"\.\./([a-z]+)/schema\.cddl", text)
        bases = "\n".join((PROTOCOLS / name / "schema.cddl").read_text() for name in closure(needed))
        for kind in CATALOGUE[folder]:
            pycddl.Schema(f"document = {kind.__name__}\n{bases}\n{text}").validate_cbor(
                record.to_bytes(example(kind, "typical"))
            )


def closure(folders: list[str]) -> list[str]:
    found: list[str] = []
    while folders:
        name = folders.pop()
        if name not in found:
            found.append(name)
            folders += re.findall(r"\.\./([a-z]+)/schema\.cddl", (PROTOCOLS / name / "schema.cddl").read_text())
    return found


@pytest.mark.parametrize("name", RECORD_NAMES)
def test_the_schema_names_the_records_keys_in_canonical_order(name: str) -> None:
    text = re.sub(r";[^\n]*", "", (PROTOCOLS / FOLDER_OF[name] / "schema.cddl").read_text())
    body = re.search(rf"^{name} = \{{(.*?)\}}", text, re.MULTILINE | re.DOTALL)
    assert body is not None, f"{name} is missing in protocols/{FOLDER_OF[name]}/schema.cddl"
    keys = re.findall(r"(\w+):", body[1])
    assert keys == sorted((field.name for field in fields_of(RECORDS[name])), key=lambda key: (len(key), key))


@pytest.mark.parametrize("name", RECORD_NAMES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_examples_match(name: str, variant: str) -> None:
    schema(name).validate_cbor(record.to_bytes(example(RECORDS[name], variant)))


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), name=st.sampled_from(RECORD_NAMES))
def test_whatever_the_code_encodes_matches(data: st.DataObject, name: str) -> None:
    schema(name).validate_cbor(record.to_bytes(data.draw(records(RECORDS[name]))))


@pytest.mark.parametrize("name", RECORD_NAMES)
def test_a_broken_record_does_not_match(name: str) -> None:
    value = record.unstructure(example(RECORDS[name], "typical"))
    assert is_allowed(name, cbor.encode(value))
    assert not is_allowed(name, cbor.encode({**value, "zz": 0})), "an unknown key"
    assert not is_allowed(name, cbor.encode([])), "a list"
    for field in value:
        rest = {key: item for key, item in value.items() if key != field}
        assert not is_allowed(name, cbor.encode(rest)), f"{field} missing"
        assert not is_allowed(name, cbor.encode({**value, field: wrong_for(value[field])})), f"{field} of a wrong type"
    if "v" in value:
        assert not is_allowed(name, cbor.encode({**value, "v": 2})), "version 2"


def wrong_for(value: Any) -> Any:
    """A value of a type that no field of this one's type may have."""
    return 0 if isinstance(value, (bool, str, Cid, list, dict)) else "Text that is no name"


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("WorldHead", "block_hash", bytes(31)),
        ("WorldHead", "height", -1),
        ("WorldHead", "world_id", "Paris"),
        ("WorldBlock", "round", 2**32),
        ("Signed", "sig", bytes(63)),
        ("ActionEnvelope", "actor_id", "jean"),
        ("ErrorResponse", "code", "ERR_TEAPOT"),
        ("Hello", "role", "miner"),
        ("PeerAddress", "peer_id", "12D3KooW"),
        ("Receipt", "code", "Not A Label"),
        ("FetchBlobsRequest", "content_hashes", [bytes(32)] * 1025),
    ],
)
def test_ranges_and_forms_are_part_of_the_schema(name: str, field: str, value: Any) -> None:
    good = record.unstructure(example(RECORDS[name], "typical"))
    assert not is_allowed(name, cbor.encode({**good, field: value}))


def test_the_nodes_of_a_trie_match() -> None:
    trie = Trie(None, NodeCache({}.__getitem__)).update({bytes([n]): n for n in range(200)})
    root, blobs = trie.flush()
    for digest, data in blobs.items():
        assert is_allowed("TrieRoot" if digest == root.digest else "TrieNode", data)
    assert not is_allowed("TrieRoot", cbor.encode({"hamt": [bytes(4), []], "hashAlg": 18, "bucketSize": 3}))
    assert not is_allowed("TrieNode", cbor.encode([bytes(3), []]))

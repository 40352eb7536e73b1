"""Every file of protocols/*/vectors is run: what is right is taken, what is wrong breaks exactly the named rule."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from broken_rules import Case, rule_of
from run_bitswap import run_bitswap_messages, run_unixfs
from run_challenge import run_challenge_answers, run_challenge_requests
from run_replica import run_replica_answers, run_replica_promises, run_replica_requests
from run_replication import run_log

from agent_world.consensus import stake
from agent_world.consensus.certificate import verify_certificate
from agent_world.consensus.evidence import open_evidence, verify_evidence
from agent_world.consensus.terms import genesis_term
from agent_world.consensus.validators import ValidatorSet
from agent_world.crypto.hashing import actor_id_of, cid_of, hash32
from agent_world.crypto.signing import Domain, is_valid
from agent_world.errors import DecodeError, Refused, RemoteError, UsageError
from agent_world.handlers.dht import DhtRecords
from agent_world.handlers.head import HeadHandler
from agent_world.handlers.hello import check_hello
from agent_world.handlers.views import ChainView
from agent_world.testing import vectors
from agent_world.testing.record_catalogue import CATALOGUE, RECORDS
from agent_world.testing.vectors_records import dag_json
from agent_world.wire import cbor, ids, record
from agent_world.wire.cid import Cid, parse_content_hash
from agent_world.wire.genesis import Genesis
from agent_world.wire.hello import Hello
from agent_world.wire.ids import Hash32, PeerId, PublicKey
from agent_world.wire.limits import BLOB_BYTES_MAX, RPC_INLINE_BYTES_MAX
from agent_world.wire.signed import Signed
from agent_world.world.admission import check_against_state, open_action
from agent_world.world.genesis import genesis_hash, initial_state
from agent_world.world.state import WorldState

PROTOCOLS = vectors.PROTOCOLS


def run_strict_decode(file: Case, case: Case) -> None:
    data = bytes.fromhex(case["bytes"])
    assert rule_of(lambda: cbor.decode(data, size_max=file["size_max"])) == case.get("rule")
    if "rule" not in case:
        value = cbor.decode(data, size_max=file["size_max"])
        assert dag_json(value) == case["value"]
        assert cbor.encode(value) == data
        assert hash32(data).hex() == case["hash"]


def run_records(file: Case, case: Case) -> None:
    data, kind = bytes.fromhex(case["bytes"]), RECORDS[case["record"]]
    size_max = file["size_max"][case["record"]]
    assert rule_of(lambda: record.from_bytes(kind, data, size_max=size_max)) == case.get("rule")
    if "rule" not in case:
        item = record.from_bytes(kind, data, size_max=size_max)
        assert record.to_bytes(item) == data
        assert dag_json(record.unstructure(item)) == case["value"]
        assert (hash32(data).hex(), str(cid_of(data))) == (case["hash"], case["cid"])


NAME_CHECKS: dict[str, Callable[[str], object]] = {
    "peer_id": ids.check_peer_id,
    "actor_id": ids.check_actor_id,
    "cid": Cid.parse,
    "content_hash": parse_content_hash,
    "world_id": ids.check_word,
    "name": ids.check_name,
    "label": ids.check_label,
}
NAME_OCTETS: dict[str, Callable[[bytes], str]] = {
    "peer_id": lambda octets: ids.peer_id_of(PublicKey(octets)),
    "actor_id": lambda octets: actor_id_of(PublicKey(octets)),
    "cid": lambda octets: str(Cid.from_bytes(octets)),
    "content_hash": bytes.hex,
}


def run_names(_file: Case, case: Case) -> None:
    assert rule_of(lambda: NAME_CHECKS[case["kind"]](case["text"])) == case.get("rule")
    if "octets" in case:
        assert NAME_OCTETS[case["kind"]](bytes.fromhex(case["octets"])) == case["text"]


def run_signatures(_file: Case, case: Case) -> None:
    signed = record.from_bytes(Signed, bytes.fromhex(case["signed"]), size_max=BLOB_BYTES_MAX)
    genesis = Hash32(bytes.fromhex(case["genesis_hash"]))
    domain = Domain[case["domain"].upper()]
    assert is_valid(domain, genesis, signed.body, signed.key, signed.sig) is case["valid"]


def run_admission(file: Case, case: Case) -> None:
    genesis = record.from_bytes(Genesis, bytes.fromhex(file["genesis"]), size_max=BLOB_BYTES_MAX)
    assert genesis_hash(genesis).hex() == file["genesis_hash"]
    root, blobs = initial_state(genesis)
    data = bytes.fromhex(case["action"])

    def admit() -> None:
        action = open_action(data, genesis.world_id, genesis_hash(genesis))
        check_against_state(action, WorldState(root, blobs.__getitem__), file["nonce_window"])
        assert action.action_id.hex() == case["action_id"]

    if "rule" not in case:
        admit()
        return
    with pytest.raises(Refused) as refused:
        admit()
    assert (refused.value.rule, refused.value.code) == (case["rule"], case["code"])


def run_certificates(file: Case, case: Case) -> None:
    genesis = record.from_bytes(Genesis, bytes.fromhex(file["genesis"]), size_max=BLOB_BYTES_MAX)

    def verify() -> None:
        verify_certificate(
            bytes.fromhex(case["certificate"]),
            genesis.world_id,
            Hash32(bytes.fromhex(file["genesis_hash"])),
            ValidatorSet(genesis.validators),
            height=file["height"],
            block_hash=Hash32(bytes.fromhex(file["block_hash"])),
        )

    assert rule_of(verify) == case.get("rule")


def run_evidence(file: Case, case: Case) -> None:
    genesis = record.from_bytes(Genesis, bytes.fromhex(file["genesis"]), size_max=BLOB_BYTES_MAX)

    def verify() -> None:
        evidence = open_evidence(bytes.fromhex(case["evidence"]))
        proved = verify_evidence(evidence, genesis.world_id, Hash32(bytes.fromhex(file["genesis_hash"])))
        assert proved.kind == case["kind"]

    assert rule_of(verify) == case.get("rule")


def run_stake_kernel(_file: Case, case: Case) -> None:
    given = {key: value for key, value in case.items() if key not in ("id", "function", "result", "error")}
    for key, value in given.items():
        if isinstance(value, str):
            given[key] = int(value)
    if "validators" in given:
        given["validators"] = {name: int(stake_) for name, stake_ in given["validators"].items()}
    kernel = getattr(stake, case["function"])
    if "error" in case:
        with pytest.raises(UsageError):
            kernel(**given)
        return
    answer = kernel(**given)
    assert case["result"] == (str(answer) if isinstance(case["result"], str) else answer)


class OnlyGenesis:
    """The chain of a node that has committed nothing."""

    def __init__(self, genesis: Genesis) -> None:
        self.world_id = genesis.world_id
        self.genesis_hash = genesis_hash(genesis)
        self.height = 0


def run_dht_records(file: Case, case: Case) -> None:
    genesis = record.from_bytes(Genesis, bytes.fromhex(file["genesis"]), size_max=BLOB_BYTES_MAX)
    heads = HeadHandler(cast(ChainView, OnlyGenesis(genesis)), lambda _peer, _head: None)
    first = genesis_term(ValidatorSet(genesis.validators))
    rules = DhtRecords(genesis.world_id, genesis_hash(genesis), heads.open_head, {0: first}.get).rules
    assert rule_of(lambda: rules.check(case["key"], bytes.fromhex(case["value"]))) == case.get("rule")


def run_hellos(file: Case, case: Case) -> None:
    hello = record.from_bytes(Hello, bytes.fromhex(case["hello"]), size_max=RPC_INLINE_BYTES_MAX)
    genesis = Hash32(bytes.fromhex(file["genesis_hash"]))
    peer = PeerId(case["peer_id"])
    assert rule_of(lambda: check_hello(hello, peer, file["world_id"], genesis)) == case.get("rule")


RUNNERS: dict[str, Callable[[Case, Case], None]] = {
    "codec/vectors/strict_decode.json": run_strict_decode,
    "codec/vectors/names.json": run_names,
    "codec/vectors/signatures.json": run_signatures,
    "action/vectors/admission.json": run_admission,
    "consensus/vectors/certificates.json": run_certificates,
    "evidence/vectors/evidence.json": run_evidence,
    "consensus/vectors/stake_kernel.json": run_stake_kernel,
    "challenge/vectors/requests.json": run_challenge_requests,
    "challenge/vectors/answers.json": run_challenge_answers,
    "dht/vectors/dht_records.json": run_dht_records,
    "hello/vectors/hellos.json": run_hellos,
    "replica/vectors/requests.json": run_replica_requests,
    "replica/vectors/answers.json": run_replica_answers,
    "replica/vectors/promises.json": run_replica_promises,
    "replication/vectors/log.json": run_log,
    "bitswap/vectors/messages.json": run_bitswap_messages,
    "bitswap/vectors/unixfs.json": run_unixfs,
    **{f"{folder}/vectors/records.json": run_records for folder in CATALOGUE},
}


def load(path: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((PROTOCOLS / path).read_text())
    return content


def all_cases() -> list[Any]:
    files = {path: load(path) for path in RUNNERS if (PROTOCOLS / path).exists()}
    return [
        pytest.param(path, file, case, id=f"{path.removesuffix('.json').replace('/vectors/', '/')}/{case['id']}")
        for path, file in files.items()
        for case in file["cases"]
    ]


@pytest.mark.parametrize(("path", "file", "case"), all_cases())
def test_vector(path: str, file: dict[str, Any], case: dict[str, Any]) -> None:
    RUNNERS[path](file, case)


def files_below(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.glob("*/vectors/*")}


def test_every_vector_file_has_a_runner_and_a_generator() -> None:
    found = files_below(PROTOCOLS)
    assert found == set(RUNNERS), "write a runner in this file for each vector file, and run `make vectors`"
    assert found == set(vectors.GENERATORS), "register the generator in agent_world/testing/vectors.py"


def test_every_generator_is_registered() -> None:
    """A function ``..._vectors`` of agent_world/testing/vectors_*.py makes a file."""
    registered = {getattr(make, "func", make) for make in vectors.GENERATORS.values()}
    for path in Path(vectors.__file__).parent.glob("vectors_*.py"):
        module = importlib.import_module(f"agent_world.testing.{path.stem}")
        made = [
            item
            for name, item in vars(module).items()
            if name.endswith("_vectors") and item.__module__ == module.__name__
        ]
        assert made, f"{path.name} has no generator"
        assert set(made) <= registered, f"register {made} in agent_world/testing/vectors.py"


def test_proposers_are_those_of_the_specification() -> None:
    """The other kernel vectors come from the code; these twelve were fixed before it."""
    cases = [case for case in load("consensus/vectors/stake_kernel.json")["cases"] if case.get("excluded") == []]
    answers = {case["slot"]: case["result"] for case in cases if case["validators"] == {"a": 34, "b": 33, "c": 33}}
    assert "".join(answers[slot] for slot in range(12)) == "cbaaacbbbcca"


def test_the_files_are_what_the_generators_make() -> None:
    stale = [path for path, text in vectors.generate().items() if (PROTOCOLS / path).read_text() != text]
    assert not stale, f"run `make vectors` and look at the diff of {stale}"


def test_generating_twice_gives_the_same_text() -> None:
    assert vectors.generate() == vectors.generate()


@pytest.mark.parametrize("path", sorted(RUNNERS))
def test_cases_have_names_of_their_own(path: str) -> None:
    names = [case["id"] for case in load(path)["cases"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("path", "rules"),
    [
        ("codec/vectors/strict_decode.json", {f"D{n}" for n in range(1, 7)}),
        ("codec/vectors/names.json", {"D6", "D7"}),
        ("action/vectors/admission.json", {f"A{n}" for n in range(1, 11)}),
        ("consensus/vectors/certificates.json", {f"C{n}" for n in range(1, 10)}),
        ("evidence/vectors/evidence.json", {f"E{n}" for n in range(1, 7)}),
        ("dht/vectors/dht_records.json", {f"K{n}" for n in range(1, 13)}),
        ("challenge/vectors/requests.json", {f"Q{n}" for n in range(1, 8)}),
        ("challenge/vectors/answers.json", {f"Q{n}" for n in range(8, 14)}),
        ("hello/vectors/hellos.json", {f"N{n}" for n in range(1, 7)}),
        ("replica/vectors/requests.json", {f"R{n}" for n in range(1, 11)}),
        ("replica/vectors/answers.json", {"R11"}),
        ("replica/vectors/promises.json", {"R11", "R12"}),
        ("replication/vectors/log.json", {"W13", *(f"W{n}" for n in range(1, 9))}),
        ("bitswap/vectors/messages.json", {"X1", "X2"}),
        ("bitswap/vectors/unixfs.json", {"X5"}),
    ],
)
def test_every_rule_has_a_case_that_breaks_it(path: str, rules: set[str]) -> None:
    cases = load(path)["cases"]
    assert {case["rule"] for case in cases if "rule" in case} == rules
    assert any("rule" not in case for case in cases), "no case is right: a decoder that refuses everything would pass"


def test_a_runner_fails_when_the_code_takes_what_a_vector_calls_wrong() -> None:
    good = load("codec/vectors/strict_decode.json")["cases"][0]
    with pytest.raises(AssertionError):
        run_strict_decode({"size_max": 4096}, {"bytes": good["bytes"], "rule": "D5"})
    with pytest.raises(AssertionError):
        run_strict_decode({"size_max": 4096}, {**good, "hash": "00" * 32})


def test_a_runner_fails_when_the_code_breaks_another_rule_than_the_named_one() -> None:
    with pytest.raises(AssertionError):
        run_names({}, {"kind": "world_id", "text": "Paris", "rule": "D6"})


def test_errors_of_another_kind_are_not_taken_for_a_rule() -> None:
    def broken() -> None:
        raise ValueError("not a protocol error")

    with pytest.raises(ValueError, match="not a protocol error"):
        rule_of(broken)


def test_decode_errors_are_remote_errors() -> None:
    assert issubclass(DecodeError, RemoteError)

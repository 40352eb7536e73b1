"""Vectors of protocols/codec: strict decoding (D1-D6), text forms of names (D6, D7) and signatures."""

from __future__ import annotations

from typing import Any, Final

from agent_world.crypto.hashing import actor_id_of, cid_of, hash32
from agent_world.crypto.signing import Domain, sign
from agent_world.testing.examples import key_of
from agent_world.testing.vectors_records import dag_json
from agent_world.wire import cbor, ids, record
from agent_world.wire.cid import Cid, Codec, ContentHash
from agent_world.wire.ids import Hash32, PublicKey, Signature
from agent_world.wire.limits import CBOR_DEPTH_MAX
from agent_world.wire.signed import Signed

_SIZE_MAX: Final = 4096
_ZERO_LINK: Final = "d82a58250001711e20" + "00" * 32

_VALUES: Final[tuple[tuple[str, Any], ...]] = (
    ("zero", 0),
    ("largest integer in the initial byte", 23),
    ("one byte integer", 24),
    ("two byte integer", 256),
    ("four byte integer", 65_536),
    ("eight byte integer", 2**32),
    ("largest integer", 2**64 - 1),
    ("minus one", -1),
    ("least integer", -(2**63)),
    ("false", False),
    ("true", True),
    ("null", None),
    ("empty text", ""),
    ("text beyond the basic plane", "Jean Valjean \U0001f30d"),
    ("empty byte string", b""),
    ("byte string of 24", bytes(range(24))),
    ("empty list", []),
    ("list of two", ["a1", "a2"]),
    ("empty map", {}),
    ("map of one", {"world_id": "w1"}),
    ("keys by length, then by bytes", {"b": 1, "c": 2, "aa": 3}),
    ("link raw", Cid(Codec.RAW, ContentHash(bytes(32)))),
    ("link dag-cbor", {"root": Cid(Codec.DAG_CBOR, ContentHash(bytes(32)))}),
)

_BROKEN: Final[tuple[tuple[str, str, str], ...]] = (
    ("one byte over the limit", "59" + f"{_SIZE_MAX - 2:04x}" + "00" * (_SIZE_MAX - 2), "D1"),
    ("nothing", "", "D2"),
    ("text cut short", "6261", "D2"),
    ("map cut short", "a16161", "D2"),
    ("reserved additional information", "1c", "D2"),
    ("break alone", "ff", "D2"),
    ("byte string of indefinite length", "5f4100ff", "D2"),
    ("text of indefinite length", "7f6161ff", "D2"),
    ("list of indefinite length", "9f00ff", "D2"),
    ("map of indefinite length", "bf616100ff", "D2"),
    ("text that is not UTF-8", "61ff", "D2"),
    ("text with a surrogate", "63eda080", "D2"),
    ("key twice", "a2616100616100", "D2"),
    ("nested too deep", "81" * (CBOR_DEPTH_MAX + 1) + "00", "D2"),
    ("list longer than the bytes", "9bffffffffffffffff", "D2"),
    ("two byte simple value below 32", "f814", "D2"),
    ("half float", "f93c00", "D3"),
    ("single float", "fa3f800000", "D3"),
    ("double float", "fb3ff8000000000000", "D3"),
    ("not a number", "f97e00", "D3"),
    ("undefined", "f7", "D3"),
    ("simple value", "e0", "D3"),
    ("integer key", "a10000", "D3"),
    ("byte string key", "a1410000", "D3"),
    ("below -2^63", "3b8000000000000000", "D3"),
    ("date tag", "c074323032362d30312d30315430303a30303a30305a", "D4"),
    ("bignum tag", "c249010000000000000000", "D4"),
    ("self-describe tag", "d9d9f700", "D4"),
    ("shared value tag", "d81c80", "D4"),
    ("set tag", "d9010280", "D4"),
    ("unknown tag", "d8ff00", "D4"),
    ("one byte integer below 24", "1817", "D5"),
    ("two byte integer below 256", "1900ff", "D5"),
    ("four byte integer below 65,536", "1a0000ffff", "D5"),
    ("eight byte integer below 2^32", "1b00000000ffffffff", "D5"),
    ("negative integer too long", "3800", "D5"),
    ("length of text too long", "780161", "D5"),
    ("length of byte string too long", "580100", "D5"),
    ("length of list too long", "980100", "D5"),
    ("length of map too long", "b801616100", "D5"),
    ("keys not by length", "a262616100616200", "D5"),
    ("keys not by bytes", "a2616200616100", "D5"),
    ("trailing byte", "0000", "D5"),
    ("tag number too long", "d9002a" + _ZERO_LINK[4:], "D5"),
    ("link around an integer", "d82a00", "D6"),
    ("link without the leading zero", "d82a5824" + _ZERO_LINK[10:], "D6"),
    ("link with codec dag-pb", _ZERO_LINK.replace("0001711e20", "0001701e20"), "D6"),
    ("link with sha2-256", _ZERO_LINK.replace("0001711e20", "0001711220"), "D6"),
    ("link of version 0", _ZERO_LINK.replace("0001711e20", "0000711e20"), "D6"),
    ("link with a digest of 31 bytes", "d82a5824" + "0001711e20" + "00" * 31, "D6"),
)
"""(what is wrong, bytes in hex, the one rule broken)."""


def strict_decode_vectors() -> dict[str, Any]:
    """The file ``codec/vectors/strict_decode.json``."""
    cases: list[dict[str, Any]] = []
    for what, value in _VALUES:
        data = cbor.encode(value)
        cases.append({"id": what, "bytes": data.hex(), "value": dag_json(value), "hash": hash32(data).hex()})
    cases += [{"id": what, "bytes": data, "rule": rule} for what, data, rule in _BROKEN]
    return {
        "about": "Decode `bytes` strictly: `value` (DAG-JSON) whose BLAKE3-256 is `hash`, or exactly the error `rule`.",
        "size_max": _SIZE_MAX,
        "cases": cases,
    }


def name_vectors() -> dict[str, Any]:
    """The file ``codec/vectors/names.json``."""
    node, agent = key_of("node").public_key, key_of("agent").public_key
    peer_id = ids.peer_id_of(node)
    link, raw = cid_of(b"agent world"), cid_of(b"agent world", Codec.RAW)
    good = (
        ("peer_id", peer_id, node.hex()),
        ("actor_id", actor_id_of(agent), agent.hex()),
        ("cid", str(link), link.to_bytes().hex()),
        ("cid", str(raw), raw.to_bytes().hex()),
        ("content_hash", link.digest.hex(), link.digest.hex()),
        ("world_id", "les-miserables.v1_0", None),
        ("name", "Père Fauchelevent", None),
        ("name", "沙威", None),
        ("label", "agent.register", None),
    )
    bad = (
        ("peer_id", peer_id + "\n", "D7"),
        ("peer_id", peer_id[:-1], "D7"),
        ("peer_id", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "D7"),
        ("actor_id", actor_id_of(agent).upper(), "D7"),
        ("actor_id", "0" * 32, "D7"),
        ("cid", str(link).upper(), "D6"),
        ("cid", str(link)[:-1], "D6"),
        ("cid", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "D6"),
        ("content_hash", link.digest.hex().upper(), "D6"),
        ("content_hash", link.digest.hex()[:-2], "D6"),
        ("content_hash", " " + link.digest.hex(), "D6"),
        ("world_id", "", "D7"),
        ("world_id", "Paris", "D7"),
        ("world_id", ".hidden", "D7"),
        ("world_id", "a/b", "D7"),
        ("world_id", "a" * 65, "D7"),
        ("world_id", "a\n", "D7"),
        ("name", "", "D7"),
        ("name", " Cosette", "D7"),
        ("name", "Cosette ", "D7"),
        ("name", "Co\tsette", "D7"),
        ("name", "Co\u00adsette", "D7"),
        ("name", "Co\u200bsette", "D7"),
        ("name", "\u202eettesoC", "D7"),
        ("name", "Co\u00a0sette", "D7"),
        ("name", "\ue000", "D7"),
        ("name", "é" * 65, "D7"),
        ("label", "Agent.move", "D7"),
        ("label", "agent.", "D7"),
        ("label", "agent..move", "D7"),
        ("label", "a" * 65, "D7"),
    )
    cases: list[dict[str, Any]] = [{"id": f"{kind} {text!a}", "kind": kind, "text": text} for kind, text, _ in good]
    for case, (_, _, octets) in zip(cases, good, strict=True):
        if octets is not None:
            case["octets"] = octets
    cases += [{"id": f"{kind} {text!a}", "kind": kind, "text": text, "rule": rule} for kind, text, rule in bad]
    return {
        "about": "`text` is a `kind`, or breaks exactly the codec rule `rule`. `octets`: for peer_id and actor_id the "
        "public key that it names, for cid and content_hash the binary form.",
        "cases": cases,
    }


def signature_vectors() -> dict[str, Any]:
    """The file ``codec/vectors/signatures.json``."""
    genesis, other_genesis = hash32(b"genesis"), hash32(b"another genesis")
    key, other = key_of("signer"), key_of("somebody else")
    body = cbor.encode({"hello": "world"})
    good = sign(Domain.ACTION, genesis, body, key)
    order = 2**252 + 27742317777372353535851937790883648493
    malleated = good.sig[:32] + (int.from_bytes(good.sig[32:], "little") + order).to_bytes(32, "little")
    cases = [
        _signature("an action", "action", genesis, good, valid=True),
        _signature("a proposal", "proposal", genesis, sign(Domain.PROPOSAL, genesis, body, key), valid=True),
        _signature("a vote", "vote", genesis, sign(Domain.VOTE, genesis, body, key), valid=True),
        _signature(
            "a claim", "hello_validator", genesis, sign(Domain.HELLO_VALIDATOR, genesis, body, key), valid=True
        ),
        _signature("an empty body", "action", genesis, sign(Domain.ACTION, genesis, b"", key), valid=True),
        _signature("signed for another purpose", "vote", genesis, good, valid=False),
        _signature("signed in another world", "action", other_genesis, good, valid=False),
        _signature("another body", "action", genesis, _changed(good, body=body + b"\x00"), valid=False),
        _signature("another key", "action", genesis, _changed(good, key=other.public_key), valid=False),
        _signature("one bit flipped", "action", genesis, _changed(good, sig=_flip(good.sig)), valid=False),
        _signature("s not reduced", "action", genesis, _changed(good, sig=Signature(malleated)), valid=False),
        _signature(
            "key and signature of small order", "action", genesis,
            _changed(good, key=PublicKey(b"\x01" + bytes(31)), sig=Signature(b"\x01" + bytes(63))), valid=False,
        ),
        _signature("body signed bare", "action", genesis, _changed(good, sig=key.sign(body)), valid=False),
    ]  # fmt: skip
    return {
        "about": "Whether the encoded `signed` holds for `domain` in the world of `genesis_hash`.",
        "cases": cases,
    }


def _signature(what: str, domain: str, genesis: Hash32, signed: Signed, *, valid: bool) -> dict[str, Any]:
    return {
        "id": what,
        "domain": domain,
        "genesis_hash": genesis.hex(),
        "signed": record.to_bytes(signed).hex(),
        "valid": valid,
    }


def _changed(
    signed: Signed, *, body: bytes | None = None, key: PublicKey | None = None, sig: Signature | None = None
) -> Signed:
    return Signed(body=signed.body if body is None else body, key=key or signed.key, sig=sig or signed.sig)


def _flip(sig: Signature) -> Signature:
    return Signature(bytes((sig[0] ^ 1,)) + sig[1:])

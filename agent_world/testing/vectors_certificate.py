"""Vectors of protocols/consensus: commit certificates of one height, good ones and ones that break one C rule."""

from __future__ import annotations

from typing import Any, Final

import attrs

from agent_world.consensus.certificate import build_certificate
from agent_world.crypto.hashing import hash32
from agent_world.crypto.signing import Domain, sign
from agent_world.testing.examples import key_of
from agent_world.testing.vectors_action import example_genesis
from agent_world.wire import record
from agent_world.wire.consensus import CommitCertificate, Step, Vote, VoteSignature
from agent_world.wire.ids import U32, U64, Hash32, WorldId
from agent_world.world.genesis import genesis_hash

_HEIGHT: Final = 7
_BLOCK_HASH: Final = hash32(b"block 7")
_GOOD: Final = Vote(
    world_id=WorldId("w1"), height=U64(_HEIGHT), round=U32(1), step=Step.PRECOMMIT, block_hash=_BLOCK_HASH
)


def _signature(name: str, body: bytes, *, domain: Domain = Domain.VOTE, genesis: Hash32 | None = None) -> VoteSignature:
    signed = sign(domain, genesis or genesis_hash(example_genesis()), body, key_of(f"validator {name}"))
    return VoteSignature(key=signed.key, sig=signed.sig)


def _certificate(names: str, vote: Vote = _GOOD) -> bytes:
    body = record.to_bytes(vote)
    return build_certificate(body, [_signature(name, body) for name in names])


def certificate_vectors() -> dict[str, Any]:
    """The file ``consensus/vectors/certificates.json``."""
    good = [
        {"id": f"signed by {', '.join(names)}", "certificate": _certificate(names).hex()}
        for names in ("ab", "abcd", "acd")
    ]
    return {
        "about": "Whether `certificate` commits `block_hash` at `height` by the validators of `genesis` (stakes a 40, "
        "b 30, c 20, d 10; required 67): yes, or no by exactly the rule `rule`.",
        "genesis": record.to_bytes(example_genesis()).hex(),
        "genesis_hash": genesis_hash(example_genesis()).hex(),
        "height": _HEIGHT,
        "block_hash": _BLOCK_HASH.hex(),
        "cases": [*good, *({"id": what, "certificate": data.hex(), "rule": rule} for what, data, rule in _bad())],
    }


def _bad() -> list[tuple[str, bytes, str]]:
    body = record.to_bytes(_GOOD)
    good = record.from_bytes(CommitCertificate, _certificate("abcd"), size_max=1 << 16)
    last = good.signatures[-1]

    def instead(signature: VoteSignature) -> bytes:
        return record.to_bytes(attrs.evolve(good, signatures=(*good.signatures[:-1], signature)))

    def of_last(**how: Any) -> VoteSignature:
        name = next(name for name in "abcd" if key_of(f"validator {name}").public_key == last.key)
        return _signature(name, body, **how)

    stranger = [*good.signatures, _signature("nobody", body)]
    return [
        ("nothing", b"", "C1"),
        ("a trailing byte", record.to_bytes(good) + b"\x00", "C1"),
        ("a body that is no vote", record.to_bytes(attrs.evolve(good, body=b"\xa0")), "C1"),
        ("prevotes", _certificate("abcd", attrs.evolve(_GOOD, step=Step.PREVOTE)), "C2"),
        ("another world", _certificate("abcd", attrs.evolve(_GOOD, world_id=WorldId("w2"))), "C3"),
        ("another height", _certificate("abcd", attrs.evolve(_GOOD, height=U64(_HEIGHT + 1))), "C4"),
        ("another block", _certificate("abcd", attrs.evolve(_GOOD, block_hash=hash32(b"block 8"))), "C5"),
        ("votes for nil", _certificate("abcd", attrs.evolve(_GOOD, block_hash=None)), "C5"),
        ("keys descending", record.to_bytes(attrs.evolve(good, signatures=good.signatures[::-1])), "C6"),
        ("a key twice", record.to_bytes(attrs.evolve(good, signatures=(*good.signatures, last))), "C6"),
        ("a key of nobody", build_certificate(body, stranger), "C7"),
        ("a signature of another body", instead(attrs.evolve(last, sig=key_of("validator a").sign(b""))), "C8"),
        ("a signature for another purpose", instead(of_last(domain=Domain.PROPOSAL)), "C8"),
        ("a signature of another world of that name", instead(of_last(genesis=hash32(b"other"))), "C8"),
        ("too little stake", _certificate("bcd"), "C9"),
        ("no signature", _certificate(""), "C9"),
    ]

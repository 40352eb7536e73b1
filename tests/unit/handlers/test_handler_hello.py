from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_world.crypto.hashing import hash32
from agent_world.errors import DecodeError, ErrorCode, Refused
from agent_world.handlers.hello import HelloHandler, check_hello, claim_in, sign_validator_claim
from agent_world.testing.examples import example, key_of
from agent_world.wire import record
from agent_world.wire.hello import PROTOCOL_VERSIONS, Hello, PeerAddress, Role, ValidatorClaim
from agent_world.wire.ids import Hash32, PeerId, PublicKey, Signature, TimeMs, WorldId, peer_id_of
from agent_world.wire.limits import ADDRESS_CHARS_MAX, HELLO_PEERS_MAX, HELLO_VERSIONS_MAX, NAME_CHARS_MAX
from agent_world.wire.signed import Signed

LISTEN = "/ip4/10.0.0.1/tcp/4001"
SAYER = peer_id_of(key_of("sayer").public_key)
CLAIM = ValidatorClaim(peer_id=SAYER, issued_at_ms=TimeMs(5))


@pytest.fixture
def hello(head: Any) -> Hello:
    return Hello(
        versions=PROTOCOL_VERSIONS,
        world_id=WorldId("w"), genesis_hash=hash32(b"genesis"), role=Role.OBSERVER, validator=None, listen=(LISTEN,),
        head=head(3).head, peers=(),
    )  # fmt: skip


def friends(peer: PeerId, *addresses: str) -> tuple[PeerAddress, ...]:
    return tuple(PeerAddress(peer_id=peer, address=address, validator=False) for address in addresses)


def check(hello: Hello) -> None:
    check_hello(hello, SAYER, WorldId("w"), hash32(b"genesis"))


def rule_of(hello: Hello) -> tuple[str, ErrorCode]:
    with pytest.raises(Refused) as caught:
        check(hello)
    return caught.value.rule, caught.value.code


async def test_hellos_are_exchanged(hello: Hello, peer: PeerId) -> None:
    greeted: list[tuple[PeerId, Hello]] = []
    handler = HelloHandler(lambda: hello, lambda who, said: greeted.append((who, said)))
    theirs = attrs.evolve(hello, role=Role.STORAGE, peers=friends(peer, LISTEN))
    answer = await handler.serve(peer, record.to_bytes(theirs))
    assert record.from_bytes(Hello, answer, size_max=10_000) == hello
    assert handler.judge(peer, record.to_bytes(theirs)) == theirs
    assert greeted == [(peer, theirs)] * 2


async def test_who_is_refused_was_not_greeted(hello: Hello, peer: PeerId) -> None:
    def greeted(_who: PeerId, _said: Hello) -> None:
        raise AssertionError("a foreigner")

    handler = HelloHandler(lambda: hello, greeted)
    with pytest.raises(Refused):
        await handler.serve(peer, record.to_bytes(attrs.evolve(hello, world_id=WorldId("another"))))
    with pytest.raises(DecodeError):
        await handler.serve(peer, b"\xff")


def test_n1_another_world(hello: Hello) -> None:
    assert rule_of(attrs.evolve(hello, world_id=WorldId("another"))) == ("N1", ErrorCode.UNAUTHORIZED)


def test_n2_another_genesis_of_the_same_name(hello: Hello) -> None:
    assert rule_of(attrs.evolve(hello, genesis_hash=Hash32(bytes(32)))) == ("N2", ErrorCode.UNAUTHORIZED)


@pytest.mark.parametrize("listen", ["/ip4/0.0.0.0/tcp/4001", "/ip6/::1/tcp/1", "/dns4/example.org/tcp/443"])
def test_n3_listen_addresses_that_are_fine(hello: Hello, listen: str) -> None:
    check(attrs.evolve(hello, listen=(listen,) * HELLO_PEERS_MAX))


@pytest.mark.parametrize(
    "versions", [(), ("aw/2",), ("aw/1",) * (HELLO_VERSIONS_MAX + 1), ("aw/1", "x" * (NAME_CHARS_MAX + 1))]
)
def test_n4_no_version_in_common(hello: Hello, versions: tuple[str, ...]) -> None:
    assert rule_of(attrs.evolve(hello, versions=versions)) == ("N4", ErrorCode.UNSUPPORTED)


def test_n4_one_version_in_common_is_enough(hello: Hello) -> None:
    check(attrs.evolve(hello, versions=("aw/3", "aw/1")))


async def test_both_sides_see_why_a_hello_is_refused(hello: Hello, peer: PeerId) -> None:
    refused: list[tuple[PeerId, Refused]] = []
    handler = HelloHandler(lambda: hello, lambda _who, _said: None)
    handler.refused = lambda who, error: refused.append((who, error))
    with pytest.raises(Refused, match=r"speaks aw/1; the peer names 'aw/9'") as told:
        await handler.serve(peer, record.to_bytes(attrs.evolve(hello, versions=("aw/9",))))
    assert refused == [(peer, told.value)]


BAD = ["", "10.0.0.1:1", "/ip4/10.0.0.1/udp/1", "/ip4/10.0.0.1/tcp/70000", "/ip4/1.2.3/tcp/1", "/" * 300]


@pytest.mark.parametrize("address", BAD)
def test_n3_addresses_that_are_none(hello: Hello, peer: PeerId, address: str) -> None:
    assert rule_of(attrs.evolve(hello, listen=(address,))) == ("N3", ErrorCode.BAD_REQUEST)
    assert rule_of(attrs.evolve(hello, peers=friends(peer, address))) == ("N3", ErrorCode.BAD_REQUEST)


@pytest.mark.parametrize("address", ["/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001", "/ip4/10.0.0.1/tcp/0"])
def test_n3_peers_that_nobody_can_dial(hello: Hello, peer: PeerId, address: str) -> None:
    assert rule_of(attrs.evolve(hello, peers=friends(peer, address)))[0] == "N3"


def test_n3_too_many_or_too_long(hello: Hello, peer: PeerId) -> None:
    many = (LISTEN,) * (HELLO_PEERS_MAX + 1)
    assert rule_of(attrs.evolve(hello, listen=many))[0] == "N3"
    assert rule_of(attrs.evolve(hello, peers=friends(peer, *many)))[0] == "N3"
    long = f"/dns4/{'a' * ADDRESS_CHARS_MAX}/tcp/1"
    assert rule_of(attrs.evolve(hello, listen=(long,)))[0] == "N3"


def proof(claim: ValidatorClaim = CLAIM, genesis: bytes = b"genesis") -> Signed:
    return sign_validator_claim(claim, hash32(genesis), key_of("validator"))


def test_a_validator_proves_itself(hello: Hello) -> None:
    check(attrs.evolve(hello, validator=proof()))
    assert claim_in(proof()) == CLAIM


@pytest.mark.parametrize(
    "change",
    [
        {"body": b""},
        {"body": record.to_bytes(attrs.evolve(CLAIM, issued_at_ms=TimeMs(6)))},
        {"key": key_of("another validator").public_key},
        {"sig": Signature(bytes(64))},
        {"sig": proof(genesis=b"another genesis").sig},
    ],
    ids=["no claim", "another time", "another key", "no signature", "another world"],
)
def test_n5_a_false_proof(hello: Hello, change: dict[str, Any]) -> None:
    assert rule_of(attrs.evolve(hello, validator=attrs.evolve(proof(), **change))) == ("N5", ErrorCode.UNAUTHORIZED)


def test_n6_the_proof_of_another_peer(hello: Hello, peer: PeerId) -> None:
    theirs = attrs.evolve(CLAIM, peer_id=peer)
    assert rule_of(attrs.evolve(hello, validator=proof(theirs))) == ("N6", ErrorCode.UNAUTHORIZED)


@given(body=st.binary(max_size=100), key=st.binary(min_size=32, max_size=32), sig=st.binary(min_size=64, max_size=64))
def test_whatever_a_proof_is_made_of_it_is_refused_by_rule(body: bytes, key: bytes, sig: bytes) -> None:
    hello = attrs.evolve(
        example(Hello, "lowest"), versions=PROTOCOL_VERSIONS, world_id=WorldId("w"), genesis_hash=hash32(b"genesis")
    )
    for said in (body, record.to_bytes(CLAIM)):
        signed = Signed(body=said, key=PublicKey(key), sig=Signature(sig))
        assert rule_of(attrs.evolve(hello, validator=signed))[0] == "N5"

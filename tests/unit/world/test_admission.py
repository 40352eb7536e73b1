from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import WORLD_ID, SmallWorld, key

from agent_world.crypto.hashing import actor_id_of, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.crypto.signing import Domain, sign_record
from agent_world.errors import ErrorCode, Refused
from agent_world.wire import cbor, record
from agent_world.wire.action import PAYLOADS, ActionEnvelope, MoveAgent, TransferResource
from agent_world.wire.ids import I64, U64, ActorId, Hash32, Label, Name, TimeMs, WorldId
from agent_world.wire.limits import ENVELOPE_BYTES_MAX, PAYLOAD_BYTES_MAX
from agent_world.wire.signed import Signed
from agent_world.world.admission import SignedAction, build_action, check_against_state, open_action

GENESIS = Hash32(b"g" * 32)
KEY = key(7)
MOVE = MoveAgent(x_cm=I64(1), y_cm=I64(-2), z_cm=I64(3))


def envelope(**changes: object) -> ActionEnvelope:
    payload = record.to_bytes(MOVE)
    base = ActionEnvelope(
        world_id=WORLD_ID,
        actor_id=actor_id_of(KEY.public_key),
        action_kind=Label("agent.move"),
        payload_cbor=payload,
        payload_hash=hash32(payload),
        nonce=U64(1),
        timestamp_ms=TimeMs(5),
    )
    return attrs.evolve(base, **changes)


def signed(body: object, domain: Domain = Domain.ACTION, genesis: Hash32 = GENESIS, signer: KeyPair = KEY) -> bytes:
    return sign_record(domain, genesis, body, signer)


def with_payload(payload: bytes, **changes: object) -> bytes:
    return signed(envelope(payload_cbor=payload, payload_hash=hash32(payload), **changes))


def test_a_built_action_opens() -> None:
    data = build_action(KEY, GENESIS, WORLD_ID, MOVE, nonce=1, timestamp_ms=5)
    assert data == signed(envelope())
    action = open_action(data, WORLD_ID, GENESIS)
    assert action == SignedAction(data, hash32(data), envelope(), MOVE, KEY.public_key)


def test_every_kind_can_be_built(world: SmallWorld) -> None:
    payload = TransferResource(resource=Name("gold"), to_actor_id=actor_id_of(KEY.public_key), amount=U64(1))
    action = open_action(build_action(KEY, GENESIS, WORLD_ID, payload, nonce=1, timestamp_ms=0), WORLD_ID, GENESIS)
    assert PAYLOADS[action.envelope.action_kind] is type(action.payload)
    assert action.payload == payload


def flipped(data: bytes, index: int) -> bytes:
    return data[:index] + bytes((data[index] ^ 1,)) + data[index + 1 :]


GOOD = signed(envelope())
LOOSE_BODY = cbor.encode({**cbor.decode(record.to_bytes(envelope()), size_max=9_999), "extra": 1})


@pytest.mark.parametrize(
    ("data", "rule", "code"),
    [
        (b"", "A1", ErrorCode.BAD_REQUEST),
        (GOOD + b"\x00", "A1", ErrorCode.BAD_REQUEST),
        (b"\x00" * (ENVELOPE_BYTES_MAX + 1), "A1", ErrorCode.BAD_REQUEST),
        (record.to_bytes(Signed(body=b"junk", key=KEY.public_key, sig=bytes(64))), "A1", ErrorCode.BAD_REQUEST),
        (record.to_bytes(Signed(body=LOOSE_BODY, key=KEY.public_key, sig=bytes(64))), "A1", ErrorCode.BAD_REQUEST),
        (signed(envelope(world_id=WorldId("w.other"))), "A2", ErrorCode.BAD_REQUEST),
        (signed(envelope(payload_hash=Hash32(bytes(32)))), "A3", ErrorCode.INVALID_HASH),
        (signed(envelope(action_kind=Label("agent.fly"))), "A4", ErrorCode.UNSUPPORTED),
        (signed(envelope(action_kind=Label("resource.transfer"))), "A5", ErrorCode.BAD_REQUEST),
        (with_payload(b"junk"), "A5", ErrorCode.BAD_REQUEST),
        (with_payload(record.to_bytes(MOVE) + b"\x00"), "A5", ErrorCode.BAD_REQUEST),
        (with_payload(b"\x00" * (PAYLOAD_BYTES_MAX + 1)), "A5", ErrorCode.BAD_REQUEST),
        (signed(envelope(), domain=Domain.VOTE), "A6", ErrorCode.UNAUTHORIZED),
        (signed(envelope(), genesis=Hash32(bytes(32))), "A6", ErrorCode.UNAUTHORIZED),
    ],
)
def test_what_needs_no_state(data: bytes, rule: str, code: ErrorCode) -> None:
    with pytest.raises(Refused) as caught:
        open_action(data, WORLD_ID, GENESIS)
    assert (caught.value.rule, caught.value.code) == (rule, code)
    assert caught.value.message.startswith(f"{rule}: ")


@given(index=st.integers(0, len(GOOD) - 1))
@settings(deadline=None, max_examples=150)
def test_no_bit_can_be_flipped(index: int) -> None:
    with pytest.raises(Refused):
        open_action(flipped(GOOD, index), WORLD_ID, GENESIS)


@given(data=st.binary(max_size=120))
@settings(deadline=None, max_examples=150)
def test_any_bytes_are_refused_and_never_crash(data: bytes) -> None:
    with pytest.raises(Refused):
        open_action(data, WORLD_ID, GENESIS)


def test_an_action_says_whose_key_signed_it() -> None:
    """Another's actor id can be claimed in a well-signed action; only the state tells (A8)."""
    action = open_action(signed(envelope(), signer=key(8)), WORLD_ID, GENESIS)
    assert action.key == key(8).public_key


class TestAgainstState:
    @pytest.fixture
    def check(self, world: SmallWorld, alice: KeyPair) -> Callable[..., None]:
        """Checks an action of alice, whose last nonce is 2, with a window of 4."""
        world.join(alice)
        for _ in range(2):
            world.do(alice, MOVE)

        def check(nonce: int, signer: KeyPair = alice, actor_id: ActorId | None = None) -> None:
            action = world.sign(signer, MOVE, nonce=nonce)
            if actor_id is not None:
                action = attrs.evolve(action, envelope=attrs.evolve(action.envelope, actor_id=actor_id))
            check_against_state(action, world.state, 4)

        return check

    @pytest.mark.parametrize("nonce", [3, 6])
    def test_the_next_nonces_are_admitted(self, check: Callable[..., None], nonce: int) -> None:
        check(nonce)

    @pytest.mark.parametrize(
        ("nonce", "rule", "says"),
        [
            (0, "A9", "the next one is 3"),
            (1, "A9", "the next one is 3"),
            (2, "A9", "the next one is 3"),
            (7, "A10", "the next one is 3, the last one accepted now 6"),
            (2**64 - 1, "A10", "the next one is 3"),
        ],
    )
    def test_other_nonces_are_not(self, check: Callable[..., None], nonce: int, rule: str, says: str) -> None:
        with pytest.raises(Refused, match=says) as caught:
            check(nonce)
        assert (caught.value.rule, caught.value.code) == (rule, ErrorCode.STATE_MISMATCH)

    def test_strangers_are_refused(self, check: Callable[..., None], bob: KeyPair) -> None:
        with pytest.raises(Refused) as caught:
            check(1, signer=bob)
        assert (caught.value.rule, caught.value.code) == ("A7", ErrorCode.UNAUTHORIZED)

    def test_nobody_acts_for_another(self, check: Callable[..., None], alice: KeyPair, bob: KeyPair) -> None:
        with pytest.raises(Refused) as caught:
            check(3, signer=bob, actor_id=actor_id_of(alice.public_key))
        assert (caught.value.rule, caught.value.code) == ("A8", ErrorCode.UNAUTHORIZED)

from __future__ import annotations

import pytest
from small_world import SmallWorld

from agent_world.crypto.hashing import actor_id_of, hash32
from agent_world.crypto.keys import KeyPair
from agent_world.errors import ChainError
from agent_world.wire.limits import STATE_KEY_BYTES_MAX
from agent_world.world.reasons import RuleRefusal
from agent_world.world.rules.context import RuleContext, require_key_fits


def context(world: SmallWorld, who: KeyPair) -> RuleContext:
    return RuleContext(
        state=world.state,
        actor_id=actor_id_of(who.public_key),
        action_id=hash32(b"action"),
        height=9,
        timestamp_ms=1,
        emit=lambda _: None,
    )


def test_the_actor_must_be_there(world: SmallWorld, alice: KeyPair, authority: KeyPair) -> None:
    assert context(world, authority).actor().public_key == authority.public_key
    with pytest.raises(ChainError, match="height 9: state"):
        context(world, alice).actor()


def test_recipients(world: SmallWorld, alice: KeyPair, authority: KeyPair) -> None:
    acting = context(world, authority)
    acting.require_recipient(acting.actor_id)
    with pytest.raises(RuleRefusal) as caught:
        acting.require_recipient(actor_id_of(alice.public_key))
    assert caught.value.code == "unknown_recipient"


def test_keys_have_a_bound() -> None:
    require_key_fits(b"k" * STATE_KEY_BYTES_MAX)
    with pytest.raises(RuleRefusal) as caught:
        require_key_fits(b"k" * (STATE_KEY_BYTES_MAX + 1))
    assert caught.value.code == "name_too_long"

"""crypto/keys.py: Ed25519 key pairs and the text of a key file."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import VerifyKey

from agent_world.crypto.keys import KeyPair
from agent_world.errors import UsageError

RFC_8032_SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")


def test_the_first_vector_of_rfc_8032() -> None:
    key = KeyPair(RFC_8032_SEED)
    assert key.public_key.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b"
    )


@settings(deadline=None, max_examples=30)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=100))
def test_signatures_verify_and_are_the_same_every_time(seed: bytes, message: bytes) -> None:
    key = KeyPair(seed)
    assert VerifyKey(key.public_key).verify(message, key.sign(message)) == message
    assert key.sign(message) == KeyPair(seed).sign(message)


@settings(deadline=None, max_examples=30)
@given(st.binary(min_size=32, max_size=32))
def test_the_text_of_a_key_file_gives_the_key_back(seed: bytes) -> None:
    key = KeyPair(seed)
    read = KeyPair.from_text(key.to_text(), "node.key")
    assert read.seed == seed
    assert read.public_key == key.public_key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        RFC_8032_SEED.hex(),
        KeyPair(RFC_8032_SEED).to_text()[:-3],
        KeyPair(RFC_8032_SEED).to_text() + "00",
        KeyPair(RFC_8032_SEED).to_text().replace("v1", "v2"),
        "agent-world ed25519 seed v1\n" + "zz" * 32,
        "-----BEGIN PRIVATE KEY-----",
    ],
)
def test_other_files_are_refused_by_their_name(text: str) -> None:
    with pytest.raises(UsageError, match=r"node\.key is not a key file"):
        KeyPair.from_text(text, "node.key")


def test_the_seed_is_not_shown() -> None:
    key = KeyPair(RFC_8032_SEED)
    for shown in (repr(key), str(key), f"{key}"):
        assert key.seed.hex()[:8] not in shown
    with pytest.raises(UsageError) as refused:
        KeyPair.from_text("agent-world ed25519 seed v2\n" + key.seed.hex(), "node.key")
    assert key.seed.hex() not in str(refused.value)

"""wire/ids.py: the one form of each name."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.errors import DecodeError
from agent_world.testing.record_strategies import names
from agent_world.wire import ids
from agent_world.wire.ids import PublicKey

PEER = ids.peer_id_of(PublicKey(bytes(range(32))))


def accepts(check: Callable[[str], str], text: str) -> bool:
    try:
        same = check(text)
    except DecodeError as error:
        return error.rule != "D7"
    return same == text


@pytest.mark.parametrize("text", ["a", "0", "les-miserables", "w1", "a.b_c-d", "a" * 64])
def test_words(text: str) -> None:
    assert accepts(ids.check_word, text)


@pytest.mark.parametrize(
    "text", ["", "A", "-a", ".a", "_a", "a b", "a/b", "a" * 65, "a\n", "\na", "é", "a\x00", "ａ", "../etc"]
)
def test_what_is_no_word(text: str) -> None:
    assert not accepts(ids.check_word, text)


@pytest.mark.parametrize("text", ["ok", "agent.move", "a_b.c_1", "_", "1", "a" * 64])
def test_labels(text: str) -> None:
    assert accepts(ids.check_label, text)


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "A", "a-b", "a b", "a" * 65, "a\n", "é"])
def test_what_is_no_label(text: str) -> None:
    assert not accepts(ids.check_label, text)


@pytest.mark.parametrize("text", ["a", "Jean Valjean", "沙威", "Père Fauchelevent", "a  b", "!", "🌍", "é" * 64])
def test_names(text: str) -> None:
    assert accepts(ids.check_name, text)


@settings(deadline=None, max_examples=100)
@given(names())
def test_visible_letters_of_all_scripts_make_names(name: str) -> None:
    assert accepts(ids.check_name, name)


@pytest.mark.parametrize(
    "text",
    ["", " ", " a", "a ", "a\tb", "a\nb", "a\x00", "a\x7f", "a\x85", "a\u00a0b", "a\u00adb", "a\u200bb", "a\u200db",
     "\u202ea", "a\u2028b", "a\u2066b", "\ufeffa", "\ue000", "\ufffd", "\U000e0041", "\U0010fffd", "\u3000a",
     "a" * 65],
)  # fmt: skip
def test_what_is_no_name(text: str) -> None:
    assert not accepts(ids.check_name, text)


def test_a_lone_surrogate_is_no_name() -> None:
    assert not accepts(ids.check_name, "\ud800")


def test_no_character_of_a_hidden_kind_is_in_a_name() -> None:
    """Control, format, surrogate, private use, line and space characters of this Python's Unicode tables."""
    hidden = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Zs"}
    leaks = [
        hex(point)
        for point in range(sys.maxunicode + 1)
        if unicodedata.category(chr(point)) in hidden and ids._NAME.fullmatch(chr(point))
    ]
    # Format characters that are seen: signs of numbers and verses, and joiners of scripts that need them.
    visible = {0x600, 0x601, 0x602, 0x603, 0x604, 0x605, 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
    shaping = {*range(0x13430, 0x13440), *range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B)}
    assert [point for point in leaks if int(point, 16) not in visible | shaping] == []


def test_names_do_not_depend_on_the_unicode_version() -> None:
    """U+0378 is not assigned: a Python that knew it would call it printable, and blocks would execute differently."""
    assert unicodedata.category("\u0378") == "Cn"
    assert accepts(ids.check_name, "\u0378")


@settings(deadline=None, max_examples=50)
@given(st.binary(min_size=20, max_size=20))
def test_actor_ids(digest: bytes) -> None:
    text = ids.actor_id_text(digest)
    assert len(text) == 32
    assert accepts(ids.check_actor_id, text)


@pytest.mark.parametrize("text", ["", "a" * 31, "a" * 33, "A" * 32, "a" * 31 + "1", "a" * 32 + "\n"])
def test_what_is_no_actor_id(text: str) -> None:
    assert not accepts(ids.check_actor_id, text)


@settings(deadline=None, max_examples=50)
@given(st.binary(min_size=32, max_size=32))
def test_peer_ids(key: bytes) -> None:
    peer = ids.peer_id_of(PublicKey(key))
    assert peer.startswith("12D3KooW")
    assert len(peer) == 52
    assert ids.node_key_of(peer) == key
    assert accepts(ids.check_peer_id, peer)


@pytest.mark.parametrize(
    "text",
    ["", PEER[:-1], PEER + "1", PEER + "\n", " " + PEER, PEER[:-1] + "0", PEER.lower(),
     PEER.replace("KooW", "KooX"), PEER.replace("12D3", "12E3"), "1" * 52, "z" * 52, "é" * 52,
     "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "z" * 1_000_000],
)  # fmt: skip
def test_what_is_no_peer_id(text: str) -> None:
    assert not accepts(ids.check_peer_id, text)


def test_a_peer_id_that_libp2p_names_the_same() -> None:
    """Source: libp2p specs, peer-ids, test vector of an Ed25519 key (the public key of its private one)."""
    key = bytes.fromhex("1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e")
    assert ids.peer_id_of(PublicKey(key)) == "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"

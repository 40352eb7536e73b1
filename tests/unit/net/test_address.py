import contextlib
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_world.errors import UsageError
from agent_world.net.address import TcpAddress, format_peer, parse_address, parse_peer
from agent_world.wire.ids import PublicKey, peer_id_of

PEER = peer_id_of(PublicKey(bytes(range(32))))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/tcp/4001"),
        ("/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/tcp/0"),
        ("/ip4/10.1.2.3/tcp/04001", "/ip4/10.1.2.3/tcp/4001"),
        ("/ip6/0:0:0:0:0:0:0:1/tcp/65535", "/ip6/::1/tcp/65535"),
        ("/ip6/2001:DB8::1/tcp/1", "/ip6/2001:db8::1/tcp/1"),
        ("/dns/Node-1.Example.org./tcp/80", "/dns/node-1.example.org/tcp/80"),
        ("/dns4/localhost/tcp/80", "/dns4/localhost/tcp/80"),
    ],
)
def test_addresses_come_into_one_form(text: str, canonical: str) -> None:
    assert str(parse_address(text)) == canonical
    assert parse_address(canonical) == parse_address(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("127.0.0.1:4001", "is not a multiaddr"),
        ("", "is not a multiaddr"),
        ("/ip4/127.0.0.1", "too short"),
        ("/ip4/127.0.0.1/udp/4001", "only tcp"),
        ("/ip4/127.0.0.1/tcp/65536", "not a TCP port"),
        ("/ip4/127.0.0.1/tcp/-1", "not a TCP port"),
        ("/ip4/127.0.0.1/tcp/", "not a TCP port"),
        ("/ip4/127.0.0.1/tcp/٤", "not a TCP port"),
        ("/ip4/::1/tcp/1", "not an ip4 address"),
        ("/ip6/127.0.0.1/tcp/1", "not an ip6 address"),
        ("/ip6/fe80::1%eth0/tcp/1", "not an ip6 address"),
        ("/ip4/localhost/tcp/1", "not an IP address"),
        ("/dns/no_host!/tcp/1", "not a host name"),
        ("/unix/socket/tcp/1", "known are"),
        ("/ip4/127.0.0.1/tcp/1/ws", "only /p2p"),
        ("/ip4/127.0.0.1/tcp/1/p2p", "only /p2p"),
        (f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}/p2p-circuit", "only /p2p"),
        ("/ip4/127.0.0.1/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "not the peer id of an Ed25519"),
        (f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}", "names a peer"),
        ("/ip4/127.0.0.1/tcp/1/" + "x" * 300, "over the limit"),
    ],
)
def test_wrong_text_is_a_usage_error_that_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_address(text)


def test_peer_and_address_are_told_apart() -> None:
    text = f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER}"
    assert parse_peer(text) == (PEER, "/ip4/192.0.2.7/tcp/4001")
    assert format_peer(*parse_peer(text)) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("/ip4/192.0.2.7/tcp/4001", "names no peer"),
        (f"/ip4/0.0.0.0/tcp/4001/p2p/{PEER}", "cannot be dialled"),
        (f"/ip4/127.0.0.1/tcp/0/p2p/{PEER}", "cannot be dialled"),
    ],
)
def test_a_peer_needs_an_id_and_a_real_address(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_peer(text)


@given(st.ip_addresses(), st.integers(0, 65535))
@settings(deadline=None, max_examples=100)
def test_every_ip_address_round_trips(ip: object, port: int) -> None:
    address = TcpAddress("ip6" if ":" in str(ip) else "ip4", str(ip), port)
    assert parse_address(str(address)) == address


@given(st.text(max_size=80).map(lambda tail: "/ip4/" + tail))
@settings(deadline=None, max_examples=200)
def test_no_text_raises_anything_else(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert str(parse_address(str(parse_address(text)))) == str(parse_address(text))


def test_nothing_heavy_is_imported() -> None:  # D11
    code = "import sys, agent_world.net.address, agent_world.net.interface; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"libp2p", "multiaddr", "trio"}.isdisjoint(loaded)

"""Sessions that ask the kernel themselves: partial writes, order, endings; and the lock beside them."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.io.exceptions import ConnectionClosedError, IncompleteReadError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.security.noise.io import NoiseTransportReadWriter
from libp2p.security.secure_session import SecureSession
from noise.backends.default.ciphers import ChaCha20Cipher
from noise.state import CipherState

from agent_world.net.libp2p.faster.noise import LENGTH_BYTES, TAG_BYTES, FasterSession
from agent_world.net.libp2p.faster.quiet_lock import QuietLock
from agent_world.wire.limits import KIB

KEYS = create_new_key_pair(bytes(32))


def session(end: trio.SocketStream) -> FasterSession:
    """As after a handshake; both directions have one key."""
    states = [CipherState(SimpleNamespace(cipher_class=lambda: ChaCha20Cipher())) for _ in range(2)]
    for state in states:
        state.cipher = ChaCha20Cipher()
        state.initialize_key(bytes(range(32)))
    protocol = SimpleNamespace(cipher_state_encrypt=states[0], cipher_state_decrypt=states[1])
    noise: Any = SimpleNamespace(noise_protocol=protocol)
    me = ID.from_pubkey(KEYS.public_key)
    connection = RawConnection(TrioTCPStream(end), True)
    theirs = SecureSession(
        local_peer=me, local_private_key=KEYS.private_key, remote_peer=me, remote_permanent_pubkey=KEYS.public_key,
        is_initiator=True, conn=NoiseTransportReadWriter(connection, noise),
    )  # fmt: skip
    return FasterSession.in_place_of(theirs)


def pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    ends = socket.socketpair()
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * KIB)
    one, two = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in ends)
    return one, two


async def test_what_the_kernel_does_not_take_is_sent_in_order() -> None:
    one, two = pair()
    writer, reader = session(one), session(two)
    texts = [bytes([number]) * size for number, size in enumerate((10, 90 * KIB, 20, 200 * KIB, 30))]
    got = []
    async with one, two, trio.open_nursery() as nursery:
        for text in texts:  # all at once; most of them have to wait for the one before
            nursery.start_soon(writer.write, text)
            await trio.testing.wait_all_tasks_blocked()
        for text in texts:
            got.append(await reader.read(len(text)))  # noqa: PERF401 - each read is awaited
    assert got == texts


async def test_nothing_is_written_into_the_middle_of_a_message() -> None:
    one, two = pair()
    writer = session(one)
    async with one, two, trio.open_nursery() as nursery:
        nursery.start_soon(writer.write, bytes(90 * KIB))
        await trio.testing.wait_all_tasks_blocked()
        os.read(two.socket.fileno(), KIB * KIB)  # room again, and the first writer has not had its turn yet
        rest = writer.write_at_once(b"vote")
        assert rest is not None
        assert len(rest) == LENGTH_BYTES + len(b"vote") + TAG_BYTES
        nursery.cancel_scope.cancel()


async def test_a_small_message_needs_no_turn_of_the_scheduler() -> None:
    one, two = pair()
    async with one, two:
        with trio.testing.assert_no_checkpoints():
            await session(one).write(b"vote")
        assert await session(two).read(4) == b"vote"


async def test_endings() -> None:
    one, two = pair()
    writer, reader = session(one), session(two)
    await writer.write(b"last")
    await one.aclose()
    await writer.write(b"lost")  # as with the library: nobody reads what is written after a close
    assert await reader.read(4) == b"last"
    with pytest.raises(IncompleteReadError):
        await reader.read(1)
    with pytest.raises(IncompleteReadError):
        await writer.read(1)
    with pytest.raises(ConnectionClosedError):
        await reader.write(b"to nobody")
    await two.aclose()


async def test_a_close_ends_a_waiting_reader() -> None:
    one, two = pair()
    async with two, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _read() -> None:
            with pytest.raises(IncompleteReadError):
                await session(one).read(1)

        await trio.testing.wait_all_tasks_blocked()
        await one.aclose()


async def test_the_number_of_a_closed_socket_is_not_read_from(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = pair()
    others: list[socket.socket] = []

    async def woken(waited_for: trio.socket.SocketType) -> None:
        """Something came; before the reader has its turn, its socket is closed and its number is another one's."""
        number = waited_for.fileno()
        waited_for.close()
        others.extend(socket.socketpair())
        assert number in [other.fileno() for other in others]
        for other in others:
            other.setblocking(False)
            other.send(b"for others")

    monkeypatch.setattr(trio.lowlevel, "wait_readable", woken)
    async with two:
        with pytest.raises(IncompleteReadError):
            await session(one).read(1)
        assert [other.recv(20) for other in others] == [b"for others"] * 2
    for other in others:
        other.close()


async def test_a_quiet_lock_is_handed_over_in_order_and_free_again() -> None:
    lock, order = QuietLock(), []

    async def take(name: str, scope: trio.CancelScope) -> None:
        with scope:
            async with lock:
                order.append(name)
                await trio.testing.wait_all_tasks_blocked()

    scopes = [trio.CancelScope() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        async with lock:
            for name, scope in zip("abc", scopes, strict=True):
                nursery.start_soon(take, name, scope)
                await trio.testing.wait_all_tasks_blocked()
            scopes[1].cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert (order, lock.locked()) == ([], True)
        assert lock.locked()  # it is a's now
    assert (order, lock.locked()) == (["a", "c"], False)
    with trio.testing.assert_no_checkpoints():
        async with lock:
            assert lock.locked()

"""Noise sessions that receive many messages at once and encrypt and decrypt in place.

The library asks the socket twice for each message (two bytes of length, then the rest), copies a message five times
and yields at every lock on the way. Here one receive takes what is there into a buffer that grows with the traffic,
the cipher reads from it, and a message is written by the cipher directly to where it is sent from or read from. What
the kernel takes at once is sent without a turn of the scheduler. Keys, nonces and the handshake are the library's.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import Any, Final, Self

import trio
from cryptography.exceptions import InvalidTag
from libp2p.io.exceptions import ConnectionClosedError, IncompleteReadError
from libp2p.io.trio import TrioTCPStream
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH
from libp2p.security.noise.transport import Transport
from libp2p.security.secure_session import SecureSession
from noise.constants import MAX_NONCE
from noise.exceptions import NoiseInvalidMessage, NoiseMaxNonceError

from agent_world.net.libp2p.faster.quiet_lock import QuietLock
from agent_world.wire.limits import KIB

RECEIVE_BYTES_MIN: Final = 16 * KIB
"""Buffer of a connection with little traffic, of which there may be hundreds."""
RECEIVE_BYTES_MAX: Final = 512 * KIB
"""Buffer of a busy connection; it doubles each time that a receive has filled it."""
QUIET_BYTES: Final = 4 * KIB
"""A receive of no more than this makes the buffer small again."""
_CLOSED_HERE: Final = (errno.EBADF, errno.ENOTSOCK)
LENGTH_BYTES: Final = 2
TAG_BYTES: Final = 16


class FasterNoise(Transport):
    """The library's transport; only what stands after its handshake is replaced."""

    async def secure_inbound(self, conn: Any) -> Any:
        """As the library's, with a faster session."""
        return FasterSession.in_place_of(await super().secure_inbound(conn))

    async def secure_outbound(self, conn: Any, peer_id: Any) -> Any:
        """As the library's, with a faster session."""
        return FasterSession.in_place_of(await super().secure_outbound(conn, peer_id))


class FasterSession(SecureSession):
    """An encrypted connection; ``read`` and ``write`` as of the session it replaces."""

    _connection: Any
    _sealing: Any
    _opening: Any
    _socket: Any
    """The socket below, None if the connection is made of something else."""
    _sealed: bytearray
    """Received: the first ``_kept`` bytes, which are no whole message yet."""
    _kept: int
    _plain: deque[bytes]
    """Decrypted messages; of the first one ``_taken`` bytes are read, of all ``_ready`` are left."""
    _taken: int
    _ready: int
    _broken: Exception | None

    @classmethod
    def in_place_of(cls, session: Any) -> Self:
        """A session that goes on where the handshake ended; the other must not be used any more."""
        mine = cls(
            local_peer=session.local_peer,
            local_private_key=session.local_private_key,
            remote_peer=session.remote_peer,
            remote_permanent_pubkey=session.remote_permanent_pubkey,
            is_initiator=session.is_initiator,
            conn=session.conn,
        )
        protocol = session.conn.noise_state.noise_protocol
        mine._connection = session.conn.read_writer.read_write_closer
        mine._sealing = protocol.cipher_state_encrypt
        mine._opening = protocol.cipher_state_decrypt
        mine._sealed, mine._kept = bytearray(RECEIVE_BYTES_MIN), 0
        mine._plain, mine._taken, mine._ready = deque(), 0, 0
        mine._broken = None
        mine._socket = None
        below = mine._connection.stream
        if isinstance(below, TrioTCPStream):
            quiet: Any = QuietLock(), QuietLock()
            below.read_lock, below.write_lock = quiet
            if isinstance(below.stream, trio.SocketStream):
                mine._socket = below.stream.socket
        return mine

    @property
    def ready(self) -> int:
        """Bytes that ``take`` can give."""
        return self._ready

    def take(self, size: int) -> bytes:
        """The next bytes, which must be ready; a whole message is not copied."""
        self._ready -= size
        start, end = self._taken, self._taken + size
        if end < len(self._plain[0]):
            self._taken = end
            return self._plain[0][start:end]
        if end == len(self._plain[0]):
            self._taken = 0
            return self._plain.popleft()[start:]
        pieces: list[bytes] = []
        while size:
            piece = self._plain[0][self._taken : self._taken + size]
            pieces.append(piece)
            size -= len(piece)
            self._taken += len(piece)
            if self._taken == len(self._plain[0]):
                self._plain.popleft()
                self._taken = 0
        return b"".join(pieces)

    async def read(self, n: int | None = None) -> bytes:
        """Exactly ``n`` bytes, or what comes first without a number; raises as the library's session."""
        if n == 0:
            return b""
        while self._ready < (n or 1):
            await self._receive()
        return self.take(self._ready if n is None else n)

    async def write(self, data: bytes) -> None:
        """Encrypt and send all; messages of concurrent writers do not mix."""
        if rest := self.write_at_once(data):
            await self.write_sealed(rest)

    def write_at_once(self, data: bytes) -> memoryview | None:
        """Encrypt, and send what the kernel takes now; the rest goes to ``write_sealed`` without a pause between."""
        sealed = memoryview(self._seal(data))
        if self._socket is None or self._connection.stream.write_lock.locked():
            return sealed
        try:
            sent = os.write(self._socket.fileno(), sealed)
        except BlockingIOError:
            return sealed
        except OSError as error:
            if error.errno in _CLOSED_HERE:
                return None  # as the library: a connection that was closed here takes all, and loses it
            raise _lost(error) from error
        return sealed[sent:] if sent < len(sealed) else None

    async def write_sealed(self, sealed: memoryview) -> None:
        """Send the rest of what was encrypted."""
        await self._connection.write(sealed)

    async def _receive(self) -> None:
        if self._broken is not None:
            raise self._broken
        received = await self._receive_into()
        if not received:
            raise IncompleteReadError(
                "the connection was closed", expected_bytes=LENGTH_BYTES, received_bytes=self._kept
            )
        total = self._kept + received
        with memoryview(self._sealed) as whole, whole[:total] as sealed:
            messages, end = _whole_messages(sealed)
            try:
                self._open(sealed, messages)
            except (NoiseInvalidMessage, NoiseMaxNonceError, ConnectionClosedError) as error:
                # What was opened before it can still be read; nothing after it can be trusted.
                self._broken = error
            self._kept = total - end
            whole[: self._kept] = sealed[end:]
        self._resize(received, is_full=total == len(self._sealed))

    async def _receive_into(self) -> int:
        """Receive behind what is kept; how many bytes, 0 at the end."""
        with memoryview(self._sealed) as whole, whole[self._kept :] as room:
            if self._socket is None:
                data = await self._connection.read(len(room))
                room[: len(data)] = data
                return len(data)
            return await self._received_from_socket(room)

    async def _received_from_socket(self, room: memoryview) -> int:
        """Waits before it looks, and not after: the last receive has mostly taken all that there was."""
        while self._socket.fileno() >= 0:
            try:
                await trio.lowlevel.wait_readable(self._socket)
                # Asked for again: once it was closed, its number may be another connection's.
                return os.readv(self._socket.fileno(), (room,))
            except BlockingIOError:
                continue
            except trio.ClosedResourceError:
                return 0  # closed here, which the library too shows as an end
            except OSError as error:
                if error.errno in _CLOSED_HERE:
                    return 0
                raise _lost(error) from error
        return 0

    def _resize(self, received: int, *, is_full: bool) -> None:
        """Make the buffer fit the traffic; it always has room for more than is kept."""
        size = len(self._sealed)
        if is_full and size < RECEIVE_BYTES_MAX:
            size *= 2
        elif received <= QUIET_BYTES and self._kept < RECEIVE_BYTES_MIN:
            size = RECEIVE_BYTES_MIN
        if size != len(self._sealed):
            resized = bytearray(size)
            resized[: self._kept] = self._sealed[: self._kept]
            self._sealed = resized

    def _open(self, sealed: memoryview, messages: list[tuple[int, int]]) -> None:
        state = self._opening
        decrypt, format_nonce = state.cipher.cipher.decrypt, state.cipher.format_nonce
        for start, end in messages:
            if end - start < TAG_BYTES:
                raise NoiseInvalidMessage("a message shorter than its tag")
            if state.n == MAX_NONCE:
                raise NoiseMaxNonceError("the nonces of this connection are used up")
            try:
                plain = decrypt(format_nonce(state.n), sealed[start:end], None)
            except InvalidTag:
                raise NoiseInvalidMessage("a message that was not encrypted by the peer") from None
            state.n += 1
            if not plain:
                raise ConnectionClosedError("Connection closed")  # an empty message ends it in the library too
            self._plain.append(plain)
            self._ready += len(plain)

    def _seal(self, data: bytes) -> bytearray:
        state = self._sealing
        total = len(data)
        count = -(-total // MAX_PLAINTEXT_LENGTH) or 1
        out = bytearray(total + count * (LENGTH_BYTES + TAG_BYTES))
        with memoryview(out) as whole, memoryview(data) as plain:
            at = 0
            for start in range(0, count * MAX_PLAINTEXT_LENGTH, MAX_PLAINTEXT_LENGTH):
                if state.n == MAX_NONCE:
                    raise NoiseMaxNonceError("the nonces of this connection are used up")
                chunk = plain[start : start + MAX_PLAINTEXT_LENGTH]
                size = len(chunk) + TAG_BYTES
                whole[at : at + LENGTH_BYTES] = size.to_bytes(LENGTH_BYTES, "big")
                at += LENGTH_BYTES
                nonce = state.cipher.format_nonce(state.n)
                state.cipher.cipher.encrypt_into(nonce, chunk, None, whole[at : at + size])
                state.n += 1
                at += size
        return out


def _lost(error: OSError) -> ConnectionClosedError:
    return ConnectionClosedError(f"TCP connection reset by remote peer: {error}", transport="tcp")


def _whole_messages(sealed: memoryview) -> tuple[list[tuple[int, int]], int]:
    """Start and end of every message that is complete, and where the first incomplete one begins."""
    messages = []
    at, total = 0, len(sealed)
    while at + LENGTH_BYTES <= total:
        start = at + LENGTH_BYTES
        end = start + (sealed[at] << 8 | sealed[at + 1])
        if end > total:
            break
        messages.append((start, end))
        at = end
    return messages, at

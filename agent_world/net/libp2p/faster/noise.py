"""Noise sessions that receive many messages at once and encrypt and decrypt in place.

The library asks the socket twice for each message (two bytes of length, then the rest), copies a message five times
and yields at every lock on the way. Here one receive takes what is there, and a message is written by the cipher
directly to where it is sent from or read from. Keys, nonces and the handshake are the library's.
"""

from __future__ import annotations

from typing import Any, Final, Self

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

RECEIVE_BYTES_MAX: Final = 64 * KIB
"""Asked of the socket at once; the interpreter takes larger blocks from the system each time."""
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
    _sealed: bytes
    """Received and not a whole message yet."""
    _plain: bytearray
    """Decrypted; of it ``_taken`` bytes are read."""
    _taken: int
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
        mine._sealed = b""
        mine._plain = bytearray()
        mine._taken = 0
        mine._broken = None
        socket = mine._connection.stream
        if isinstance(socket, TrioTCPStream):
            quiet: Any = QuietLock(), QuietLock()
            socket.read_lock, socket.write_lock = quiet
        return mine

    @property
    def ready(self) -> int:
        """Bytes that ``take`` can give."""
        return len(self._plain) - self._taken

    def take(self, size: int) -> bytes:
        """The next bytes, which must be ready."""
        start, end = self._taken, self._taken + size
        if start == 0 and end == len(self._plain):
            data = bytes(self._plain)
        else:
            with memoryview(self._plain) as whole:
                data = bytes(whole[start:end])
        if end == len(self._plain):
            self._plain, self._taken = bytearray(), 0
        else:
            self._taken = end
        return data

    async def read(self, n: int | None = None) -> bytes:
        """Exactly ``n`` bytes, or what comes first without a number; raises as the library's session."""
        if n == 0:
            return b""
        while self.ready < (n or 1):
            await self._receive()
        return self.take(self.ready if n is None else n)

    async def write(self, data: bytes) -> None:
        """Encrypt and send all; messages of concurrent writers do not mix."""
        await self._connection.write(self._seal(data))

    async def _receive(self) -> None:
        if self._broken is not None:
            raise self._broken
        data = await self._connection.read(RECEIVE_BYTES_MAX)
        if not data:
            raise IncompleteReadError(
                "the connection was closed", expected_bytes=LENGTH_BYTES, received_bytes=len(self._sealed)
            )
        sealed = self._sealed + data if self._sealed else data
        with memoryview(sealed) as whole:
            messages, end = _whole_messages(whole)
            try:
                self._open(whole, messages)
            except (NoiseInvalidMessage, NoiseMaxNonceError, ConnectionClosedError) as error:
                # What was opened before it can still be read; nothing after it can be trusted.
                self._broken = error
            self._sealed = bytes(whole[end:])

    def _open(self, sealed: memoryview, messages: list[tuple[int, int]]) -> None:
        if self._taken:
            del self._plain[: self._taken]
            self._taken = 0
        state = self._opening
        filled = len(self._plain)
        self._plain += bytes(sum(end - start for start, end in messages))
        plain = memoryview(self._plain)
        try:
            for start, end in messages:
                size = end - start - TAG_BYTES
                if size < 0:
                    raise NoiseInvalidMessage("a message shorter than its tag")
                if state.n == MAX_NONCE:
                    raise NoiseMaxNonceError("the nonces of this connection are used up")
                nonce = state.cipher.format_nonce(state.n)
                try:
                    state.cipher.cipher.decrypt_into(nonce, sealed[start:end], None, plain[filled : filled + size])
                except InvalidTag:
                    raise NoiseInvalidMessage("a message that was not encrypted by the peer") from None
                state.n += 1
                filled += size
                if not size:
                    raise ConnectionClosedError("Connection closed")  # an empty message ends it in the library too
        finally:
            plain.release()
            del self._plain[filled:]

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

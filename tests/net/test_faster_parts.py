"""Each faster part against the part of the library that it replaces."""

import itertools
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.io.exceptions import IncompleteReadError
from libp2p.network.stream.exceptions import StreamEOF, StreamReset
from libp2p.peer.id import ID
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH, NoiseTransportReadWriter
from libp2p.security.secure_session import SecureSession
from libp2p.stream_muxer.yamux.yamux import Yamux
from noise.backends.default.ciphers import ChaCha20Cipher
from noise.exceptions import NoiseInvalidMessage
from noise.state import CipherState

from agent_world.config import FASTER_PARTS, MINIMAL, NetConfig
from agent_world.errors import UsageError
from agent_world.net.libp2p.faster.noise import RECEIVE_BYTES_MAX, RECEIVE_BYTES_MIN, FasterSession
from agent_world.net.libp2p.faster.quiet_lock import QuietLock
from agent_world.net.libp2p.faster.yamux import CREDIT_BYTES_MAX, CREDIT_POLL_S, FasterYamux, FasterYamuxStream
from agent_world.net.libp2p.network import Libp2pNetwork
from agent_world.wire.ids import PeerId
from agent_world.wire.limits import KIB, MIB

PROBE = "/aw/probe/1.0.0"
CHOICES = [(), ("noise",), ("yamux",), FASTER_PARTS]
MIXED = [*itertools.product([()], CHOICES[1:]), (FASTER_PARTS, ()), (FASTER_PARTS, FASTER_PARTS)]
KEYS = create_new_key_pair(bytes(32))


class Wire:
    """A raw connection: keeps what is written, gives what is put in, in pieces."""

    def __init__(self) -> None:
        self.stream = None
        self.written = bytearray()
        self.pieces: list[bytes] = []

    async def write(self, data: bytes) -> None:
        self.written += data

    async def read(self, size: int) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > size:
            self.pieces.insert(0, piece[size:])
        return piece[:size]


def library_session(wire: Wire) -> SecureSession:
    """What a handshake gives; both directions have one key, so a session reads what another one wrote."""
    states = [CipherState(SimpleNamespace(cipher_class=lambda: ChaCha20Cipher())) for _ in range(2)]
    for state in states:
        state.cipher = ChaCha20Cipher()
        state.initialize_key(bytes(range(32)))
    protocol = SimpleNamespace(cipher_state_encrypt=states[0], cipher_state_decrypt=states[1])
    noise: Any = SimpleNamespace(
        noise_protocol=protocol,
        encrypt=lambda data: states[0].encrypt_with_ad(None, data),
        decrypt=lambda data: states[1].decrypt_with_ad(None, data),
    )
    me = ID.from_pubkey(KEYS.public_key)
    return SecureSession(
        local_peer=me, local_private_key=KEYS.private_key, remote_peer=me, remote_permanent_pubkey=KEYS.public_key,
        is_initiator=True, conn=NoiseTransportReadWriter(wire, noise),  # type: ignore[arg-type]
    )  # fmt: skip


def faster_session(wire: Wire) -> FasterSession:
    return FasterSession.in_place_of(library_session(wire))


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


AROUND_A_FRAME = (MAX_PLAINTEXT_LENGTH - 1, MAX_PLAINTEXT_LENGTH, MAX_PLAINTEXT_LENGTH + 1, 3 * MAX_PLAINTEXT_LENGTH)
SIZES = st.one_of(st.integers(1, 300), st.sampled_from(AROUND_A_FRAME))


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(SIZES, min_size=1, max_size=6), piece=st.sampled_from([7, 1_000, 65_536, 10**6]))
def test_a_session_writes_the_same_bytes_and_reads_them_in_any_pieces(sizes: list[int], piece: int) -> None:
    async def check() -> None:
        theirs, ours = Wire(), Wire()
        library, faster = library_session(theirs), faster_session(ours)
        texts = [bytes([index]) * size for index, size in enumerate(sizes)]
        for text in texts:
            await library.write(text)
            await faster.write(text)
        assert ours.written == theirs.written
        wire = Wire()
        wire.pieces = cut(bytes(theirs.written), max(piece, len(theirs.written) // 500))
        reader = faster_session(wire)
        assert [await reader.read(len(text)) for text in texts] == texts
        with pytest.raises(IncompleteReadError) as ended:
            await reader.read(1)
        assert ended.value.is_clean_close

    trio.run(check)


async def test_a_damaged_message_ends_the_session_for_good() -> None:
    wire = Wire()
    writer = faster_session(wire)
    for text in (b"before", b"damaged", b"after"):
        await writer.write(text)
    wire.written[-30] ^= 1
    wire.pieces = [bytes(wire.written)]
    reader = faster_session(wire)
    assert await reader.read(6) == b"before"
    for _ in range(2):
        with pytest.raises(NoiseInvalidMessage):
            await reader.read(1)


async def test_a_message_shorter_than_its_tag_ends_the_session() -> None:
    wire = Wire()
    wire.pieces = [b"\x00\x05short"]
    with pytest.raises(NoiseInvalidMessage):
        await faster_session(wire).read(1)


def with_parts(parts: tuple[str, ...]) -> NetConfig:
    return attrs.evolve(MINIMAL.net, faster=parts)


@pytest.mark.parametrize(("one_parts", "two_parts"), MIXED)
async def test_hosts_with_and_without_understand_each_other(
    one_parts: tuple[str, ...], two_parts: tuple[str, ...], new_key: Any, until: Any
) -> None:
    parts_sent = [bytes([number]) * 300_000 for number in range(12)]

    async def body(_peer: PeerId, _payload: bytes) -> AsyncIterator[bytes]:
        for part in parts_sent:
            yield part

    async def echo(_peer: PeerId, payload: bytes) -> bytes:
        return payload

    async with (
        Libp2pNetwork.open(with_parts(one_parts), new_key()) as one,
        Libp2pNetwork.open(with_parts(two_parts), new_key()) as two,
    ):
        one.dial(two.peer_id, two.listen_addresses()[0])
        await until(lambda: one.peers() and two.peers())
        for node in (one, two):
            node.serve("echo", echo)
            node.serve_body("body", body)
        (muxed,) = [connection.muxed_conn for connection in one.host.connections(two.peer_id)]
        assert isinstance(muxed, FasterYamux) == ("yamux" in one_parts)
        for asker, other in ((one, two), (two, one)):
            payloads = [bytes([size % 251]) * size for size in (0, 1, 100, 50_000)]
            assert [await asker.request(other.peer_id, "echo", payload) for payload in payloads] == payloads
            async with asker.open_body(other.peer_id, "body", b"", timeout_s=20) as parts:
                assert [part async for part in parts] == parts_sent


@pytest.mark.parametrize("parts", CHOICES)
async def test_streams_end_as_with_the_library(parts: tuple[str, ...], networks: Any) -> None:
    async with networks(2, config=with_parts(parts)) as (one, two):
        locks: list[type] = []

        async def send_and_end(stream: Any) -> None:
            locks.append(type(stream._state_lock))
            how = await stream.read(5)
            await stream.write(b"x" * 1_000)
            await (stream.close() if how == b"close" else stream.reset())

        two.host.on_stream(PROBE, send_and_end)
        # After a reset the library tells of an end or of a reset, and of data or none, as its tasks happen to run.
        for how, endings, least in ((b"close", {StreamEOF}, 1_000), (b"reset", {StreamEOF, StreamReset}, 0)):
            stream = await one.host.open_stream(two.peer_id, PROBE)
            assert isinstance(stream._state_lock, QuietLock) == ("yamux" in parts)
            await stream.write(how)
            got = bytearray()

            async def read_to_the_end(stream: Any = stream, got: bytearray = got) -> None:
                while True:
                    got += await stream.read(300)

            with trio.fail_after(30), pytest.raises((StreamEOF, StreamReset)) as ended:
                await read_to_the_end()
            assert ended.type in endings
            assert least <= len(got) <= 1_000
            assert not got.strip(b"x")
            await stream.reset()
        assert set(locks) == {QuietLock if "yamux" in parts else trio.Lock}


@pytest.mark.parametrize("parts", CHOICES)
async def test_a_reader_that_pauses_gets_everything(parts: tuple[str, ...], networks: Any) -> None:
    async with networks(2, config=with_parts(parts)) as (one, two):
        data, go_on = bytes(range(256)) * (3 * MIB // 256), trio.Event()
        got = bytearray()
        done = trio.Event()

        async def read(stream: Any) -> None:
            got.extend(await stream.read(100))
            await go_on.wait()
            while len(got) < len(data):
                got.extend(await stream.read(65_536))
            done.set()

        two.host.on_stream(PROBE, read)
        stream = await one.host.open_stream(two.peer_id, PROBE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, data)
            with trio.move_on_after(0.2):
                await done.wait()
            assert not done.is_set()
            go_on.set()
            with trio.fail_after(30):
                await done.wait()
        assert got == data


async def test_credit_wakes_a_writer_at_once(autojump_clock: trio.testing.MockClock) -> None:
    stream: Any = object.__new__(FasterYamuxStream)
    stream.send_window, stream.closed = 0, False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream._wait_for_credit)
        await trio.testing.wait_all_tasks_blocked()
        started = trio.current_time()
        stream.send_window = 1
        stream.wake()
    assert trio.current_time() - started < CREDIT_POLL_S


@pytest.mark.parametrize(("window", "expected"), [(256 * KIB, 64 * KIB), (MIB, 256 * KIB), (4 * MIB, CREDIT_BYTES_MAX)])
async def test_credit_waits_for_a_quarter_of_the_window(window: int, expected: int) -> None:
    stream: Any = object.__new__(FasterYamuxStream)
    stream.target_recv_window, stream._pending_recv_release = window, 0
    given: list[int] = []

    async def credit(*, bytes_read: int) -> None:
        given.append(bytes_read)

    stream._auto_tune_and_send_window_update = credit
    for _ in range(2 * expected // KIB):
        await stream._give_credit(KIB)
    assert given == [expected, expected]


async def test_the_buffer_follows_the_traffic() -> None:
    """Large while much comes, small again for the hundreds of connections on which little does."""
    wire, ours = Wire(), Wire()
    writer = faster_session(ours)
    text = bytes(range(256)) * (8 * MIB // 256)
    await writer.write(text)
    wire.pieces = [bytes(ours.written)]
    reader = faster_session(wire)
    assert await reader.read(len(text)) == text
    assert len(reader._sealed) == RECEIVE_BYTES_MAX
    for _ in range(2):
        ours.written.clear()
        await writer.write(b"little")
        wire.pieces = [bytes(ours.written)]
        assert await reader.read(6) == b"little"
        assert len(reader._sealed) == RECEIVE_BYTES_MIN


async def test_a_frame_whose_writer_is_cancelled_before_its_turn_is_not_sent() -> None:
    let_go = trio.Event()
    wire = Wire()

    async def write(data: bytes) -> None:
        await let_go.wait()
        wire.written += data

    below = SimpleNamespace(is_initiator=True, write=write)
    connection = FasterYamux.turned(Yamux(below, ID(b"x")))  # type: ignore[arg-type]
    scope = trio.CancelScope()

    async def cancelled() -> None:
        with scope:
            await connection._write_frame(b"cancelled")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection._write_frame, b"first,")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(cancelled)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(connection._write_frame, b"second,")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(connection._write_frame, b"third")
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        let_go.set()
    assert wire.written == b"first,second,third"


def test_an_unknown_part_is_an_error() -> None:
    with pytest.raises(UsageError):
        with_parts(("magic",))
